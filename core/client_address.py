"""Where a request comes from, when proxies stand in between."""

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the address of the client as the outermost proxy of ours saw it.

    Each of `TRUSTED_PROXIES` proxies appends the address that it was called from, so what the client itself wrote into
    `X-Forwarded-For` stands further left and is never read. Without proxies of ours the header counts for nothing.
    """
    nearest = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = [part.strip() for part in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",") if part.strip()]
    hops = [*forwarded, nearest]
    return hops[-1 - min(settings.TRUSTED_PROXIES, len(hops) - 1)]
