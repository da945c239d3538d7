from django.db import migrations, models

# What was recorded counts as it did: the next refund of an order works it out anew.
COUNT = """
    UPDATE membership_refund SET counted_minor = program_amount_minor WHERE program_amount_minor <> 0;
    UPDATE membership_refundline SET counted_minor = program_amount_minor WHERE program_amount_minor <> 0"""


class Migration(migrations.Migration):
    dependencies = [("membership", "0007_past_changes")]
    operations = [
        migrations.RemoveField("orderline", "returned_minor"),
        migrations.RemoveField("refundline", "returned_units"),
        migrations.RemoveField("refundline", "returned_minor"),
        migrations.AddField("refund", "counted_minor", models.BigIntegerField(default=0), preserve_default=False),
        migrations.AddField("refundline", "counted_minor", models.BigIntegerField(default=0), preserve_default=False),
        migrations.AddField("refund", "goodwill_minor", models.BigIntegerField(default=0)),
        migrations.AddConstraint(
            "refund", models.CheckConstraint(name="refund_goodwill", condition=models.Q(goodwill_minor__gte=0))
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
