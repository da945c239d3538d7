"""The admin pages that span apps: the dashboard, a member seen whole, and what operators do for them."""

from django.contrib import admin

from storefront.admin import checkouts, day_closes, member_page

__all__ = ["checkouts", "day_closes", "member_page"]

admin.site.index_template = "storefront/dashboard.html"
