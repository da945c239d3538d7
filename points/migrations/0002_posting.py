from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parents[1] / "sql"
FILES = [
    "canonical_0001.sql",
    "post_0001.sql",
    "bulk_0001.sql",
    "verify_0001.sql",
    "standings_0001.sql",
    "guards_0001.sql",
]


class Migration(migrations.Migration):
    dependencies = [("points", "0001_initial"), ("core", "0002_guards")]
    operations = [migrations.RunSQL((SQL / name).read_text()) for name in FILES]
