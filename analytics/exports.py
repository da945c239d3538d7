"""Retention in columns: the same rows in JSON and in CSV."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from analytics.models import Restatement
from analytics.retention import REPORTS, Row

FIGURE = ("n", "retained", "rate_bps", "low_bps", "high_bps", "state")
_NAMED = ("market", "country", "channel", "device")
_NUMBERS = ("n_before", "retained_before", "n_after", "retained_after", "cause", "definition_version", "recorded_at")
RESTATEMENT = ("report", "period", "step", "tier", "to_tier", *_NAMED, *_NUMBERS)
# A spreadsheet would take a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@")


def show_row(row: Row) -> dict[str, Any]:
    """Return a report's row: months as texts, then the figure."""
    key = {name: f"{value:%Y-%m}" if value and name.endswith("month") else value for name, value in row.key.items()}
    figure, interval = row.figure, row.figure.interval
    bounds = (interval.low_bps, interval.high_bps) if interval else (None, None)
    values = (figure.n, figure.retained, figure.rate_bps, *bounds, figure.state)
    return key | dict(zip(FIGURE, values, strict=True))


def show_restatement(one: Restatement) -> dict[str, Any]:
    """Return a restatement's row."""
    return {
        "report": one.report,
        "period": f"{one.period:%Y-%m}",
        "step": one.step,
        "tier": one.tier.code if one.tier else None,
        "to_tier": one.to_tier.code if one.to_tier else None,
        **{name: getattr(one.segment, name) if one.segment else None for name in _NAMED},
        **{name: getattr(one, name) for name in _NUMBERS},
    }


def report_csv(report: str, rows: Iterable[Row]) -> StreamingHttpResponse:
    """Return a report as a file."""
    return _file(report, (*REPORTS[report].keys, *FIGURE), map(show_row, rows))


def restatements_csv(found: QuerySet[Restatement]) -> StreamingHttpResponse:
    """Return restatements as a file that is written while it is sent."""
    return _file("restatements", RESTATEMENT, map(show_restatement, found.iterator(chunk_size=1_000)))


def _file(name: str, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_lines(columns, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="retention-{name}.csv"'
    return response


class _Echo:
    """A file that hands each line back."""

    def write(self, line: str) -> str:
        return line


def _lines(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_cell(row[name]) for name in columns])


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
