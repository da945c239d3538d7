"""What of referrals names a market."""

from django.utils.translation import gettext_noop

from core.models import Market, VersionStatus
from core.services.markets import names_markets
from referrals.models import ReferralPolicyVersion


@names_markets(gettext_noop("referral policies"), in_files=True)
def _in_policies(market: Market) -> bool:
    versions = ReferralPolicyVersion.objects.filter(owner__program=market.program).exclude(status=VersionStatus.RETIRED)
    return versions.filter(definition__chains__contains=[{"market": market.code}]).exists()
