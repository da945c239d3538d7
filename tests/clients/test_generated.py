"""Clients generated from the OpenAPI document, in Python and TypeScript, compile and run the README's tour."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.journeys.service import running_service

pytestmark = pytest.mark.clients

TYPESCRIPT = Path(__file__).parent / "typescript"
NPM = shutil.which("npm") or "npm"


class Shop(NamedTuple):
    """A running installation with the demo's program, and where its document lies."""

    address: str
    key: str
    document: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("clients")
    document = folder / "openapi.json"
    with running_service(folder) as service:
        key = re.search(r"pnl_test_\S+", service.manage("api_key", "issue", "aurora", "--name", "clients"))
        assert key is not None
        service.manage("spectacular", "--format", "openapi-json", "--file", str(document))
        yield Shop(f"http://127.0.0.1:{service.port}", key[0], document)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def test_a_python_client_runs_the_tour(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = (sys.executable, "-m", "openapi_python_client", "generate", "--path", str(shop.document))
    said = run(*generator, "--meta", "none", "--output-path", str(tmp_path / "generated_client"), cwd=tmp_path)
    assert "WARNING" not in said, said
    run(sys.executable, "-m", "compileall", "-q", "generated_client", cwd=tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def part(name: str) -> Any:
        return importlib.import_module(f"generated_client.{name}")

    models, api = part("models"), shop.address
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with part("client").AuthenticatedClient(base_url=api, token=shop.key, raise_on_unexpected_status=True) as client:

        def call(path: str, *address: str, **told: Any) -> Any:
            answer = part(f"api.{path}").sync(*address, client=client, **told)
            assert answer is not None, path
            assert "ProblemBody" not in type(answer).__name__, answer
            return answer.to_dict()

        call(
            "members.post_members",
            body=models.MemberBody.from_dict({"external_id": "pia", "joined_at": start.isoformat(), "country": "DE"}),
        )
        body = {
            "external_id": "py-1", "member": "pia", "paid_at": start.isoformat(), "currency": "GBP",
            "amount_minor": 16_000,
            "lines": [
                {"external_id": "cups", "units": 4, "amount_minor": 8_000},
                {"external_id": "teapots", "units": 2, "amount_minor": 8_000},
            ],
        }  # fmt: skip
        order = call("orders.post_orders", body=models.OrderBody.from_dict(body))
        assert order["effect"]["points"] == [{"wallet": "points", "points": 160}]

        for change in ({"status": "suspended"}, {"country": "FR"}):
            call("members.patch_member", "pia", body=models.ProfileBody.from_dict(change))
        member = call("members.get_member", "pia")
        assert (member["status"], member["country"]) == ("suspended", "FR")
        call("members.patch_member", "pia", body=models.ProfileBody.from_dict({"status": "active"}))

        redemption = models.RedemptionBody(points=50, reason="A mug")
        redeem = "points.post_member_wallet_redemptions"
        for _ in range(2):
            posted = call(redeem, "pia", "points", body=redemption, idempotency_key="py-mug")
            assert posted["balance"]["available"] == 110
        refund = {
            "external_id": "py-back", "member": "pia", "order": "py-1", "refunded_at": datetime.now(UTC).isoformat(),
            "currency": "GBP", "amount_minor": 8_000,
            "lines": [
                {"external_id": "cups", "order_line": "cups", "units": 2, "amount_minor": 4_000},
                {"external_id": "teapots", "order_line": "teapots", "units": 1, "amount_minor": 4_000},
            ],
        }  # fmt: skip
        call("refunds.post_refunds", body=models.RefundBody.from_dict(refund))
        points = call("points.get_member_points", "pia")
        assert points["wallets"][0]["balance"]["available"] == 30
        refused = part("api.members.get_member").sync("nobody", client=client)
        assert refused.code.value == "unknown_member"


def test_the_document_lints_clean_and_a_typescript_client_runs_the_tour(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "typescript"
    shutil.copytree(TYPESCRIPT, folder, ignore=shutil.ignore_patterns("node_modules", "out"))
    run(NPM, "ci", "--no-audit", "--no-fund", cwd=folder)
    run(NPM, "exec", "--", "redocly", "lint", "--max-problems", "20", str(shop.document), cwd=folder)
    run(NPM, "exec", "--", "openapi-typescript", str(shop.document), "--output", "schema.d.ts", cwd=folder)
    run(NPM, "exec", "--", "tsc", cwd=folder)
    found = json.loads(run("node", "out/tour.js", shop.address, shop.key, cwd=folder))
    assert found["earned"]["points"] == [{"wallet": "points", "points": 160}]
    assert (found["patched"]["status"], found["patched"]["country"]) == ("suspended", "FR")
    assert (found["available"], found["refused"]) == (30, "unknown_member")
