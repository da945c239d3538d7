"""What is below /api/: the versions of the API, its OpenAPI document and the page to try it on."""

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

urlpatterns = [
    path("v1/", include("core.api.urls")),
    path("v1/", include("membership.api.urls")),
    path("v1/", include("points.api.urls")),
    path("v1/", include("storefront.api.urls")),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="openapi"), name="api-docs"),
]
