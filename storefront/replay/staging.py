"""Stage a data set in temporary tables and check it whole before anything is loaded."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from django.db import connection

from core.calendar import CLOCK_TOLERANCE
from storefront.replay.files import FILES, Problem, UnreadableFile, file_name, iter_rows, open_text

# Rows per COPY: bounds the memory of the reader.
COPY_ROWS = 20_000

Progress = Callable[[str, int, int], None]

# A refund may be dated so much before what it brings back: clocks differ.
_TOLERANCE = f"interval '{int(CLOCK_TOLERANCE.total_seconds())} seconds'"

# What one row cannot know of the others: (file, column, rows that are wrong with the reason). Checked in this order, so
# that with --skip-bad a row whose owner was left out is left out too.
_LINE_OF_NO_ORDER = (
    "order_lines",
    "order_id",
    """SELECT line, 'there is no order ' || order_id FROM replay_order_lines l
    WHERE NOT EXISTS (SELECT FROM replay_orders o WHERE o.order_id = l.order_id)""",
)
_LINE_OF_NO_REFUND = (
    "refund_lines",
    "refund_id",
    """SELECT line, 'there is no refund ' || refund_id FROM replay_refund_lines l
    WHERE NOT EXISTS (SELECT FROM replay_refunds r WHERE r.refund_id = l.refund_id)""",
)
_CHECKS: tuple[tuple[str, str, str], ...] = (
    (
        "orders",
        "order_id",
        """SELECT line, 'order ' || order_id || ' stands on line ' || first || ' already' FROM (
            SELECT line, order_id, min(line) OVER (PARTITION BY order_id) AS first FROM replay_orders) x
        WHERE line > first""",
    ),
    (
        "orders",
        "currency",
        """SELECT line, 'is ' || currency || ', the program''s currency is ' || %(currency)s
        FROM replay_orders WHERE currency <> %(currency)s""",
    ),
    _LINE_OF_NO_ORDER,
    (
        "order_lines",
        "line_id",
        """SELECT line, 'line ' || line_id || ' stands on line ' || first || ' already' FROM (
            SELECT line, line_id, min(line) OVER (PARTITION BY line_id) AS first FROM replay_order_lines) x
        WHERE line > first""",
    ),
    (
        "orders",
        "amount",
        """SELECT o.line, 'is ' || o.amount || ', the lines of order ' || order_id || ' cost ' || l.amount
        FROM replay_orders o
        JOIN (SELECT order_id, sum(amount) AS amount FROM replay_order_lines GROUP BY order_id) l USING (order_id)
        WHERE l.amount > o.amount""",
    ),
    _LINE_OF_NO_ORDER,
    (
        "refunds",
        "refund_id",
        """SELECT line, 'refund ' || refund_id || ' stands on line ' || first || ' already' FROM (
            SELECT line, refund_id, min(line) OVER (PARTITION BY refund_id) AS first FROM replay_refunds) x
        WHERE line > first""",
    ),
    (
        "refunds",
        "order_id",
        f"""SELECT r.line, CASE WHEN o.order_id IS NULL THEN 'there is no order ' || r.order_id
            WHEN o.member_id <> r.member_id THEN 'order ' || r.order_id || ' is another member''s'
            ELSE 'order ' || r.order_id || ' was paid later' END
        FROM replay_refunds r LEFT JOIN replay_orders o USING (order_id)
        WHERE r.order_id <> ''
            AND (o.order_id IS NULL OR o.member_id <> r.member_id OR o.ordered_at > r.refunded_at + {_TOLERANCE})""",  # noqa: S608 a constant of our own
    ),
    _LINE_OF_NO_REFUND,
    (
        "refund_lines",
        "line_id",
        """SELECT line, 'line ' || line_id || ' stands on line ' || first || ' already' FROM (
            SELECT line, line_id, min(line) OVER (PARTITION BY refund_id, line_id) AS first
            FROM replay_refund_lines) x
        WHERE line > first""",
    ),
    (
        "refunds",
        "amount",
        """SELECT r.line, 'is ' || r.amount || ', the lines of refund ' || refund_id || ' give back ' || l.amount
        FROM replay_refunds r
        JOIN (SELECT refund_id, sum(amount) AS amount FROM replay_refund_lines GROUP BY refund_id) l USING (refund_id)
        WHERE l.amount > r.amount""",
    ),
    _LINE_OF_NO_REFUND,
    (
        "refund_lines",
        "matched_line_id",
        """SELECT l.line, 'units of order ' || r.order_id || ' come back, but no line of it is named'
        FROM replay_refund_lines l JOIN replay_refunds r USING (refund_id)
        WHERE r.order_id <> '' AND l.matched_line_id = ''""",
    ),
    (
        "refund_lines",
        "matched_line_id",
        f"""SELECT l.line, CASE WHEN b.line_id IS NULL THEN 'there is no order line ' || l.matched_line_id
            WHEN o.member_id <> r.member_id THEN 'order line ' || l.matched_line_id || ' is another member''s'
            ELSE 'order line ' || l.matched_line_id || ' was paid later' END
        FROM replay_refund_lines l
        JOIN replay_refunds r USING (refund_id)
        LEFT JOIN replay_order_lines b ON b.line_id = l.matched_line_id
        LEFT JOIN replay_orders o ON o.order_id = b.order_id
        WHERE l.matched_line_id <> ''
            AND (b.line_id IS NULL OR o.member_id <> r.member_id OR o.ordered_at > r.refunded_at + {_TOLERANCE})""",  # noqa: S608 a constant of our own
    ),
    (
        "refund_lines",
        "qty",
        """SELECT line, returned || ' units of order line ' || matched_line_id || ' would be returned, '
            || bought || ' were bought' FROM (
            SELECT l.line, l.matched_line_id, b.qty AS bought,
                sum(l.qty) OVER (PARTITION BY b.line_id ORDER BY r.refunded_at, r.refund_id, l.line) AS returned
            FROM replay_refund_lines l
            JOIN replay_refunds r USING (refund_id)
            JOIN replay_order_lines b ON b.line_id = l.matched_line_id) x
        WHERE returned > bought""",
    ),
)

_EVENTS = """
    CREATE TEMP TABLE replay_events AS
    SELECT row_number() OVER (ORDER BY at, kind, id) AS n, kind, id, at FROM (
        SELECT 0 AS kind, order_id AS id, ordered_at AS at FROM replay_orders
        UNION ALL
        SELECT 1, refund_id, greatest(refunded_at, paid.at) FROM replay_refunds LEFT JOIN (
            SELECT refund_id, max(at) AS at FROM (
                SELECT r.refund_id, o.ordered_at AS at FROM replay_refunds r JOIN replay_orders o USING (order_id)
                UNION ALL
                SELECT l.refund_id, o.ordered_at FROM replay_refund_lines l
                JOIN replay_order_lines b ON b.line_id = l.matched_line_id
                JOIN replay_orders o ON o.order_id = b.order_id) named
            GROUP BY refund_id) paid USING (refund_id)) x"""


@dataclass
class Staged:
    """A sound data set in temporary tables of this connection, and the rows that were left out of it."""

    directory: Path
    rows: dict[str, int] = field(default_factory=dict)
    rejected: list[Problem] = field(default_factory=list)


def stage(directory: Path, *, currency: str, progress: Progress, ends_on: date | None = None) -> Staged:
    """Read every file, check every row by itself and against the others, and number the events in time.

    ends_on: all events are moved by whole days, so that the last one is on this day (of UTC).

    Bad rows are left out and listed in `rejected`; whether that is allowed is the caller's to say.
    Raises: UnreadableFile.
    """
    staged = Staged(directory)
    for kind in FILES:
        _create(kind)
        if kind == "orders" or (directory / file_name(kind)).exists():
            staged.rows[kind] = _copy(staged, kind, progress)
    if ends_on is not None:
        _shift(ends_on)
    with connection.cursor() as cursor:
        for kind, key in (("orders", "order_id"), ("order_lines", "line_id"), ("refunds", "refund_id")):
            cursor.execute(f"CREATE INDEX ON replay_{kind} ({key})")
        cursor.execute("CREATE INDEX ON replay_order_lines (order_id)")
        cursor.execute("CREATE INDEX ON replay_refund_lines (refund_id)")
        _analyze(cursor)
        for kind, column, query in _CHECKS:
            _check(cursor, staged, kind, column, query, currency)
        cursor.execute(_EVENTS)
        cursor.execute("CREATE UNIQUE INDEX ON replay_events (n)")
        cursor.execute("ANALYZE replay_events")
    staged.rejected.sort(key=lambda problem: (list(FILES).index(problem.file.partition(".")[0]), problem.line))
    return staged


def _shift(ends_on: date) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(at) FROM (SELECT ordered_at AS at FROM replay_orders UNION ALL SELECT refunded_at FROM"
            " replay_refunds) x"
        )
        last: datetime | None = cursor.fetchone()[0]
        if last is not None:
            days = (ends_on - last.astimezone(UTC).date()).days
            cursor.execute("UPDATE replay_orders SET ordered_at = ordered_at + make_interval(days => %s)", [days])
            cursor.execute("UPDATE replay_refunds SET refunded_at = refunded_at + make_interval(days => %s)", [days])


def drop() -> None:
    """Remove the temporary tables."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS replay_events, {', '.join(f'replay_{kind}' for kind in FILES)}")


def _create(kind: str) -> None:
    columns = ", ".join(f"{column.name} {column.sql}" for column in FILES[kind])
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE replay_{kind} (line int, {columns})")


def _copy(staged: Staged, kind: str, progress: Progress) -> int:
    buffer, count = io.StringIO(), 0
    writer = csv.writer(buffer)
    with connection.cursor() as cursor:
        for row in iter_rows(staged.directory, kind):
            if isinstance(row, Problem):
                staged.rejected.append(row)
                continue
            writer.writerow((row[0], *row[1]))
            count += 1
            if count % COPY_ROWS == 0:
                _flush(cursor, kind, buffer)
                progress(f"reading {kind}", count, 0)
        _flush(cursor, kind, buffer)
    progress(f"reading {kind}", count, count)
    return count


def _flush(cursor: Any, kind: str, buffer: io.StringIO) -> None:
    buffer.seek(0)
    # Every empty value of these tables is an empty text, none is NULL.
    cursor.copy_expert(f"COPY replay_{kind} FROM STDIN (FORMAT csv, NULL '\\N')", buffer)
    buffer.seek(0)
    buffer.truncate()


def _analyze(cursor: Any) -> None:
    for kind in FILES:
        cursor.execute(f"ANALYZE replay_{kind}")


def _check(cursor: Any, staged: Staged, kind: str, column: str, query: str, currency: str) -> None:
    cursor.execute(query, {"currency": currency})
    wrong = [Problem(file_name(kind), line, column, reason) for line, reason in cursor.fetchall()]
    if wrong:
        staged.rejected += wrong
        cursor.execute(f"DELETE FROM replay_{kind} WHERE line = ANY(%s)", [[problem.line for problem in wrong]])  # noqa: S608


def write_rejects(staged: Staged, target: Path) -> None:
    """Write the rows that were left out, with their place and reason, as CSV."""
    reasons = {(problem.file, problem.line): problem for problem in staged.rejected}
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "line", "column", "reason", "row"])
        for kind in FILES:
            if any(file == file_name(kind) for file, _ in reasons):
                for line, text in _raw_rows(staged.directory / file_name(kind)):
                    problem = reasons.get((file_name(kind), line))
                    if problem:
                        writer.writerow([problem.file, line, problem.column or "", problem.reason, text])


def _raw_rows(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_text(path) as text:
            reader = csv.reader(text)
            for row in reader:
                joined = io.StringIO()
                csv.writer(joined, lineterminator="").writerow(row)
                yield reader.line_num, joined.getvalue()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error
