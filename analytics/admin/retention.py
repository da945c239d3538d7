"""The page Retention: charts, each beside its table and a sentence, from the stored cells alone."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics import grids, retention, rules, sentences
from analytics.exports import report_csv, restatements_csv
from analytics.models import Report, Restatement, RetentionState
from analytics.retention import Filters, Ground, Row
from core.admin.ground import ReadOnlyAdmin
from core.models import Program

RESTATEMENTS_SHOWN = 20
# A filter's value for first orders that named none.
NONE = "-"


class FilterForm(forms.Form):
    """What to show. A program that is not named is the first."""

    program = forms.ModelChoiceField(
        Program.objects.order_by("is_sandbox", "code"), to_field_name="code", required=False
    )
    since = forms.DateField(input_formats=["%Y-%m"], required=False)
    until = forms.DateField(input_formats=["%Y-%m"], required=False)
    market = forms.CharField(max_length=63, required=False)
    country = forms.CharField(max_length=63, required=False)
    channel = forms.CharField(max_length=63, required=False)
    tier = forms.CharField(max_length=63, required=False)

    def filters(self, ground: Ground) -> Filters:
        """Return what the cells are filtered by; months in the wrong order change places."""
        asked, shown = self.cleaned_data, ground.last_months
        until = asked.get("until") or shown.until
        since, until = sorted([asked.get("since") or min(shown.since, until), until])
        cuts = {cut: "" if asked[cut] == NONE else asked[cut] for cut in retention.CUTS if asked.get(cut)}
        return Filters(since, until, asked.get("tier") or None, cuts)


@admin.register(RetentionState)
class RetentionAdmin(ReadOnlyAdmin):
    fields = ("program", "watermark", "definition_version", "refreshed_at")

    def get_urls(self) -> list[URLPattern]:
        """Have one page."""
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="analytics_retentionstate_changelist")]

    def changelist_view(self, request: HttpRequest, _extra: Any = None) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = FilterForm(request.GET)
        form.is_valid()  # what cannot be read is left out
        programs = list(Program.objects.order_by("is_sandbox", "code"))
        program = form.cleaned_data.get("program") or next(iter(programs), None)
        context = {**self.admin_site.each_context(request), "title": gettext("Retention"), "opts": self.opts}
        request.current_app = self.admin_site.name
        if program is None:
            return TemplateResponse(request, "analytics/retention.html", context)
        ground = retention.get_ground(program=program)
        filters = form.filters(ground)
        if (wanted := request.GET.get("csv", "")) in retention.REPORTS:
            return report_csv(wanted, retention.REPORTS[wanted].read(ground=ground, filters=filters))
        if wanted == "restatements":
            return restatements_csv(retention.list_restatements(program=program, cuts=filters.cuts))
        context |= _page(ground, filters) | {"programs": programs, "csv": _csv_links(request)}
        return TemplateResponse(request, "analytics/retention.html", context)


def _csv_links(request: HttpRequest) -> dict[str, str]:
    """Return the addresses of the files, by report, with a name that templates can read."""
    links = {}
    for report in (*retention.REPORTS, "restatements"):
        query = request.GET.copy()
        query["csv"] = report
        links[report.replace("-", "_")] = f"?{query.urlencode()}"
    return links


def _page(ground: Ground, filters: Filters) -> dict[str, Any]:
    """Return what the page shows of a program."""
    names = {tier.code: tier.name for tier in ground.tiers.values()}
    rows = {name: report.read(ground=ground, filters=filters) for name, report in retention.REPORTS.items()}
    cycle = retention.get_cycle(ground=ground, filters=filters)
    moves = _last_moves(rows["migration"])
    active, cohorts = grids.active_grid(rows["active-rate"], names), grids.cohort_grid(rows["cohorts"])
    restatements = retention.list_restatements(program=ground.program, cuts=filters.cuts)[: RESTATEMENTS_SHOWN + 1]
    return {
        "ground": ground,
        "filters": filters,
        "choices": _choices(ground, filters),
        "settle_days": rules.SETTLE_DAYS,
        "follow_up_days": rules.FOLLOW_UP_DAYS,
        "active": active,
        "active_text": sentences.say_active_rate(rows["active-rate"], names),
        "cohorts": cohorts,
        "cohort_text": sentences.say_cohort(rows["cohorts"]),
        "days": grids.day_grid(rows["day-n"]),
        "day_text": sentences.say_bracket(rows["day-n"]),
        "survival": [(row.key["day"], grids.Cell(row.figure)) for row in rows["survival"]],
        "survival_line": grids.survival_line(rows["survival"]),
        "survival_text": sentences.say_survival(rows["survival"]),
        "moves_month": moves[0].key["month"] if moves else None,
        "moves": grids.migration_grid(moves, names),
        "moves_flows": grids.migration_flows(moves, names),
        "moves_text": sentences.say_migration(moves, names),
        "repurchase_text": sentences.say_repurchase(rows["repurchase"], cycle),
        "repurchases": [(row.key["entry_month"], grids.Cell(row.figure)) for row in rows["repurchase"]],
        "restatements": [_restated(one) for one in restatements[:RESTATEMENTS_SHOWN]],
        "has_more_restatements": len(restatements) > RESTATEMENTS_SHOWN,
    }


def _last_moves(rows: list[Row]) -> list[Row]:
    """Return the moves at the last month start that something is said of."""
    last: date | None = max((row.key["month"] for row in rows if row.figure.n), default=None)
    return [row for row in rows if row.key["month"] == last]


def _choices(ground: Ground, filters: Filters) -> list[tuple[str, Any, list[tuple[str, str, bool]]]]:
    """Return each list to choose from: its name, its label, and (value, text, whether it is chosen)."""
    labels = {"market": _("Market"), "country": _("Country"), "channel": _("Channel")}
    found = []
    for cut, values in retention.list_cut_values(program=ground.program).items():
        options = [(value or NONE, value or gettext("not named"), filters.cuts.get(cut) == value) for value in values]
        found.append((cut, labels[cut], [("", gettext("All"), cut not in filters.cuts), *options]))
    tiers = [(tier.code, tier.name, tier.code == filters.tier) for tier in ground.tiers.values()]
    which = _("Tier (held in rates and moves, at entry in the others)")
    found.append(("tier", which, [("", gettext("All"), filters.tier is None), *tiers]))
    return found


def _restated(one: Restatement) -> dict[str, Any]:
    """Return a restatement as a line of the table."""
    cell = one.get_report_display()
    if one.report in (Report.COHORT, *retention.DAY_MEASURES):
        cell = f"{cell}, {one.step}"
    tiers = " → ".join(tier.name for tier in (one.tier, one.to_tier) if tier)
    return {
        "cell": f"{cell}, {tiers}" if tiers else cell,
        "month": one.period,
        "before": f"{one.retained_before} / {one.n_before}",
        "after": f"{one.retained_after} / {one.n_after}",
        "at": one.recorded_at,
        "cause": one.get_cause_display(),
    }
