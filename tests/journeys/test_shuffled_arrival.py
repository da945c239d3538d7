"""Two hundred real orders and their refunds, sent over HTTP in any order, some twice and in parallel, come out as the
bulk replay of the same files: tiers, balances, and every posting.

No lot expires within the span: one that expired before a late refund is recorded is expired for good, so that then the
order of arrival would count.
"""

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from config.environment import PROJECT
from core.models import Program, Scope
from core.services import api_keys
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Member, Order, OrderLine, Refund, TierPeriod
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from membership.services.tiers import apply_dirty, evaluate, list_due
from points.models import Account, LedgerEntry, LedgerTransaction, Lot, SourceKind, Wallet
from points.selectors import get_balance
from points.services.verify import verify
from storefront.replay.run import replay
from storefront.services import program_file
from tests.api.client import Api

SAMPLE = PROJECT / "samples" / "online_retail"
RETAIL = PROJECT / "programs" / "retail_gbp.yaml"
NOW = datetime(2012, 1, 1, tzinfo=UTC)
ORDERS = 200
# Less than the 365 days after which the first lots expire.
BEFORE = "2011-11-25"
SENDERS = 4
SEED = 20111125

Row = dict[str, str]
Fact = tuple[str, dict[str, Any]]


def rows(kind: str) -> list[Row]:
    with gzip.open(SAMPLE / f"{kind}.csv.gz", "rt", newline="") as text:
        return list(csv.DictReader(text))


def write(directory: Path, kind: str, chosen: list[Row]) -> list[Row]:
    with gzip.open(directory / f"{kind}.csv.gz", "wt", newline="") as text:
        writer = csv.DictWriter(text, chosen[0])
        writer.writeheader()
        writer.writerows(chosen)
    return chosen


@pytest.fixture
def selection(tmp_path: Path) -> dict[str, list[Row]]:
    """Whole members, until they have 200 orders; those with refunds first. Their files are in tmp_path."""
    orders = [row for row in rows("orders") if row["ordered_at"] < BEFORE and row["member_id"]]
    refunds = [row for row in rows("refunds") if row["refunded_at"] < BEFORE and row["member_id"]]
    of_member = Counter(row["member_id"] for row in orders)
    refunded = Counter(row["member_id"] for row in refunds)
    chosen: set[str] = set()
    for member in sorted(of_member, key=lambda name: (-refunded[name], name)):
        if sum(of_member[name] for name in chosen) + of_member[member] <= ORDERS:
            chosen.add(member)
    found = {
        "orders": [row for row in orders if row["member_id"] in chosen],
        "refunds": [row for row in refunds if row["member_id"] in chosen],
    }
    for kind, key, lines in (("orders", "order_id", "order_lines"), ("refunds", "refund_id", "refund_lines")):
        names = {row[key] for row in found[kind]}
        found[lines] = [row for row in rows(lines) if row[key] in names]
    known = {row["line_id"] for row in found["order_lines"]}
    for row in found["refund_lines"]:
        if row["matched_line_id"] not in known:  # of an order before the sample begins
            row["matched_line_id"] = ""
    return {kind: write(tmp_path, kind, chosen_rows) for kind, chosen_rows in found.items()}


def facts(selection: dict[str, list[Row]]) -> list[Fact]:
    """Return the selection as a storefront tells it."""
    order_of = {row["line_id"]: row["order_id"] for row in selection["order_lines"]}
    orders: dict[str, dict[str, Any]] = {
        row["order_id"]: {
            "external_id": row["order_id"], "member": row["member_id"], "paid_at": row["ordered_at"],
            "currency": row["currency"], "amount_minor": int(row["amount"]), "lines": [],
        }
        for row in selection["orders"]
    }  # fmt: skip
    for row in selection["order_lines"]:
        orders[row["order_id"]]["lines"].append(
            {"external_id": row["line_id"], "units": int(row["qty"]), "amount_minor": int(row["amount"]),
             "sku": row["sku"]}
        )  # fmt: skip
    refunds: dict[str, dict[str, Any]] = {
        row["refund_id"]: {
            "external_id": row["refund_id"], "member": row["member_id"], "refunded_at": row["refunded_at"],
            "currency": "GBP", "amount_minor": int(row["amount"]), "order": row["order_id"] or None, "lines": [],
        }
        for row in selection["refunds"]
    }  # fmt: skip
    for row in selection["refund_lines"]:
        matched = row["matched_line_id"]
        line = {"external_id": row["line_id"], "units": int(row["qty"]), "amount_minor": int(row["amount"])}
        named = {"order": order_of[matched], "order_line": matched} if matched else {}
        refunds[row["refund_id"]]["lines"].append(line | named | {"sku": row["sku"]})
    return [*(("orders", told) for told in orders.values()), *(("refunds", told) for told in refunds.values())]


def send(api: Api, told: Iterable[Fact]) -> list[Fact]:
    """Send facts by several senders at once and return those that came too early."""

    def one(fact: Fact) -> Fact | None:
        try:
            reply = api.post(*fact)
            if reply.status in {200, 201}:
                return None
            assert (reply.status, reply.code) == (422, "unknown_order"), reply.text
            return fact
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=SENDERS) as executor:
        return [fact for fact in executor.map(one, told) if fact is not None]


def send_all(api: Api, told: list[Fact], random: Random) -> int:
    """Send facts until all are in; return how many were refused for coming before their order."""
    early, rounds = 0, 0
    while told:
        random.shuffle(told)
        twice = random.sample(told, len(told) // 5)
        told = send(api, [fact for fact in told for _ in range(1 + (fact in twice))])
        told = [fact for n, fact in enumerate(told) if fact not in told[:n]]
        early, rounds = early + len(told), rounds + 1
        assert rounds < 10
    return early


@pytest.fixture
def api(db: None, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A caller of a program like the replay's."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    program = program_file.apply(program_file.load(RETAIL, code="over-http"), at=NOW, actor="test")
    text = api_keys.issue(program=program, scopes=Scope.values, name="shop", actor="test", at=NOW).text
    return Api(text)


def enroll(program: Program, selection: dict[str, list[Row]]) -> None:
    """Enroll everyone at their first event, as the replay does."""
    seen = [(row["member_id"], row["ordered_at"]) for row in selection["orders"]]
    seen += [(row["member_id"], row["refunded_at"]) for row in selection["refunds"]]
    joined: dict[str, str] = {}
    for name, at in seen:
        joined[name] = min(at, joined.get(name, at))
    told = [MemberInput(external_id=name, joined_at=datetime.fromisoformat(at)) for name, at in joined.items()]
    enroll_members(program=program, members=told, at=NOW)


def evaluate_all(program: Program, until: datetime) -> None:
    for ladder in Ladder.objects.filter(program=program):
        for instant in list_due(ladder=ladder, until=until):
            ladder.refresh_from_db()
            evaluate(ladder=ladder, instant=instant, at=NOW)


def refunds_in_parts(selection: dict[str, list[Row]]) -> set[str]:
    """Return the refunds that share a line with another one.

    Of the 31 points of a line a first half is 15 and a second 16, whichever of the two refunds is recorded first:
    only their sum is the same in every order.
    """
    of_line: dict[str, set[str]] = defaultdict(set)
    for row in selection["refund_lines"]:
        if row["matched_line_id"]:
            of_line[row["matched_line_id"]].add(row["refund_id"])
    return set[str]().union(*(refunds for refunds in of_line.values() if len(refunds) > 1))


def postings(program: Program, in_parts: set[str]) -> tuple[Counter[tuple[object, ...]], Counter[str]]:
    """Return every entry by names that mean the same in both programs; of refunds in parts the sum of each member."""
    sources: dict[int, dict[int, str]] = {
        SourceKind.ORDER: dict(Order.objects.filter(program=program).values_list("pk", "external_id")),
        SourceKind.REFUND: dict(Refund.objects.filter(program=program).values_list("pk", "external_id")),
    }
    found: Counter[tuple[object, ...]] = Counter()
    sums: Counter[str] = Counter()
    for one in LedgerEntry.objects.filter(member__program=program).select_related("transaction", "member"):
        told, member = one.transaction, one.member.external_id
        source = sources[told.source_kind][told.source_id]
        if source in in_parts:
            sums[member] += one.points
        else:
            found[member, told.kind, told.effective_at, one.from_bucket, one.to_bucket, one.points, source] += 1
    return found, sums


def tiers(program: Program) -> list[tuple[Any, ...]]:
    live = TierPeriod.objects.filter(member__program=program, superseded_at=None)
    return sorted(live.values_list("member__external_id", "valid_from", "tier__code", "cause"))


def balances(program: Program, at: datetime) -> dict[str, Any]:
    wallet = Wallet.objects.get(program=program)
    members = Member.objects.filter(program=program).values_list("external_id", "pk")
    return {name: get_balance(member_id=pk, wallet_id=wallet.pk, at=at) for name, pk in members}


def returned(program: Program) -> list[tuple[Any, ...]]:
    lines = OrderLine.objects.filter(order__program=program)
    return sorted(lines.values_list("external_id", "returned_units", "order__returned_at"))


@pytest.mark.django_db(transaction=True)
def test_two_hundred_orders_in_any_order_come_out_as_the_replay(
    api: Api, selection: dict[str, list[Row]], tmp_path: Path
) -> None:
    told, random = facts(selection), Random(SEED)
    until = datetime.fromisoformat(max(fact.get("paid_at") or fact["refunded_at"] for _, fact in told))
    replay(
        directory=tmp_path, file=program_file.load(RETAIL), as_of=[("end", until)], rejects=None, at=NOW,
        progress=lambda *_: None,
    )  # fmt: skip
    bulk = Program.objects.get(code="retail-gbp")
    program = Program.objects.get(code="over-http")
    enroll(program, selection)
    assert (len(selection["orders"]), len(selection["refunds"]) > 50) == (ORDERS, True)

    random.shuffle(told)
    half = len(told) // 2
    waiting = send(api, told[:half])
    evaluate_all(program, until)  # what comes from here on is late
    early = len(waiting) + send_all(api, waiting + told[half:], random)
    for ladder in Ladder.objects.filter(program=program):
        apply_dirty(ladder=ladder, at=NOW)

    assert early > 0, "no refund came before its order"
    assert Lot.objects.filter(member__program=program, expires_at__lte=until).count() == 0
    in_parts = refunds_in_parts(selection)
    assert 0 < len(in_parts) < len(selection["refunds"]) / 4
    assert postings(program, in_parts) == postings(bulk, in_parts)
    assert LedgerTransaction.objects.filter(member__program=program).count() > ORDERS
    assert tiers(program) == tiers(bulk)
    assert len({tier for _, _, tier, _ in tiers(program)}) > 2
    assert balances(program, until) == balances(bulk, until)
    assert returned(program) == returned(bulk)
    assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])
    assert list(verify(program=program)) == []
    assert Account.objects.filter(member__program=program).exists()
