"""K: how many new customers a member brings. Invites per member x conversion, by month, where the month is ripe.

An invite is a visitor's first click on a member's link, or a code that was entered without a click. It belongs to the
local month in which it was made, and has `horizon_days` to become a qualified friend: the same time for all. A month
whose last invite has not had that time is immature and shows no value. Gross counts every friend who qualified, net
those who still do.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

from django.db import connection

from core.calendar import add_months, day_start, local_date
from core.models import Program
from referrals.definitions import ReferralTerms

MONTHS = 12
# How long a friend who has joined may take to order, as far as K is concerned.
ORDER_DAYS = 30

_COHORT = """
    WITH clicked AS (
        SELECT member_id, visitor_digest FROM referrals_touch
        WHERE program_id = %(program)s AND touched_at < %(until)s
        GROUP BY member_id, visitor_digest HAVING min(touched_at) >= %(since)s),
    attributed AS (
        SELECT source, state, qualified_at, coalesce((
            SELECT min(visit.touched_at) FROM referrals_touch last
            JOIN referrals_touch visit ON visit.program_id = last.program_id
                AND visit.visitor_digest = last.visitor_digest AND visit.member_id = last.member_id
            WHERE last.program_id = r.program_id AND last.touched_at = r.touched_at AND last.code_id = r.code_id
        ), touched_at, bound_at) AS invited_at
        FROM referrals_referral r
        WHERE program_id = %(program)s AND bound_at >= %(since)s AND bound_at < %(until)s + %(horizon)s),
    bound AS (SELECT * FROM attributed WHERE invited_at >= %(since)s AND invited_at < %(until)s)
    SELECT
        (SELECT count(*) FROM membership_member WHERE program_id = %(program)s AND joined_at < %(until)s),
        (SELECT count(*) FROM clicked) + (SELECT count(*) FROM bound WHERE source = 'code'),
        (SELECT count(*) FROM bound WHERE qualified_at < invited_at + %(horizon)s),
        (SELECT count(*) FROM bound WHERE qualified_at < invited_at + %(horizon)s AND state = 'qualified')"""


@dataclass(frozen=True, slots=True)
class Cohort:
    """A month's invites and what became of them within the horizon; `members` at the month's end."""

    month: date
    is_mature: bool
    members: int
    invites: int
    qualified: int
    kept: int

    @property
    def invites_per_member(self) -> Fraction | None:
        """Return the first factor; None without members."""
        return Fraction(self.invites, self.members) if self.members else None

    @property
    def conversion(self) -> Fraction | None:
        """Return the second factor; None while it is open, or without invites."""
        return Fraction(self.qualified, self.invites) if self.is_mature and self.invites else None

    @property
    def k_gross(self) -> Fraction | None:
        """Return the product; None while it is open."""
        return Fraction(self.qualified, self.members) if self.is_mature and self.members else None

    @property
    def k_net(self) -> Fraction | None:
        """Return the product without friends whose order came back; None while it is open."""
        return Fraction(self.kept, self.members) if self.is_mature and self.members else None


def horizon_days(terms: ReferralTerms) -> int:
    """Return how long an invite may take: to be followed, to lead to an order, and for the order to be settled."""
    return terms.attribution_days + ORDER_DAYS + terms.return_days


def list_cohorts(*, program: Program, terms: ReferralTerms, at: datetime, months: int = MONTHS) -> list[Cohort]:
    """Return the last months, the current one included, newest first."""
    current = local_date(at, program.time_zone).replace(day=1)
    return [_cohort(program, terms, add_months(current, -back), at) for back in range(months)]


def _cohort(program: Program, terms: ReferralTerms, month: date, at: datetime) -> Cohort:
    horizon = timedelta(days=horizon_days(terms))
    until = day_start(add_months(month, 1), program.time_zone)
    told: dict[str, Any] = {
        "program": program.pk, "since": day_start(month, program.time_zone), "until": until, "horizon": horizon,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_COHORT, told)
        return Cohort(month, until + horizon <= at, *cursor.fetchone())
