"""What every versioned definition shares when it is read from YAML or from the database.

A definition has one shape in both places: amounts are decimal texts of the program's currency, read with
`model_validate(data, context={"currency": ...})` and written back, in full, by `as_written`; unknown keys are errors.
"""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    StringConstraints,
    ValidationInfo,
)

from core.money import BPS, CURRENCIES, decimal_text, parse_minor


class Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def read_money(value: Any, info: ValidationInfo) -> int:
    """Turn a decimal text into minor units of the program's currency given as context."""
    return parse_minor(_decimal_text(value), (info.context or {})["currency"])


def read_multiplier(value: Any) -> int:
    """Turn `"1.25"` into 12,500 basis points."""
    minor = parse_minor(_decimal_text(value), "CLF")  # four places: exactly the basis points of one
    if minor <= 0 or minor > 100 * BPS:
        raise ValueError("a multiplier lies between 0.0001 and 100")
    return minor


def read_amounts(value: Any) -> dict[str, int]:
    """Turn `{"GBP": "10.00", "CNY": "90"}` into minor units of each currency."""
    if not isinstance(value, dict) or not value:
        raise ValueError('write amounts by currency, such as {GBP: "10.00"}')
    amounts = {}
    for currency, amount in sorted(value.items()):
        if currency not in CURRENCIES:
            raise ValueError(f"{currency!r} is no currency code of ISO 4217, such as GBP")
        amounts[currency] = parse_minor(_decimal_text(amount), currency)
    return amounts


def write_amounts(amounts: dict[str, int]) -> dict[str, str]:
    """Turn minor units by currency into decimal texts."""
    return {currency: decimal_text(minor, currency) for currency, minor in sorted(amounts.items())}


def read_share(value: Any) -> int:
    """Turn `"12.5%"` into 1,250 basis points."""
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError('write a percentage as text, such as "12.5%"')
    rate_bps = parse_minor(value.removesuffix("%"), "GBP")  # two places: exactly the basis points of a percent
    if not 0 < rate_bps <= BPS:
        raise ValueError("a percentage lies between 0.01% and 100%")
    return rate_bps


def write_share(rate_bps: int) -> str:
    """Turn 1,250 basis points into `"12.5%"`."""
    return f"{Decimal(rate_bps).scaleb(-2).normalize():f}%"


def _decimal_text(value: Any) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError('write it as a whole number or as text in quotes, such as "12.50"')


def write_money(minor: int, info: SerializationInfo) -> str:
    """Turn minor units of the program's currency into decimal text."""
    return decimal_text(minor, (info.context or {})["currency"])


def write_multiplier(rate_bps: int) -> str:
    """Turn 12,500 basis points into `"1.25"`."""
    return f"{Decimal(rate_bps).scaleb(-4).normalize():f}"


def as_written(definition: Definition, currency: str, *, without: set[str] | None = None) -> dict[str, Any]:
    """Return a definition as JSON in the shape it is read from; what means the same comes out the same.

    Defaults are written out: a later release with other defaults does not change what was published.
    """
    return definition.model_dump(mode="json", exclude=without, exclude_none=True, context={"currency": currency})


Money = Annotated[int, BeforeValidator(read_money), PlainSerializer(write_money)]
# Minor units by currency, for what is sold in several markets.
Amounts = Annotated[dict[str, int], BeforeValidator(read_amounts), PlainSerializer(write_amounts)]
# Basis points, written as a percentage.
Share = Annotated[int, BeforeValidator(read_share), PlainSerializer(write_share)]
Multiplier = Annotated[int, BeforeValidator(read_multiplier), PlainSerializer(write_multiplier)]
