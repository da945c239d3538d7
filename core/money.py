"""Money is integer minor units plus an ISO 4217 currency; rates are basis points. Nothing here is a float."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

BPS = 10_000

# The currencies of ISO 4217 that people pay with, those withdrawn lately included: their orders are still told.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
    CHF CLF CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
    GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR
    LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK
    PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS
    TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW
    ZWG ZWL
    """.split()  # noqa: SIM905 a table reads better
)

# Currencies whose minor unit is not 1/100 (ISO 4217).
_EXPONENTS = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0,
    "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
    "CLF": 4, "UYW": 4,
}  # fmt: skip


class InvalidAmount(ValueError):
    """The text is not an amount of the currency."""


def exponent(currency: str) -> int:
    """Return how many decimal places the currency has."""
    return _EXPONENTS.get(currency, 2)


def parse_minor(text: str, currency: str) -> int:
    """Return the minor units of a decimal text.

    Raises: InvalidAmount if it is not a number or has more places than the currency.
    """
    try:
        scaled = Decimal(text).scaleb(exponent(currency))
        minor = int(scaled)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidAmount(f"{text!r} is not an amount of money") from error
    if minor != scaled:
        raise InvalidAmount(f"{text} has more decimal places than {currency} allows ({exponent(currency)})")
    return minor


def decimal_text(minor: int, currency: str) -> str:
    """Return the text that `parse_minor` reads as these minor units: `1200.00`."""
    return f"{Decimal(minor).scaleb(-exponent(currency)):f}"


def format_minor(minor: int, currency: str) -> str:
    """Return the amount as shown to people: `GBP 12.00`."""
    places = exponent(currency)
    return f"{currency} {Decimal(minor).scaleb(-places):,.{places}f}"


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split an amount over lines in proportion to their weights, so that the parts sum exactly to it.

    Largest remainder; ties go to the earlier line. All weights zero: everything goes to the first line.
    Units: any integer unit; weights >= 0; total may be negative (then mirrored).
    Raises: ValueError on no weights or a negative one.
    """
    if not weights or min(weights) < 0:
        raise ValueError("allocate needs at least one weight, none negative")
    if total < 0:
        return [-part for part in allocate(-total, weights)]
    whole = sum(weights)
    if whole == 0:
        return [total, *[0] * (len(weights) - 1)]
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts
