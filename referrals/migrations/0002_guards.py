from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parents[1] / "sql"


class Migration(migrations.Migration):
    dependencies = [("referrals", "0001_initial"), ("core", "0002_guards")]
    operations = [migrations.RunSQL((SQL / "guards_0001.sql").read_text())]
