"""A measured figure, its judgment, and the table of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: `value` is judged against floor and aim, the texts say what it is made of."""

    path: str
    ours: str
    reference: str
    value: float
    floor: float | None = None
    aim: float | None = None
    lower_is_better: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Say which mark the value reaches; a figure without marks is there to explain another."""
        if self.aim is not None and self._reaches(self.aim):
            return "aim"
        if self.floor is not None and self._reaches(self.floor):
            return "floor"
        return "miss" if self.aim is not None else ""

    def _reaches(self, mark: float) -> bool:
        return self.value <= mark if self.lower_is_better else self.value >= mark

    @property
    def cells(self) -> tuple[str, ...]:
        marks = (_number(mark) if mark is not None else "" for mark in (self.floor, self.aim))
        return (self.path, _number(self.value) + self.unit, self.ours, self.reference, *marks, self.verdict)


HEADER = ("path", "figure", "ours", "reference", "floor", "aim", "verdict")


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 10 and value != int(value) else f"{value:,.0f}"


def compare(
    path: str, ours: list[float], reference: list[float], *, unit: str, floor: float | None, aim: float | None
) -> Figure:
    """Return the ratio of two sets of rates: the median of the ratios of neighbors, which drift together."""
    ratios = [mine / other for mine, other in zip(ours, reference, strict=True)]
    return Figure(
        path, f"{median(ours):,.0f} {unit}", f"{median(reference):,.0f} {unit}", round(median(ratios), 3), floor, aim
    )


def alternate(
    repetitions: int, ours: Callable[[], float], reference: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure both in turn, so that whatever else the machine does weighs on both."""
    pairs = []
    for turn in range(repetitions):
        # Who goes first changes: a table grows and a disk tires while one of them runs.
        if turn % 2:
            other = reference()
            pairs.append((ours(), other))
        else:
            pairs.append((ours(), reference()))
    return [mine for mine, _ in pairs], [other for _, other in pairs]


def table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    rows = [HEADER, *(figure.cells for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
