"""A batch finds all that is refused in few passes, and answers as if each of its facts had been sent alone."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from core.models import Program
from core.versions import publish
from membership.models import Activity, Member, Order, Refund
from membership.services.rebuild import find_day_mismatches
from points.models import EarnRule, LedgerTransaction, Wallet
from points.services import operations
from points.services.verify import verify
from tests.api.checkouts import held, make_program, order_of
from tests.api.client import Api
from tests.api.conftest import NOW, MakeKey
from tests.api.shop import JOINED, activity, back, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db

Item = dict[str, Any]
Kind = tuple[str, str, Callable[[Random], list[Item]]]

# Every refusal in one pass, with what it records in another; a halving of a thousand took over two thousand.
MOST_QUERIES = 200
# The aim is 2 seconds on a quiet machine; halving took 20.
MOST_SECONDS = 6


@pytest.fixture
def refusing(program: Program) -> Program:
    """Ada and Ben, whose refunds wait where the points are spent; Ada has spent all hers, Ben has some left."""
    enroll(program, "ada", "ben")
    wallet = Wallet.objects.get(program=program, code="points")
    terms = wallet.versions.latest("number").definition
    publish(wallet, terms | {"clawback": "refuse"}, at=JOINED)
    return program


def spend(program: Program, name: str, *, left: int) -> None:
    operations.redeem(
        program=program,
        member_id=Member.objects.get(program=program, external_id=name).pk,
        wallet_id=Wallet.objects.get(program=program, code="points").pk,
        points=points_of(program, name) - left,
        idempotency_key=f"spend-{name}",
        at=NOW,
    )


def some_orders(source: Random) -> list[Item]:
    """Orders of few ids: new, repeated, in conflict, of nobody, above their sum, of more points than there can be."""
    huge = {"lines": [line("a", 1, 2**53 - 1, sku="huge")], "amount_minor": 2**53 - 1}
    changes: list[Item] = [{}, {}, {}, {"channel": "app"}, {"amount_minor": 100}, {"currency": "EUR"}, huge]
    items = []
    for _ in range(source.randint(2, 14)):
        told = order(f"o{source.randint(0, 6)}", member=source.choice(["ada", "ben", "zoe"]))
        items.append(told | source.choice(changes))
    return items


def some_refunds(source: Random) -> list[Item]:
    """Refunds of few orders and ids: more units or money than there are, too early, of points that were spent."""
    early = {"refunded_at": "2026-04-01T10:00:00Z"}
    changes: list[Item] = [{}, {}, {}, {}, {"order": "o9"}, {"member": "zoe"}, early]
    items = []
    for _ in range(source.randint(2, 14)):
        name = source.choice(["a", "b"])
        parts = [back(name, source.choice([None, 1, 2]), source.choice([500, 1550, 4500, 5000]))]
        number, own = source.randint(0, 4), source.randint(0, 6)
        told = refund(f"r{own}", *parts, order=f"o{number}", member=_owner(number))
        told["refunded_at"] = f"2026-05-{9 + own * 5 % 4:02}T10:00:00Z"
        items.append(told | source.choice(changes))
    return items


def some_activities(source: Random) -> list[Item]:
    """Activities of few ids: new, repeated, in conflict, of nobody, with an id that is none."""
    return [
        activity(
            source.choice(["v1", "v2", "v3", " v4"]),
            member=source.choice(["ada", "ben", "zoe"]),
            kind=source.choice(["review", "share"]),
        )
        for _ in range(source.randint(2, 14))
    ]


def _owner(number: int) -> str:
    return "ben" if number % 2 else "ada"


def alone(api: Api, kind: str, items: Sequence[Item], moment: str) -> list[tuple[str, Any]]:
    """Send each alone, in the order in which a batch takes them, and return what became of them in theirs."""
    first: dict[Any, tuple[Any, ...]] = {}
    for index, item in enumerate(items):
        first.setdefault((item["external_id"], item["member"]), (item[moment], item["external_id"], index))
    found: dict[int, tuple[str, Any]] = {}
    for index in sorted(range(len(items)), key=lambda n: (first[items[n]["external_id"], items[n]["member"]], n)):
        reply = api.post(kind, items[index])
        problem = None if reply.status < 300 else reply.json
        found[index] = shown("refused" if problem else reply.json["outcome"], problem)
    return [found[index] for index in range(len(items))]


def shown(outcome: str, problem: Item | None) -> tuple[str, Any]:
    return outcome, (problem["code"], problem["detail"], problem["errors"]) if problem else None


def state(program: Program) -> tuple[Any, ...]:
    names = [sorted(model._default_manager.values_list("external_id")) for model in (Order, Refund, Activity)]
    return names, {name: points_of(program, name) for name in ("ada", "ben")}, LedgerTransaction.objects.count()


KINDS: dict[str, Kind] = {
    "orders": ("orders", "paid_at", some_orders),
    "refunds": ("refunds", "refunded_at", some_refunds),
    "activities": ("activities", "occurred_at", some_activities),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_a_batch_answers_as_if_each_had_been_sent_alone(api: Api, refusing: Program, kind: str, seed: int) -> None:
    source, (name, moment, make) = Random(seed), KINDS[kind]
    rule = EarnRule.objects.create(program=refusing, code="generous")
    formula = {"points": 10_000, "per": "0.01"}
    terms = {"wallet": "points", "name": "Generous", "trigger": "order_line", "formula": formula, "skus": ["huge"]}
    publish(rule, terms, at=JOINED)
    for number in range(5):
        assert api.post("orders", order(f"o{number}", member=_owner(number))).status == 201
    for member, left in (("ada", 40), ("ben", 0)):
        spend(refusing, member, left=left)
    items = make(source)
    before = written()
    with transaction.atomic():
        apart = alone(api, name, items, moment), state(refusing)
        transaction.set_rollback(True)
    assert written() == before
    results = api.post(f"{name}/batch", {name: items}).json["results"]
    assert ([shown(one["outcome"], one["problem"]) for one in results], state(refusing)) == apart
    assert find_day_mismatches(refusing) == []
    assert list(verify(program=refusing)) == []


def test_the_mixes_meet_every_refusal(api: Api, refusing: Program) -> None:
    """The test before says as much as its items do."""
    for number in range(5):
        api.post("orders", order(f"o{number}", member=_owner(number)))
    for member, left in (("ada", 40), ("ben", 0)):
        spend(refusing, member, left=left)
    met: Counter[str] = Counter()
    for kind, _, make in KINDS.values():
        for seed in range(12):
            results = api.post(f"{kind}/batch", {kind: make(Random(seed))}, query={"dry_run": "true"}).json["results"]
            met.update(one["problem"]["code"] if one["problem"] else one["outcome"] for one in results)
    assert met.keys() >= {
        *("recorded", "repeated", "fact_conflict", "unknown_member", "unknown_order", "before_order"),
        *("too_many_units", "more_than_paid", "clawback_refused", "wrong_currency", "invalid_value"),
    }


REFUSED: dict[str, tuple[str, Callable[[int], Item]]] = {
    "of unknown orders": ("refunds", lambda n: refund(f"r{n}", order=f"x{n}")),
    "of members of no name": ("refunds", lambda n: refund(f"r{n}", member=f"zoe{n}")),
    "under one id": ("refunds", lambda n: refund("r", order=f"x{n}")),
    "of too many units": ("refunds", lambda n: refund(f"r{n}", back("a", 4, 4500), order=f"o{n % 200}")),
    "of too much money": ("refunds", lambda n: refund(f"r{n}", back("a", 1, 9000), order=f"o{n % 200}")),
    "too early": ("refunds", lambda n: refund(f"r{n}", order=f"o{n % 200}", refunded_at="2026-04-01T10:00:00Z")),
    "of spent points": ("refunds", lambda n: refund(f"r{n}", order=f"o{n % 200}")),
    "in conflict": ("orders", lambda n: order(f"o{n % 200}", channel=f"c{n}")),
    "of nobody": ("activities", lambda n: activity(f"v{n}", member=f"zoe{n}")),
    "of another kind": ("activities", lambda n: activity("v", kind=f"k{n}")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_thousand_that_are_refused_take_few_passes(api: Api, refusing: Program, name: str) -> None:
    api.post("orders/batch", {"orders": [order(f"o{n}") for n in range(200)]})
    api.post("activities", activity("v"))
    spend(refusing, "ada", left=0)
    kind, make = REFUSED[name]
    items = [make(n) for n in range(1_000)]
    begun = time.process_time()
    with CaptureQueriesContext(connection) as queries:
        results = api.post(f"{kind}/batch", {kind: items}).json["results"]
    taken = time.process_time() - begun
    assert {one["outcome"] for one in results} == {"refused"}
    assert len({one["problem"]["code"] for one in results}) == 1
    assert len(queries) < MOST_QUERIES
    assert taken < MOST_SECONDS


def test_every_second_one_of_a_thousand_is_kept(api: Api, refusing: Program) -> None:
    items = [order(f"o{n}", member="zoe" if n % 2 else "ada") for n in range(1_000)]
    with CaptureQueriesContext(connection) as queries:
        results = api.post("orders/batch", {"orders": items}).json["results"]
    assert Counter(one["outcome"] for one in results) == {"recorded": 500, "refused": 500}
    assert len(queries) < MOST_QUERIES


@pytest.fixture
def shop(db: None, tmp_path: Any) -> Program:
    return make_program(tmp_path)


def test_a_checkout_is_paid_by_the_order_that_is_taken(shop: Program, make_key: MakeKey) -> None:
    """The first one that names it is refused for another reason."""
    api = Api(make_key(program=shop))
    checkout = held(api)
    plain = {name: value for name, value in order_of(checkout, "o1").items() if name != "checkout"}
    assert api.post("orders", plain).status == 201
    items = [order_of(checkout, "o1"), order_of(checkout, "o2"), order_of(checkout, "o3")]
    results = api.post("orders/batch", {"orders": items}).json["results"]
    assert [(one["outcome"], one["problem"] and one["problem"]["code"]) for one in results] == [
        ("refused", "fact_conflict"),
        ("recorded", None),
        ("refused", "checkout_already_paid"),
    ]
