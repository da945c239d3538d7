from django.db import migrations, models

REASONS = [
    (1, "Earned"),
    (2, "Below one point"),
    (3, "Below minimum"),
    (4, "Granted"),
    (5, "Not covered by the rule"),
    (6, "Paid that day already"),
    (7, "Nothing paid"),
]


class Migration(migrations.Migration):
    dependencies = [("points", "0005_paid_activities")]
    operations = [
        migrations.AlterField(model, "reason", models.SmallIntegerField(choices=REASONS))
        for model in ("accrual", "accrualcorrection")
    ]
