from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0002_guards")]

    operations = [
        migrations.RemoveIndex(model_name="webhookdelivery", name="webhookdelivery_due"),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("next_attempt_at", None), _negated=True),
                fields=["endpoint", "next_attempt_at"],
                name="webhookdelivery_due",
            ),
        ),
    ]
