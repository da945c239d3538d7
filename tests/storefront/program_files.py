"""A small program file with one of everything, and variants of it."""

from pathlib import Path

from storefront.services import program_file

SMALL = """
program: {code: aurora, name: Aurora, currency: GBP, time_zone: Europe/London}
markets:
  - {code: uk, currency: GBP, time_zone: Europe/London, locales: [en-GB], countries: [GB]}
  - {code: "no", currency: NOK, time_zone: Europe/Oslo, locales: [nb-NO], countries: [NO]}
ladders:
  - code: main
    name: Tiers
    upgrade: immediate
    evaluation: {every: year, on: 07-01}
    tiers:
      - {code: basic, name: Basic}
      - code: gold
        name: Gold
        entry: {any_of: [{all_of: [{metric: net_spend, at_least: "250.00", window: {rolling_days: 365}}]}]}
        benefits: {points_multiplier: "1.5"}
wallets:
  - {code: points, name: Points, expiry_days: 365}
earn_rules:
  - {code: spend, name: Spend, wallet: points, trigger: order_line, formula: {points: 1, per: "1.00"}, tiers: [gold]}
"""


def load_small(folder: Path, *replacements: tuple[str, str]) -> program_file.ProgramFile:
    """Write the small program, with some of its text replaced, and read it."""
    text = SMALL
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / "program.yaml"
    path.write_text(text, encoding="utf-8")
    return program_file.load(path)
