"""Calls to addresses that others chose: where they may lead, and one POST that goes there and nowhere else."""

import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException

from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Url, parse_url

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
# A server that sends a byte now and then is cut off all the same.
WHOLE_SECONDS = 15.0
# Of the answer only this much is read.
ANSWER_BYTES = 1_000

_PORTS = {"http": 80, "https": 443}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Its last four bytes are an IPv4 address (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenUrl(ValueError):
    """The URL is none, or not one that is called from here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, and the beginning of its body."""

    status: int
    text: str
    retry_after: str


def check_url(url: str) -> Url:
    """Return the parts of a URL that may be called as far as it can be told without looking its host up.

    Raises: ForbiddenUrl.
    """
    try:
        target = parse_url(url)
        _ = target.port
    except LocationParseError:
        raise ForbiddenUrl("this is not a URL") from None
    if target.scheme != "https" and not (target.scheme == "http" and settings.WEBHOOKS_PRIVATE_HOSTS):
        raise ForbiddenUrl("a URL must begin with https://")
    if not target.host or target.auth or target.fragment is not None:
        raise ForbiddenUrl("a URL must have a host, and neither a login nor a fragment")
    try:
        literal = ipaddress.ip_address(target.host.strip("[]"))
    except ValueError:
        return target  # a name: looked up when it is called
    _require_public(str(literal))
    return target


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is None:
            return ip in _GLOBAL_UNICAST and ip.is_global and not (ip.sixtofour or ip.teredo)
        ip = inner
    return ip.is_global and not ip.is_multicast


def _require_public(address: str) -> None:
    if not (settings.WEBHOOKS_PRIVATE_HOSTS or is_public(address)):
        raise ForbiddenUrl(f"{address} is not an address of the open internet")


def resolve(target: Url) -> list[str]:
    """Return the addresses of a URL's host.

    Raises: ForbiddenUrl if any of them must not be called; OSError if there is none.
    """
    host = str(target.host).strip("[]")
    found = socket.getaddrinfo(host, _port(target), type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        _require_public(address)
    return addresses


def post(url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send one POST and return the answer, whatever its status; a redirect is an answer.

    The connection goes to the very address that was checked: the name is not looked up again.
    Raises: ForbiddenUrl; OSError, ValueError, HTTPError or HTTPException if there is no answer.
    """
    target = check_url(url)
    give_up_at = time.perf_counter() + WHOLE_SECONDS
    connection = _connect(target, give_up_at)
    deadline = threading.Timer(give_up_at - time.perf_counter(), _cut, [connection])
    deadline.daemon = True
    deadline.start()
    try:
        named = {"Host": str(target.netloc), "Content-Type": "application/json", "User-Agent": "Perennial"}
        connection.request("POST", target.request_uri, body=body, headers=named | dict(headers), preload_content=False)
        response = connection.getresponse()
        text = response.read(ANSWER_BYTES, decode_content=False).decode("utf-8", "replace").replace("\0", "")
        if time.perf_counter() >= give_up_at:
            raise TimeoutError("the answer was cut off")
        return Answer(response.status, text, response.headers.get("Retry-After", ""))
    finally:
        deadline.cancel()
        connection.close()


def _connect(target: Url, give_up_at: float) -> HTTPConnection:
    """Connect to the first address of the host that lets us; a host may have more than there is time for."""
    failed: OSError | HTTPError = TimeoutError("there was no time left to connect")
    for address in resolve(target):
        seconds = min(CONNECT_SECONDS, give_up_at - time.perf_counter())
        if seconds <= 0:
            break
        connection = _connection(address, target, seconds)
        try:
            connection.connect()
        except (OSError, HTTPError) as error:
            connection.close()
            failed = error
            continue
        connection.timeout = READ_SECONDS
        connection.sock.settimeout(READ_SECONDS)
        return connection
    raise failed


def _connection(address: str, target: Url, seconds: float) -> HTTPConnection:
    if target.scheme == "http":
        return HTTPConnection(address, _port(target), timeout=seconds)
    # The certificate is checked for the name in the URL, with the system's authorities.
    host = str(target.host).strip("[]")
    return HTTPSConnection(address, _port(target), timeout=seconds, server_hostname=host)


def _port(target: Url) -> int:
    return target.port or _PORTS[str(target.scheme)]


def _cut(connection: HTTPConnection) -> None:
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


# What `post` raises when nothing answers.
NO_ANSWER = (OSError, ValueError, HTTPError, HTTPException)
