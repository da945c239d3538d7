"""What a figure of retention says, in a sentence of the reader's language."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext, ngettext

from analytics.retention import Cycle, Figure, Row
from analytics.rules import FOLLOW_UP_DAYS, REPURCHASE_DAYS, State

Names = Mapping[str, str]


def show_percent(figure: Figure) -> str:
    """Return the rate as a percentage with one decimal, halves up: 70.0. Rounded once, from the counts."""
    if not figure.n or figure.retained is None:
        return ""
    return number_format((2_000 * figure.retained + figure.n) // (2 * figure.n) / 10, 1)


def show_month(month: date) -> str:
    """Return a month by name."""
    return date_format(month, "YEAR_MONTH_FORMAT")


def show_share(figure: Figure) -> str:
    """Return the rate and its interval: 70.0 % (61.3 to 77.5)."""
    interval = figure.interval
    if interval is None:
        return ""
    bounds = {"low": _one_decimal(100 * interval.low), "high": _one_decimal(100 * interval.high)}
    told = {"rate": show_percent(figure), **bounds}
    return gettext("%(rate)s %% (%(low)s to %(high)s)") % told


def show_counts(figure: Figure) -> str:
    """Return what a cell counts: 84 of 120, or why it says nothing."""
    if figure.n is None or figure.retained is None:
        return gettext("not over yet")
    if not figure.n:
        return gettext("nobody")
    told = {"retained": number_format(figure.retained), "n": number_format(figure.n), "share": show_share(figure)}
    return gettext("%(retained)s of %(n)s: %(share)s") % told


def say_active_rate(rows: Sequence[Row], names: Names) -> str:
    """Say the rate of the highest tier with members in the last month that is over."""
    row = next((row for row in reversed(rows) if row.figure.n), None)
    if row is None:
        return _nothing(rows)
    month = row.key["month"]
    told = {
        "tier": names.get(row.key["tier"], row.key["tier"]),
        "day": date_format(month, "DATE_FORMAT"),
        "month": show_month(month),
    }
    text = gettext("Of %(n)s %(tier)s members on %(day)s, %(retained)s bought in %(month)s: %(share)s.")
    return _say(text, row.figure, told)


def say_cohort(rows: Sequence[Row]) -> str:
    """Say what the youngest cohort did in its first month that is over."""
    over = [row for row in rows if row.figure.n and row.key["months_later"] > 0]
    row = max(over, key=lambda row: (row.key["entry_month"], -row.key["months_later"]), default=None)
    if row is None:
        return _nothing(rows)
    later = row.key["months_later"]
    told = {"month": show_month(row.key["entry_month"]), "later": later}
    text = ngettext(
        "Of %(n)s members who first bought in %(month)s, %(retained)s bought %(later)s month later: %(share)s.",
        "Of %(n)s members who first bought in %(month)s, %(retained)s bought %(later)s months later: %(share)s.",
        later,
    )
    return _say(text, row.figure, told)


def say_bracket(rows: Sequence[Row]) -> str:
    """Say who came back in the first thirty days."""
    wanted = {"entry_month": None, "measure": "bracket", "day": 30}
    row = next((row for row in rows if row.key == wanted and row.figure.n), None)
    if row is None:
        return _nothing(rows)
    text = gettext("Of %(n)s members, %(retained)s bought again on days 1 to 30 after their first order: %(share)s.")
    return _say(text, row.figure, {})


def say_survival(rows: Sequence[Row]) -> str:
    """Say who still bought after thirty days."""
    row = next((row for row in rows if row.key["day"] == 30 and row.figure.n), None)
    if row is None:
        return _nothing(rows)
    text = gettext(
        "Of %(n)s members, %(retained)s bought on day 30 or later after their first order, watched for %(days)s days: "
        "%(share)s."
    )
    return _say(text, row.figure, {"days": FOLLOW_UP_DAYS})


def say_migration(rows: Sequence[Row], names: Names) -> str:
    """Say who of the largest tier kept it at the last month start."""
    stayed = [row for row in rows if row.key["from_tier"] and row.key["from_tier"] == row.key["to_tier"]]
    row = max((row for row in stayed if row.figure.n), key=lambda row: row.figure.n or 0, default=None)
    if row is None:
        return gettext("Nobody has held a tier over a month's start yet.")
    told = {
        "tier": names.get(row.key["from_tier"], row.key["from_tier"]),
        "day": date_format(row.key["month"], "DATE_FORMAT"),
    }
    text = gettext("Of %(n)s members who held %(tier)s a month before, %(retained)s held it on %(day)s: %(share)s.")
    return _say(text, row.figure, told)


def say_repurchase(rows: Sequence[Row], cycle: Cycle) -> str:
    """Say who ordered again, and how long it takes on average."""
    figure = rows[0].figure
    text = gettext(
        "Of %(n)s members, %(retained)s ordered again within %(days)s days, the first one included: %(share)s."
    )
    said = [_say(text, figure, {"days": REPURCHASE_DAYS}) if figure.n else _nothing(rows)]
    if cycle.mean_days_between_orders is not None:
        told = {
            "days": _one_decimal(cycle.mean_days_between_orders),
            "repeated": number_format(cycle.members_2plus_orders),
            "members": number_format(cycle.members),
        }
        said.append(
            gettext(
                "So far %(repeated)s of %(members)s members have ordered twice or more, %(days)s days apart on average."
            )
            % told
        )
    return " ".join(said)


def _say(text: str, figure: Figure, told: Mapping[str, Any]) -> str:
    counts = {"n": number_format(figure.n or 0), "retained": number_format(figure.retained or 0)}
    numbers = {**counts, "share": show_share(figure)}
    said = text % {**numbers, **told}
    if figure.state == State.PROVISIONAL:
        return said + " " + gettext("Provisional: late facts may still come.")
    return said


def _one_decimal(value: float) -> str:
    """Return a number with one decimal; `number_format` by itself cuts the rest off."""
    return number_format(round(value, 1), 1)


def _nothing(rows: Sequence[Row]) -> str:
    """Say why there is nothing to say: nobody is there at all, or nothing is over yet."""
    if any(row.figure.n is None for row in rows):
        return gettext("None of these months is over yet.")
    return gettext("Nobody matches.")
