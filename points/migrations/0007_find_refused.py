from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parents[1] / "sql"
DROP = "DROP FUNCTION points_find_refused(bigint, jsonb, timestamptz)"


class Migration(migrations.Migration):
    dependencies = [("points", "0006_nothing_paid")]
    operations = [migrations.RunSQL((SQL / "refusals_0001.sql").read_text(), DROP)]
