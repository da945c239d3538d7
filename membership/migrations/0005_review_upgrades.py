from django.db import migrations, models

# Upgrades whose orders have come back already are reviewed by the next close, from the last evaluation on.
_MARK = """
    INSERT INTO membership_dirtymember (member_id, ladder_id, since)
    SELECT p.member_id, p.ladder_id, coalesce(max(l.evaluated_at), min(r.refunded_at))
    FROM membership_tierperiod p
    JOIN membership_ladder l ON l.id = p.ladder_id
    JOIN membership_refund r ON r.member_id = p.member_id AND r.refunded_at >= p.valid_from
    WHERE p.cause = 'upgraded' AND p.superseded_at IS NULL AND (r.order_id IS NOT NULL
        OR EXISTS (SELECT FROM membership_refundline b WHERE b.refund_id = r.id AND b.order_line_id IS NOT NULL))
    GROUP BY p.member_id, p.ladder_id
    ON CONFLICT (member_id, ladder_id) DO NOTHING"""


class Migration(migrations.Migration):
    dependencies = [("membership", "0004_search_in_any_case")]
    operations = [
        migrations.AddField("ladder", "reviewed_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunSQL(_MARK, migrations.RunSQL.noop),
    ]
