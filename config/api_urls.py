"""What is below /api/: the versions of the API, its OpenAPI document and the page to try it on."""

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from core.api.middleware import local_content_only
from core.api.views import OneRepresentation

# Both are for everybody and have one form, whatever a client sends.
_OPEN = {"authentication_classes": [], "content_negotiation_class": OneRepresentation}

urlpatterns = [
    path("v1/", include("core.api.urls")),
    path("v1/", include("membership.api.urls")),
    path("v1/", include("coupons.api.urls")),
    path("v1/", include("points.api.urls")),
    path("v1/", include("referrals.api.urls")),
    path("v1/", include("analytics.api.urls")),
    path("v1/", include("storefront.api.urls")),
    path("openapi.json", SpectacularJSONAPIView.as_view(**_OPEN), name="openapi"),
    path(
        "docs/",
        local_content_only(SpectacularSwaggerSplitView.as_view(url_name="openapi", **_OPEN)),
        name="api-docs",
    ),
]
