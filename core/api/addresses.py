"""From which address a shopper acts: that of the browser which calls, or what the storefront's server says."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from core.api.problems import Problem

HEADER = "Shopper-Address"
# What one household or machine has of IPv6: whoever has one address of it has all.
_IPV6_PREFIX = 64


def find_shopper_address(request: Request) -> str:
    """Return the shopper's address, empty where it is not known. A member token cannot name another one.

    Raises: Problem 400 if the server of a storefront names what is no address.
    """
    caller: Any = request.auth
    if caller.member is not None:
        return find_client_address(request._request)
    named = request.headers.get(HEADER, "")
    address = _group(named, is_public=False)
    if named and not address:
        raise Problem(400, "invalid_parameter", f"{HEADER} names no IP address: write one, such as 203.0.113.7.")
    return address


def find_client_address(request: HttpRequest) -> str:
    """Return the address from which a browser calls, empty where it is not known.

    It is what the first of our own proxies saw. A private address is a proxy that nobody told us of, and so is said to
    be unknown: all shoppers share it.
    """
    seen = request.META.get("REMOTE_ADDR", "")
    if settings.PROXIES:
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        seen = hops[-settings.PROXIES] if len(hops) >= settings.PROXIES else ""
    return _group(seen, is_public=True)


def _group(text: str, *, is_public: bool) -> str:
    """Return an address as it is counted, empty if it is none, or none that can be told from others."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if is_public and not address.is_global:
        return ""
    return str(ip_network((address, _IPV6_PREFIX), strict=False) if isinstance(address, IPv6Address) else address)
