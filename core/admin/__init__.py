"""The ground of the operators' admin, and core's own pages in it. Upper apps build on what is named here.

What follows from facts is read-only here: services write it, and the database refuses the rest.
"""

from core.admin import keys, login, operations, operators, pages, two_step, webhooks
from core.admin.drafts import DRAFT, PUBLISH, DraftAdmin
from core.admin.ground import ListAdmin, ReadOnlyAdmin, ReadOnlyInline, RowsInline, StateColumn, link
from core.admin.pages import pretty
from core.admin.programs import ProgramAdmin
from core.admin.versions import VersionedInline, VersionInline

__all__ = [
    "DRAFT",
    "PUBLISH",
    "DraftAdmin",
    "ListAdmin",
    "ProgramAdmin",
    "ReadOnlyAdmin",
    "ReadOnlyInline",
    "RowsInline",
    "StateColumn",
    "VersionInline",
    "VersionedInline",
    "keys",
    "link",
    "login",
    "operations",
    "operators",
    "pages",
    "pretty",
    "two_step",
    "webhooks",
]
