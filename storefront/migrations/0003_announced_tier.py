from django.db import migrations, models
from django.db.models.deletion import PROTECT


class Migration(migrations.Migration):
    dependencies = [("membership", "0001_initial"), ("storefront", "0002_permissions")]

    operations = [
        migrations.CreateModel(
            name="AnnouncedTier",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ladder", models.ForeignKey(on_delete=PROTECT, related_name="+", to="membership.ladder")),
                (
                    "member",
                    models.ForeignKey(db_index=False, on_delete=PROTECT, related_name="+", to="membership.member"),
                ),
                ("tier", models.ForeignKey(on_delete=PROTECT, related_name="+", to="membership.tier")),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=("member", "ladder"), name="announcedtier_once")],
            },
        ),
    ]
