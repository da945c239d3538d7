from django.db import migrations

# Failed payments and complaints had been counted as activities of their days.
_COUNT = """
    UPDATE membership_memberday d SET activities = d.activities {sign} f.number
    FROM (SELECT member_id, local_date, count(*) AS number FROM membership_activity
          WHERE kind IN ('payment_failure', 'service_issue') GROUP BY 1, 2) f
    WHERE f.member_id = d.member_id AND f.local_date = d.day"""


class Migration(migrations.Migration):
    dependencies = [("membership", "0008_one_answer_for_refunds")]
    operations = [migrations.RunSQL(_COUNT.format(sign="-"), _COUNT.format(sign="+"))]
