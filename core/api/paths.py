"""Ids with slashes in addresses: `orders/2026%2F00017/cancel` is about the order 2026/00017.

WSGI hands on the address decoded, where an encoded slash looks like any other. Servers say beside it how it was sent;
from that, a slash of an id is kept apart as SLASH until `core.api.converters` makes it one again.
"""

from urllib.parse import unquote_to_bytes

from django.http import HttpRequest
from django.urls import Resolver404, resolve
from django.utils.encoding import escape_uri_path, repercent_broken_unicode

# Half of a surrogate pair: no decoded address has one.
SLASH = "\udc2f"
# As gunicorn calls it, and as uWSGI and mod_wsgi do.
_SENT_AS = ("RAW_URI", "REQUEST_URI")
# /api/v1/<what>/<its id>: where ids stand.
_SEGMENTS_BEFORE_ID = 4
MOST_SLASHES = 8


def keep_slashes(request: HttpRequest) -> None:
    """Let the path that the views are found by tell the slashes of ids from those between segments."""
    sent = next((request.META[name] for name in _SENT_AS if name in request.META), None)
    if sent is None:
        request.path_info = _guess(request.path_info)
    elif "%2f" in sent.lower():
        path = sent.partition("?")[0]
        path = path[path.find("/", path.find("://") + 3) :] if "://" in path else path
        kept = "/".join(_decode(segment).replace("/", SLASH) for segment in path.split("/"))
        if kept.replace(SLASH, "/") == request.path:
            request.path_info = kept[len(request.path) - len(request.path_info) :]


def sent_path(request: HttpRequest) -> str:
    """Return the path of a request as an address has it, percent-encoded."""
    mount = request.path[: len(request.path) - len(request.path_info)]
    return "%2F".join(escape_uri_path(part) for part in (mount + request.path_info).split(SLASH))


def _decode(segment: str) -> str:
    return repercent_broken_unicode(unquote_to_bytes(segment)).decode()


def _guess(path: str) -> str:
    """Return a path of a server that does not say how it was sent, the shortest id with slashes that makes it one."""
    segments = path.split("/")
    before, rest = segments[:_SEGMENTS_BEFORE_ID], segments[_SEGMENTS_BEFORE_ID:]
    for slashes in range(min(len(rest), MOST_SLASHES + 1)):
        guessed = "/".join([*before, SLASH.join(rest[: slashes + 1]), *rest[slashes + 1 :]])
        try:
            resolve(guessed)
        except Resolver404:
            continue
        return guessed
    return path
