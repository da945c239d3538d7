"""Parts of addresses: the storefront's own ids."""

from django.urls import register_converter

from core.api.paths import SLASH


class ExternalIdConverter:
    """An external id: one segment of a path, in which the slashes of the id are encoded."""

    regex = r"[^/\x00-\x1f\x7f]{1,200}"

    def to_python(self, value: str) -> str:
        """Return the id."""
        return value.replace(SLASH, "/")

    def to_url(self, value: str) -> str:
        """Return the id; Django quotes it."""
        return value


register_converter(ExternalIdConverter, "ext")
