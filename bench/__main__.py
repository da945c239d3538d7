"""`python -m bench [row ...]`: start servers of its own in a temporary directory, measure, print the table."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace

from bench.sizes import QUICK, Sizes
from config.failure import StartError
from config.launch import server_variables

ROWS = (
    "queries",
    "earn",
    "burn",
    "full",
    "bulk",
    "expiry",
    "tiers",
    "summary",
    "intake",
    "refund",
    "quote",
    "claims",
    "codes",
    "coupons",
    "hard",
    "refusals",
    "retention",
)


def main(arguments: Sequence[str]) -> int:
    """Measure the rows that are named, all without a name."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; all without one")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look of a few minutes")
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=float if size.name == "seconds" else int)
    options = parser.parse_args(arguments)
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    given = {size.name: value for size in fields(Sizes) if (value := getattr(options, size.name)) is not None}
    with tempfile.TemporaryDirectory(prefix="perennial-bench-") as directory:
        os.environ |= {
            "PERENNIAL_DATA_DIR": directory,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            # Millions of made-up members belong in no database of anyone's.
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "PERENNIAL_IDLE_TIMEOUT_MS": "0",
        }
        try:
            with server_variables("bench"):
                return _measure(options.rows or ROWS, replace(QUICK if options.quick else Sizes(), **given))
        except StartError as error:
            sys.stderr.write(f"perennial: {error}\n")
            return 1


def _measure(rows: Sequence[str], sizes: Sizes) -> int:
    import django  # noqa: PLC0415 the settings look for the servers' URLs

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    from bench import (  # noqa: PLC0415
        api,
        baskets,
        batches,
        expiries,
        figures,
        giving,
        hard_baskets,
        postings,
        refusals,
        retention,
        tiers,
    )

    measures = {
        "queries": postings.queries,
        "earn": postings.earn,
        "burn": postings.burn,
        "full": postings.full,
        "bulk": batches.bulk,
        "expiry": expiries.expiry,
        "tiers": tiers.evaluation,
        "retention": retention.reports,
        "summary": api.member_summary,
        "intake": api.order_intake,
        "refund": api.refund,
        "quote": api.quote,
        "claims": giving.claims,
        "codes": giving.codes,
        "coupons": baskets.evaluation,
        "hard": hard_baskets.worst,
        "refusals": refusals.refusals,
    }
    call_command("migrate", verbosity=0)
    print(sizes, flush=True)
    found = []
    for row in rows:
        for figure in measures[row](sizes):
            found.append(figure)
            print("  ".join(figure.cells), flush=True)
    print()
    print(figures.table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
