from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parents[1] / "sql"


class Migration(migrations.Migration):
    dependencies = [("membership", "0010_fact_corrections")]
    operations = [migrations.RunSQL((SQL / "guards_0003.sql").read_text())]
