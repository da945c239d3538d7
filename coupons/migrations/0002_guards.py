from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parents[1] / "sql"
FILES = ["guards_0001.sql", "claim_0001.sql"]


class Migration(migrations.Migration):
    dependencies = [("coupons", "0001_initial"), ("core", "0002_guards")]
    operations = [migrations.RunSQL((SQL / name).read_text()) for name in FILES]
