"""What of coupons names a market."""

from django.utils.translation import gettext_noop

from core.models import Market, VersionStatus
from core.services.markets import names_markets
from coupons.models import CouponDefinitionVersion


@names_markets(gettext_noop("coupons"), in_files=True)
def _in_coupons(market: Market) -> bool:
    versions = CouponDefinitionVersion.objects.filter(owner__program=market.program).exclude(
        status=VersionStatus.RETIRED
    )
    return versions.filter(definition__markets__contains=[market.code]).exists()
