from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).parents[1] / "sql"


class Migration(migrations.Migration):
    dependencies = [("membership", "0009_no_engagement"), ("core", "0006_referral_reviews")]
    operations = [
        migrations.AddField("activity", "voided_at", models.DateTimeField(null=True)),
        migrations.CreateModel(
            name="FactCorrection",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "fact_kind",
                    models.SmallIntegerField(
                        choices=[
                            (0, "None"),
                            (1, "Order"),
                            (3, "Refund"),
                            (5, "Activity"),
                            (8, "Order edit"),
                            (10, "Qualifying credit"),
                        ]
                    ),
                ),
                ("fact_id", models.BigIntegerField()),
                ("number", models.PositiveSmallIntegerField()),
                ("external_id", models.CharField(max_length=200)),
                ("reason", models.CharField(max_length=500)),
                ("decided_by", models.CharField(max_length=200)),
                ("before", models.JSONField()),
                ("after", models.JSONField()),
                ("content_digest", models.BinaryField(max_length=16)),
                ("recorded_at", models.DateTimeField()),
                (
                    "member",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="membership.member",
                    ),
                ),
                (
                    "program",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="core.program"
                    ),
                ),
            ],
            options={
                "ordering": ["fact_kind", "fact_id", "number"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("fact_id", "fact_kind", "number", "member"),
                        name="factcorrection_number",
                        nulls_distinct=False,
                    ),
                    models.UniqueConstraint(
                        fields=("fact_id", "fact_kind", "external_id", "member"),
                        name="factcorrection_external_id",
                        nulls_distinct=False,
                    ),
                ],
            },
        ),
        migrations.RunSQL((SQL / "guards_0002.sql").read_text()),
    ]
