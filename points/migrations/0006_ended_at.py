from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("points", "0005_drafts")]

    operations = [
        migrations.AddField(
            model_name="earnruleversion",
            name="ended_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name="earnruleversion",
            constraint=models.CheckConstraint(
                name="earnruleversion_ended",
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
        migrations.AddField(
            model_name="walletversion",
            name="ended_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name="walletversion",
            constraint=models.CheckConstraint(
                name="walletversion_ended",
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
