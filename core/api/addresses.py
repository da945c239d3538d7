"""From which address a shopper acts: that of the browser which calls, or what the storefront's server says."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from rest_framework.request import Request

from core.api.problems import Problem
from core.client_address import client_address

HEADER = "Shopper-Address"
# What one household or machine has of IPv6: whoever has one address of it has all.
_IPV6_PREFIX = 64


def find_shopper_address(request: Request) -> str:
    """Return the shopper's address, empty where it is not known. A member token cannot name another one.

    A browser that seems to call from a private address is behind a proxy that nobody told us of: all shoppers share it.

    Raises: Problem 400 if the server of a storefront names what is no address.
    """
    caller: Any = request.auth
    if caller.member is not None:
        return _group(client_address(request._request), is_public=True)
    named = request.headers.get(HEADER, "")
    address = _group(named, is_public=False)
    if named and not address:
        raise Problem(400, "invalid_parameter", f"{HEADER} names no IP address: write one, such as 203.0.113.7.")
    return address


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
