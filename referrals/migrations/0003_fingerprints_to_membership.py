from django.db import migrations

_RENAME = """
    ALTER TABLE {old}_fingerprint RENAME TO {new}_fingerprint;
    ALTER SEQUENCE {old}_fingerprint_id_seq RENAME TO {new}_fingerprint_id_seq;
    ALTER INDEX {old}_fingerprint_pkey RENAME TO {new}_fingerprint_pkey"""


class Migration(migrations.Migration):
    """Hand over the table of fingerprints to membership, with all rows."""

    dependencies = [("referrals", "0002_guards"), ("membership", "0003_fingerprints")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    _RENAME.format(old="referrals", new="membership"),
                    _RENAME.format(old="membership", new="referrals"),
                )
            ],
            state_operations=[migrations.DeleteModel(name="Fingerprint")],
        )
    ]
