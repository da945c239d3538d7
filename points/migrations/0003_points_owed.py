from pathlib import Path

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.lookups
from django.db import migrations, models

SQL = Path(__file__).parents[1] / "sql"
FILES = ["canonical_0002.sql", "post_0002.sql", "verify_0002.sql", "guards_0002.sql"]


class Migration(migrations.Migration):
    dependencies = [
        ("points", "0002_posting"),
    ]

    operations = [
        migrations.CreateModel(
            name="AccrualCorrection",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("lot_id", models.BigIntegerField(null=True)),
                (
                    "fact_kind",
                    models.SmallIntegerField(
                        choices=[
                            (0, "None"),
                            (1, "Order"),
                            (2, "Order line"),
                            (3, "Refund"),
                            (4, "Refund line"),
                            (5, "Activity"),
                            (6, "Lot"),
                            (7, "Transaction"),
                            (8, "Order edit"),
                            (9, "Referral reward"),
                            (10, "Qualifying credit"),
                        ]
                    ),
                ),
                ("fact_id", models.BigIntegerField(null=True)),
                ("evaluation_id", models.BigIntegerField(null=True)),
                ("basis", models.BigIntegerField()),
                ("multiplier_bps", models.IntegerField()),
                ("points", models.BigIntegerField()),
                (
                    "reason",
                    models.SmallIntegerField(
                        choices=[
                            (1, "Earned"),
                            (2, "Below one point"),
                            (3, "Below minimum"),
                            (4, "Granted"),
                            (5, "Not covered by the rule"),
                            (6, "Paid that day already"),
                        ]
                    ),
                ),
                ("returned", models.BigIntegerField()),
                ("whole", models.BigIntegerField()),
                ("points_added", models.BigIntegerField()),
                ("points_due", models.BigIntegerField()),
                ("points_owed", models.BigIntegerField()),
                ("points_taken", models.BigIntegerField()),
            ],
            options={
                "ordering": ["id"],
                "abstract": False,
            },
        ),
        migrations.RemoveConstraint(
            model_name="accrualreturn",
            name="accrualreturn_points",
        ),
        migrations.AddField(
            model_name="accrualreturn",
            name="points_owed",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="accrual",
            name="reason",
            field=models.SmallIntegerField(
                choices=[
                    (1, "Earned"),
                    (2, "Below one point"),
                    (3, "Below minimum"),
                    (4, "Granted"),
                    (5, "Not covered by the rule"),
                ]
            ),
        ),
        migrations.AlterField(
            model_name="accrual",
            name="source_kind",
            field=models.SmallIntegerField(
                choices=[
                    (0, "None"),
                    (1, "Order"),
                    (2, "Order line"),
                    (3, "Refund"),
                    (4, "Refund line"),
                    (5, "Activity"),
                    (6, "Lot"),
                    (7, "Transaction"),
                    (8, "Order edit"),
                    (9, "Referral reward"),
                    (10, "Qualifying credit"),
                ]
            ),
        ),
        migrations.AlterField(
            model_name="accrualreturn",
            name="source_kind",
            field=models.SmallIntegerField(
                choices=[
                    (0, "None"),
                    (1, "Order"),
                    (2, "Order line"),
                    (3, "Refund"),
                    (4, "Refund line"),
                    (5, "Activity"),
                    (6, "Lot"),
                    (7, "Transaction"),
                    (8, "Order edit"),
                    (9, "Referral reward"),
                    (10, "Qualifying credit"),
                ]
            ),
        ),
        migrations.AlterField(
            model_name="ledgertransaction",
            name="source_kind",
            field=models.SmallIntegerField(
                choices=[
                    (0, "None"),
                    (1, "Order"),
                    (2, "Order line"),
                    (3, "Refund"),
                    (4, "Refund line"),
                    (5, "Activity"),
                    (6, "Lot"),
                    (7, "Transaction"),
                    (8, "Order edit"),
                    (9, "Referral reward"),
                    (10, "Qualifying credit"),
                ]
            ),
        ),
        migrations.AddConstraint(
            model_name="accrualreturn",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("points_taken__gte", 0),
                    models.Q(
                        models.Q(("points_owed__isnull", True), ("points_taken__lte", models.F("points_due"))),
                        models.Q(("points_owed__isnull", False), ("points_taken__lte", models.F("points_owed"))),
                        _connector="OR",
                    ),
                ),
                name="accrualreturn_points",
            ),
        ),
        migrations.AddField(
            model_name="accrualcorrection",
            name="accrual",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="corrections",
                to="points.accrual",
            ),
        ),
        migrations.AddField(
            model_name="accrualcorrection",
            name="member",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="membership.member",
            ),
        ),
        migrations.AddField(
            model_name="accrualcorrection",
            name="transaction",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="corrections",
                to="points.ledgertransaction",
            ),
        ),
        migrations.AddConstraint(
            model_name="accrualcorrection",
            constraint=models.CheckConstraint(
                condition=models.Q(("returned__gte", 0), ("returned__lte", models.F("whole")), ("whole__gt", 0)),
                name="accrualcorrection_share",
            ),
        ),
        migrations.AddConstraint(
            model_name="accrualcorrection",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("points__gte", 0),
                    ("points_added__gte", 0),
                    ("points_due__gte", 0),
                    ("points_taken__gte", 0),
                    ("points_taken__lte", models.F("points_owed")),
                    models.Q(("points_added", 0), ("points_due", 0), _connector="OR"),
                ),
                name="accrualcorrection_points",
            ),
        ),
        migrations.AddConstraint(
            model_name="accrualcorrection",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("lot_id__isnull", True), ("points_added", 0)),
                    models.Q(("lot_id__isnull", False), ("points_added__gt", 0)),
                    _connector="OR",
                ),
                name="accrualcorrection_lot",
            ),
        ),
        migrations.AddConstraint(
            model_name="accrualcorrection",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("id__gt", models.F("transaction")),
                    django.db.models.lookups.Exact(
                        django.db.models.expressions.CombinedExpression(models.F("id"), ">>", models.Value(24)),
                        django.db.models.expressions.CombinedExpression(
                            models.F("transaction"), ">>", models.Value(24)
                        ),
                    ),
                    ("id__gt", models.F("accrual")),
                    django.db.models.lookups.Exact(
                        django.db.models.expressions.CombinedExpression(models.F("id"), ">>", models.Value(24)),
                        django.db.models.expressions.CombinedExpression(models.F("accrual"), ">>", models.Value(24)),
                    ),
                ),
                name="accrualcorrection_follows",
            ),
        ),
        *[migrations.RunSQL((SQL / name).read_text()) for name in FILES],
    ]
