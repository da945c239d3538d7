"""What of membership names a market."""

from django.utils.translation import gettext_noop

from core.models import Market
from core.services.markets import names_markets
from membership.models import Order


@names_markets(gettext_noop("orders"), in_files=False)
def _in_orders(market: Market) -> bool:
    return Order.objects.filter(program=market.program, market=market.code).exists()
