from pathlib import Path

from django.db import migrations, models
from django.db.models import F, Q

SQL = Path(__file__).parents[1] / "sql"
FILES = ["canonical_0002.sql", "post_0002.sql"]


class Migration(migrations.Migration):
    dependencies = [("points", "0002_posting")]
    operations = [
        migrations.RemoveConstraint("accrualreturn", "accrualreturn_points"),
        migrations.AddField("accrualreturn", "points_owed", models.BigIntegerField(null=True)),
        migrations.AddConstraint(
            "accrualreturn",
            models.CheckConstraint(
                name="accrualreturn_points",
                condition=Q(points_taken__gte=0)
                & (
                    Q(points_owed__isnull=True, points_taken__lte=F("points_due"))
                    | Q(points_owed__isnull=False, points_taken__lte=F("points_owed"))
                ),
            ),
        ),
        *[migrations.RunSQL((SQL / name).read_text()) for name in FILES],
    ]
