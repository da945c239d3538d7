"""Verify or refresh the facts and cells of retention."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from analytics.models import DirtyMonth
from analytics.services import cells, months, stats
from core.models import Program
from core.schema import require_schema
from core.services import outbox


class Command(BaseCommand):
    help = (
        "verify: compare the facts of retention with raw SQL and its cells with the facts; exit code 1 on findings. "
        "refresh: deliver the news, recompute what it marks, and sum the cells through yesterday."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("verify", "refresh"))
        parser.add_argument("--program", help="Code of one program (default: all)")

    def handle(self, *_args: Any, action: str, program: str | None, **_options: Any) -> None:
        require_schema()
        programs = list(Program.objects.filter(code=program) if program else Program.objects.order_by("code"))
        if program and not programs:
            raise CommandError(f"There is no program {program}.")
        if action == "refresh":
            self._refresh(programs)
        else:
            self._verify(programs)

    def _refresh(self, programs: list[Program]) -> None:
        at = timezone.now()
        outbox.drain(at=at)
        for one in programs:
            through = cells.end_of_facts(program=one, at=at)
            rows = months.refresh(program=one, through=through)
            changed = cells.refresh(program=one, through=through, at=at)
            self.stdout.write(f"{one.code}: {rows} month(s) written, {changed} cell(s) changed")

    def _verify(self, programs: list[Program]) -> None:
        wrong = 0
        for one in programs:
            waiting = DirtyMonth.objects.filter(program=one).values("member_id").distinct().count()
            if waiting:
                self.stdout.write(f"{one.code}: {waiting} member(s) wait for the next refresh and are left out")
            for finding in _find(one):
                wrong += 1
                self.stdout.write(f"{one.code}: {finding}")
        if wrong:
            raise CommandError(f"{wrong} finding(s)")
        self.stdout.write(self.style.SUCCESS(f"Retention is sound ({len(programs)} program(s))."))


def _find(program: Program) -> Iterator[str]:
    for month in months.find_month_mismatches(program=program):
        yield f"member {month.member_id} {month.month:%Y-%m}: expected {month.expected}, stored {month.stored}"
    for stat in stats.find_stat_mismatches(program=program):
        yield f"member {stat.member_id}: expected {stat.expected}, stored {stat.stored}"
    for cell in cells.find_cell_mismatches(program=program):
        place = f"{cell.report} {cell.period:%Y-%m} {cell.step} segment {cell.segment_id}"
        yield f"cell {place}: expected {cell.expected}, stored {cell.stored} (n, retained)"
