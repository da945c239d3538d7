"""What of checkouts names a market."""

from django.utils.translation import gettext_noop

from core.models import Market
from core.services.markets import names_markets
from storefront.models import Checkout, CheckoutState


@names_markets(gettext_noop("checkouts"), in_files=False)
def _in_checkouts(market: Market) -> bool:
    """Tell of those that may still be paid: their order names the market that was quoted."""
    payable = (CheckoutState.QUOTED, CheckoutState.HELD, CheckoutState.LAPSED)
    return Checkout.objects.filter(program=market.program, market=market.code, state__in=payable).exists()
