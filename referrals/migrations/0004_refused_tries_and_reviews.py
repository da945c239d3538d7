from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).parents[1] / "sql"


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0002_guards"),
        ("membership", "0003_fingerprints"),
        ("referrals", "0003_fingerprints_to_membership"),
    ]

    operations = [
        migrations.CreateModel(
            name="RefusedBinding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("referrer_id", models.BigIntegerField()),
                ("refused_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.AlterModelOptions(
            name="referral",
            options={
                "ordering": ["-id"],
                "permissions": [("review_referral", "Can approve, reject and reopen referrals")],
            },
        ),
        migrations.RemoveConstraint(
            model_name="referralreward",
            name="referralreward_once",
        ),
        migrations.RemoveIndex(
            model_name="referral",
            name="referral_flagged",
        ),
        migrations.AddField(
            model_name="referral",
            name="cleared_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="referral",
            name="reopened_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="referral",
            name="scored_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="referral",
            name="suspected_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="referralreward",
            name="round",
            field=models.SmallIntegerField(default=1),
        ),
        migrations.AddIndex(
            model_name="referral",
            index=models.Index(
                condition=models.Q(("state", "qualified")), fields=["program", "scored_at"], name="referral_scored"
            ),
        ),
        migrations.AddIndex(
            model_name="referral",
            index=models.Index(
                condition=models.Q(("state", "flagged"), ("suspected_at__isnull", False), _connector="OR"),
                fields=["program", "id"],
                name="referral_review",
            ),
        ),
        migrations.AddIndex(
            model_name="referralreward",
            index=models.Index(
                condition=models.Q(("state", "approved")), fields=["program", "moved_at"], name="referralreward_waiting"
            ),
        ),
        migrations.AddConstraint(
            model_name="referralreward",
            constraint=models.UniqueConstraint(
                fields=("program", "referral", "event", "member", "level", "round"), name="referralreward_once"
            ),
        ),
        migrations.AddField(
            model_name="refusedbinding",
            name="member",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="membership.member"
            ),
        ),
        migrations.AddField(
            model_name="refusedbinding",
            name="program",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="core.program"
            ),
        ),
        migrations.AddConstraint(
            model_name="refusedbinding",
            constraint=models.UniqueConstraint(fields=("member", "referrer_id"), name="refusedbinding_once"),
        ),
        migrations.RunSQL((SQL / "guards_0002.sql").read_text()),
    ]
