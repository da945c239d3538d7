"""`manage.py api_key issue|rotate|revoke|list`: the keys of a program."""

from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.models import ApiKey, Program, Scope
from core.services import api_keys


class Command(BaseCommand):
    """Issue, rotate, revoke and list keys. The text of a new key is printed once and kept nowhere."""

    help = "Manages the API keys of a program. A new key's text is shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to do, each with its own options."""
        actions = parser.add_subparsers(dest="action", required=True)
        issue = actions.add_parser("issue", help="Make a key.")
        issue.add_argument("program", help="The program's code.")
        issue.add_argument("--name", required=True, help="What the key is for.")
        issue.add_argument("--scope", action="append", choices=Scope.values, help="Repeat it; left out: all.")
        issue.add_argument(
            "--origin", action="append", default=[], help="A web origin of its member tokens; repeat it."
        )
        issue.add_argument("--rate", type=int, metavar="N", help="Requests a minute; left out: the setting's.")
        rotate = actions.add_parser("rotate", help="Make a successor and let the key expire after an overlap.")
        rotate.add_argument("prefix")
        rotate.add_argument("--overlap-hours", type=float, default=24, help="How long both work; 24 by default.")
        for parser_of_new in (issue, rotate):
            parser_of_new.add_argument("--days", type=int, metavar="N", help="Days until it expires; left out: never.")
        revoke = actions.add_parser("revoke", help="End a key at once.")
        revoke.add_argument("prefix")
        for parser_of_change in (issue, rotate, revoke):
            parser_of_change.add_argument("--reason", default="", help="Why, for the audit trail.")
        actions.add_parser("list", help="List keys.").add_argument("program", help="The program's code.")

    def handle(self, *_args: Any, action: str, **options: Any) -> None:
        """Do it."""
        at = datetime.now(UTC)
        by = {"actor": "manage.py api_key", "at": at, "reason": options.get("reason", "")}
        try:
            match action:
                case "issue":
                    self._issue(options, by)
                case "rotate":
                    overlap = timedelta(hours=options["overlap_hours"])
                    key, expires_at = _find(options["prefix"]), _after(at, options["days"])
                    self._show(api_keys.rotate(key=key, overlap=overlap, expires_at=expires_at, **by))
                case "revoke":
                    was_valid = api_keys.revoke(key=_find(options["prefix"]), **by)
                    self.stdout.write("revoked" if was_valid else "it was revoked before")
                case _:
                    self._list(_program(options["program"]), at)
        except api_keys.KeyRefused as error:
            raise CommandError(str(error)) from error

    def _issue(self, options: dict[str, Any], by: dict[str, Any]) -> None:
        issued = api_keys.issue(
            program=_program(options["program"]),
            name=options["name"],
            scopes=options["scope"] or Scope.values,
            allowed_origins=options["origin"],
            rate_per_minute=options["rate"],
            expires_at=_after(by["at"], options["days"]),
            **by,
        )
        self._show(issued)

    def _show(self, issued: api_keys.IssuedKey) -> None:
        self.stdout.write(issued.text)

    def _list(self, program: Program, at: datetime) -> None:
        for key in ApiKey.objects.filter(program=program):
            state = "valid" if api_keys.is_valid(key, at) else "revoked" if key.revoked_at else "expired"
            used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never"
            self.stdout.write(f"{key.prefix}  {state:7}  used {used}  {key.name}: {', '.join(key.scopes)}")


def _program(code: str) -> Program:
    program = Program.objects.filter(code=code).first()
    if program is None:
        raise CommandError(f"There is no program {code}.")
    return program


def _find(prefix: str) -> ApiKey:
    key = ApiKey.objects.filter(prefix=prefix).first()
    if key is None:
        raise CommandError(f"There is no key {prefix}: `list` shows them.")
    return key


def _after(at: datetime, days: int | None) -> datetime | None:
    return None if days is None else at + timedelta(days=days)
