"""Verify the ledger of one program or of all, or what it took back and gave back of orders."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.models import Program
from core.schema import require_schema
from points.services.verify import verify
from storefront.services import returns_check
from storefront.services.returns_check import OrderDifference

ACTOR = "manage.py verify --returns --apply"


class Command(BaseCommand):
    help = "Rebuild every balance, lot and hash chain from the ledger and report what differs. Exit code 1 on findings."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the program and what to verify."""
        parser.add_argument("--program", help="Code of one program (default: all)")
        parser.add_argument(
            "--returns", action="store_true", help="List orders whose points are not what came back of them says"
        )
        parser.add_argument("--apply", action="store_true", help="With --returns: post the differences")

    def handle(self, *_args: Any, program: str | None, returns: bool, apply: bool, **_options: Any) -> None:
        """Verify, and end with an error where something differs."""
        require_schema()
        programs = Program.objects.filter(code=program) if program else Program.objects.all()
        if program and not programs:
            raise CommandError(f"There is no program {program}.")
        if apply and not returns:
            raise CommandError("--apply goes with --returns.")
        if returns:
            self._verify_returns(list(programs), is_applied=apply)
            return
        wrong = 0
        for one in programs:
            for finding in verify(program=one):
                wrong += 1
                place = "" if finding.seq is None else f" seq {finding.seq}"
                self.stdout.write(
                    f"{one.code}: account {finding.account_id}{place}: {finding.problem}: {finding.detail}"
                )
        if wrong:
            raise CommandError(f"{wrong} finding(s)")
        self.stdout.write(self.style.SUCCESS(f"The ledger is sound ({programs.count()} program(s))."))

    def _verify_returns(self, programs: list[Program], *, is_applied: bool) -> None:
        differing = 0
        for program in programs:

            def tell(done: int, code: str = program.code) -> None:
                self.stderr.write(f"{code}: {done:,} orders with refunds compared ...")

            sums: dict[tuple[str, bool], int] = {}
            for order_id, found in returns_check.find(program=program, on_progress=tell):
                differences = found
                if is_applied:
                    now = datetime.now(UTC)
                    differences = list(returns_check.apply(program=program, order_id=order_id, actor=ACTOR, at=now))
                differing += bool(differences)
                for one in differences:
                    self.stdout.write(f"{program.code}: {_describe(one)}")
                    key = (one.wallet, one.is_paid)
                    sums[key] = sums.get(key, 0) + one.change
            for (wallet, is_paid), change in sorted(sums.items()):
                self.stdout.write(f"{program.code}: {wallet}: {change:+,} {_kind(is_paid)} in all")
        if differing and not is_applied:
            raise CommandError(f"{differing} order(s) differ; --apply posts the differences")
        done = f"The differences of {differing} order(s) are posted." if differing else "What came back agrees."
        self.stdout.write(self.style.SUCCESS(done))


def _describe(one: OrderDifference) -> str:
    told = f"order {one.order}, member {one.member}, {one.wallet}: {_kind(one.is_paid)}"
    return f"{told}: {one.stands:,} stand, {one.should_be:,} should ({one.change:+,})"


def _kind(is_paid: bool) -> str:
    return "points paid given back" if is_paid else "points earned"
