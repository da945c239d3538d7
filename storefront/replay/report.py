"""What a replay found: the numbers as JSON, and as tables for a terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics.selectors import get_report
from core.calendar import day_start, local_date
from core.models import Program
from points.models import Wallet
from points.selectors import get_totals
from points.services.verify import verify


def default_as_of(last_event: datetime | None, zone: str) -> list[tuple[str, datetime]]:
    """Return 00:00 of the local day after the last event, named in UTC."""
    if last_event is None:
        return []
    instant = day_start(local_date(last_event, zone) + timedelta(days=1), zone).astimezone(UTC)
    return [(instant.isoformat().replace("+00:00", "Z"), instant)]


def build(program: Program, as_of: Sequence[tuple[str, datetime]]) -> dict[str, Any]:
    """Return the report in the shape of the replay's contract, points of the program's first wallet."""
    wallet = Wallet.objects.filter(program=program).order_by("pk").first()
    findings = list(verify(program=program))
    chain_breaks = sum(finding.breaks_chain for finding in findings)
    report = get_report(program_id=program.pk)
    report["points"] = {name: _points(wallet, instant) for name, instant in as_of} if wallet else {}
    report["verify"] = {"mismatches": len(findings) - chain_breaks, "chain_breaks": chain_breaks}
    return report


def _points(wallet: Wallet, instant: datetime) -> dict[str, int]:
    totals = get_totals(wallet=wallet, before=instant)
    return {
        "earned": totals.earned,
        "clawed_back": totals.clawed_back,
        "expired": totals.expired,
        "outstanding": totals.outstanding,
    }


def iter_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the report as text."""
    yield f"{report['members']:,} members, {report['orders']:,} orders, {report['guest_orders']:,} guest orders"
    yield ""
    yield from _table("Points as of", ["earned", "clawed_back", "expired", "outstanding"], report["points"])
    tiers = list(next(iter(report["tiers"].values()), {}))
    yield from _table(
        "Members by tier at month start (% who ordered in the month)",
        tiers,
        {month: {tier: _share(cell) for tier, cell in cells.items()} for month, cells in report["tiers"].items()},
    )
    yield from _table("Tier moves", ["new", "up", "down", "same"], report["tier_moves"])
    checks = report["verify"]
    yield f"Ledger verified: {checks['mismatches']} mismatches, {checks['chain_breaks']} chain breaks."


def _share(cell: dict[str, int]) -> str:
    share = f" ({100 * cell['retained'] // cell['n']} %)" if cell["n"] else ""
    return f"{cell['n']:,}{share}"


def _table(title: str, columns: Sequence[str], rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    first = max(len(title.split(" (", maxsplit=1)[0]), *(len(key) for key in rows)) if rows else len(title)
    if "(" in title:
        yield title
        title, first = "", max((len(key) for key in rows), default=0)
    cells = {key: [_cell(row[column]) for column in columns] for key, row in rows.items()}
    widths = [max(len(c), *(len(row[n]) for row in cells.values())) if cells else len(c) for n, c in enumerate(columns)]
    yield "  ".join([title.ljust(first), *(c.rjust(w) for c, w in zip(columns, widths, strict=True))])
    for key, row in cells.items():
        yield "  ".join([key.ljust(first), *(c.rjust(w) for c, w in zip(row, widths, strict=True))])
    yield ""


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}"
