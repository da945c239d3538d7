from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("membership", "0004_drafts")]

    operations = [
        migrations.AddField(
            model_name="ladderversion",
            name="ended_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name="ladderversion",
            constraint=models.CheckConstraint(
                name="ladderversion_ended",
                condition=models.Q(
                    ("ended_at", None),
                    models.Q(
                        ("status", "retired"),
                        models.Q(("effective_at", None), ("ended_at__gt", models.F("effective_at")), _connector="OR"),
                    ),
                    _connector="OR",
                ),
            ),
        ),
    ]
