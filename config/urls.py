"""URLs: the operators' admin and the storefronts' API."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import set_language

from config import health
from core.admin import errors, operators, two_step
from core.api import problems

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/two-step/", admin.site.admin_view(two_step.show_state), name="two_step"),
    path("admin/two-step/begin/", admin.site.admin_view(two_step.begin), name="two_step_begin"),
    path("admin/two-step/end/", admin.site.admin_view(two_step.end), name="two_step_end"),
    path("admin/password_change/", admin.site.admin_view(operators.change_own_password)),
    path("admin/", admin.site.urls),
    path("language/", set_language, name="set_language"),
    path("api/", include("config.api_urls")),
]

handler400 = errors.page(400, "bad_request", "The request cannot be read.")
handler403 = errors.page(403, "forbidden", "This is not allowed.")
handler404 = errors.page(404, "not_found", "There is nothing at this address.")
handler500 = errors.page(500, "internal_error", problems.INTERNAL_ERROR)
