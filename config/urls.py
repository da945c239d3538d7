"""URLs: the operators' admin and the storefronts' API."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from core.api import problems

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/", include("config.api_urls")),
]

handler400 = problems.page(400, "bad_request", "The request cannot be read.")
handler403 = problems.page(403, "forbidden", "This is not allowed.")
handler404 = problems.page(404, "not_found", "There is nothing at this address.")
handler500 = problems.page(500, "internal_error", "Something went wrong on our side; nothing was written.")
