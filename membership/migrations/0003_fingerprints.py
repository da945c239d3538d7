import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Take over fingerprints from referrals, which hands over its table with all rows: referrals' migration 0003.

    Until that has run the table has its old name; a later migration here that changes it depends on that one.
    """

    dependencies = [("membership", "0002_guards"), ("core", "0002_guards")]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="Fingerprint",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        (
                            "kind",
                            models.CharField(
                                choices=[
                                    ("email", "E-mail"),
                                    ("payment", "Means of payment"),
                                    ("device", "Device"),
                                    ("address", "Address"),
                                    ("ip_agent", "IP address and browser"),
                                ],
                                max_length=8,
                            ),
                        ),
                        ("digest", models.BinaryField(max_length=32)),
                        ("seen_at", models.DateTimeField()),
                        (
                            "member",
                            models.ForeignKey(
                                db_index=False,
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="+",
                                to="membership.member",
                            ),
                        ),
                        (
                            "program",
                            models.ForeignKey(
                                db_index=False,
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="+",
                                to="core.program",
                            ),
                        ),
                    ],
                    options={
                        "ordering": ["id"],
                        "indexes": [models.Index(fields=["digest", "member"], name="fingerprint_digest")],
                        "constraints": [
                            models.UniqueConstraint(fields=("member", "kind", "digest"), name="fingerprint_once")
                        ],
                    },
                )
            ]
        )
    ]
