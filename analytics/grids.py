"""Retention as tables, and the same numbers as the charts' data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext

from analytics import rules
from analytics.retention import Figure, Row
from analytics.rules import State
from analytics.sentences import show_counts, show_percent

Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it is shown: its share, what stands behind it, and whether anything is said at all."""

    figure: Figure

    @property
    def text(self) -> str:
        """The share; empty where nothing is said or nobody is."""
        return show_percent(self.figure)

    @property
    def hint(self) -> str:
        """The counts and the interval, or why there is none."""
        hint = show_counts(self.figure)
        return hint + ", " + gettext("provisional") if self.is_provisional else hint

    @property
    def is_provisional(self) -> bool:
        """Whether late facts may still change it."""
        return self.figure.state == State.PROVISIONAL

    @property
    def is_immature(self) -> bool:
        """Whether it is not over yet."""
        return self.figure.state == State.IMMATURE


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of cells. A cell that there cannot be is None."""

    corner: str
    columns: list[str]
    lines: list[tuple[str, list[Cell | None]]]

    @property
    def heatmap(self) -> dict[str, Any]:
        """The same as data of a heatmap: what is not over has no value."""
        cells = [
            {
                "x": x,
                "y": y,
                "rate": cell.figure.rate_bps,
                "text": cell.text,
                "hint": f"{label}, {self.columns[x]}: {cell.hint}",
            }
            for y, (label, line) in enumerate(self.lines)
            for x, cell in enumerate(line)
            if cell is not None
        ]
        return {"columns": self.columns, "lines": [label for label, _ in self.lines], "cells": cells}


def active_grid(rows: Sequence[Row], names: Names) -> Grid:
    """Return tiers by months, the highest tier first."""
    months = list(dict.fromkeys(row.key["month"] for row in rows))
    tiers = list(dict.fromkeys(row.key["tier"] for row in rows))[::-1]
    found = {(row.key["tier"], row.key["month"]): Cell(row.figure) for row in rows}
    lines = [(names.get(tier, tier), [found.get((tier, month)) for month in months]) for tier in tiers]
    return Grid(gettext("Tier"), [date_format(month, "Y-m") for month in months], lines)


def cohort_grid(rows: Sequence[Row]) -> Grid:
    """Return entry months by months later. The first month is left out: everybody bought in it."""
    months = list(dict.fromkeys(row.key["entry_month"] for row in rows))
    steps = range(1, 1 + max((row.key["months_later"] for row in rows), default=0))
    found = {(row.key["entry_month"], row.key["months_later"]): Cell(row.figure) for row in rows}
    lines = [(date_format(month, "Y-m"), [found.get((month, step)) for step in steps]) for month in months]
    return Grid(gettext("First bought"), [f"+{step}" for step in steps], lines)


def day_grid(rows: Sequence[Row]) -> Grid:
    """Return the measures by N, of all entry months that are over."""
    labels = {
        "bracket": gettext("In the 30 days to day N"),
        "within": gettext("Within N days"),
        "within_with_day0": gettext("Within N days, day 0 included"),
        "on_or_after": gettext("On day N or later, within %(days)s days") % {"days": rules.FOLLOW_UP_DAYS},
        "on_or_after_so_far": gettext("On day N or later, so far"),
    }
    found = {(row.key["measure"], row.key["day"]): Cell(row.figure) for row in rows if row.key["entry_month"] is None}
    lines = [(label, [found.get((measure, day)) for day in rules.DAY_N]) for measure, label in labels.items()]
    return Grid("N", [str(day) for day in rules.DAY_N], lines)


def survival_line(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the curve and its band; empty while nothing is over."""
    points = [row for row in rows if row.figure.rate_bps is not None]
    return {
        "days": [row.key["day"] for row in points],
        "rates": [row.figure.rate_bps for row in points],
        "lows": [row.figure.interval.low_bps for row in points if row.figure.interval],
        "highs": [row.figure.interval.high_bps for row in points if row.figure.interval],
        "hints": [show_counts(row.figure) for row in points],
    }


def migration_grid(rows: Sequence[Row], names: Names) -> Grid:
    """Return from whom to what at one month start, the lowest tier first; who was none before comes first."""
    from_tiers = list(dict.fromkeys(row.key["from_tier"] for row in rows))
    order = list(names)
    to_tiers = sorted({row.key["to_tier"] for row in rows}, key=lambda code: order.index(code) if code in order else -1)
    found = {(row.key["from_tier"], row.key["to_tier"]): Cell(row.figure) for row in rows}
    nobody = {one: next(row.figure for row in rows if row.key["from_tier"] == one) for one in from_tiers}

    def cell(before: str | None, now: str | None) -> Cell:
        empty = Figure(nobody[before].n, 0, nobody[before].state) if nobody[before].n is not None else nobody[before]
        return found.get((before, now)) or Cell(empty)

    lines: list[tuple[str, list[Cell | None]]] = [
        (_before(tier, names), [cell(tier, now) for now in to_tiers]) for tier in from_tiers
    ]
    return Grid(gettext("From"), [_now(tier, names) for tier in to_tiers], lines)


def migration_flows(rows: Sequence[Row], names: Names) -> dict[str, Any]:
    """Return the moves as data of a Sankey chart. The same tier before and now are two nodes."""
    over = [row for row in rows if row.figure.retained]
    nodes = {("from", row.key["from_tier"]): _before(row.key["from_tier"], names) for row in over}
    nodes |= {("to", row.key["to_tier"]): _now(row.key["to_tier"], names) for row in over}
    return {
        "nodes": [
            {"id": f"{side}:{code}", "label": label, "depth": side == "to"} for (side, code), label in nodes.items()
        ],
        "links": [
            {
                "from": f"from:{row.key['from_tier']}",
                "to": f"to:{row.key['to_tier']}",
                "members": row.figure.retained,
                "hint": f"{_before(row.key['from_tier'], names)} → {_now(row.key['to_tier'], names)}: "
                + show_counts(row.figure),
            }
            for row in over
        ],
    }


def _before(tier: str | None, names: Names) -> str:
    return names.get(tier, tier) if tier else gettext("Not yet a customer")


def _now(tier: str | None, names: Names) -> str:
    return names.get(tier, tier) if tier else gettext("No tier")
