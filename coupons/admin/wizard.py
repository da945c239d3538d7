"""A coupon described by filling in a form: what its definition says comes out as program files say it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from core.calendar import day_start
from core.definitions import as_written
from core.models import Program
from core.services import drafts
from core.yaml_file import write_yaml
from coupons.definitions import FIRST_YEAR, LAST_YEAR, MOST_SHARDS
from coupons.models import CouponDefinition
from coupons.program_section import COUPON

# What a refusal of the definition is about, where it is no field of the same name.
_FIELD_OF = {"starts_at": "first_day", "ends_at": "last_day"}


class AmountsField(forms.CharField):
    """Amounts by currency, as `GBP 10.00, EUR 12.00`."""

    def clean(self, value: Any) -> Any:
        """Return a mapping from currency to decimal text."""
        parts = [part.split() for part in str(super().clean(value)).replace(";", ",").split(",") if part.strip()]
        if any(len(part) != 2 for part in parts):
            raise forms.ValidationError(gettext("Write a currency and an amount, such as GBP 10.00."), code="amounts")
        amounts = {currency.upper(): amount for currency, amount in parts}
        if len(amounts) != len(parts):
            raise forms.ValidationError(gettext("Name each currency once."), code="amounts")
        return amounts


class ListField(forms.CharField):
    """Words with commas between them."""

    def clean(self, value: Any) -> Any:
        """Return the words."""
        return [word.strip() for word in str(super().clean(value)).split(",") if word.strip()]


def _text(label: Any, help_text: Any = "", **options: Any) -> forms.CharField:
    return forms.CharField(label=label, help_text=help_text, widget=UnfoldAdminTextInputWidget, **options)


def _list(label: Any, help_text: Any = "") -> ListField:
    return ListField(label=label, help_text=help_text, required=False, widget=UnfoldAdminTextInputWidget)


def _amounts(label: Any, help_text: Any) -> AmountsField:
    return AmountsField(label=label, help_text=help_text, required=False, widget=UnfoldAdminTextInputWidget)


def _number(label: Any, help_text: Any = "", **options: Any) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, help_text=help_text, widget=UnfoldAdminIntegerFieldWidget, required=False, **options
    )


def _choice(label: Any, choices: list[tuple[str, Any]], help_text: Any = "") -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label, choices=choices, initial=choices[0][0], help_text=help_text, widget=UnfoldAdminSelectWidget
    )


def _yes(label: Any, help_text: Any = "") -> forms.BooleanField:
    return forms.BooleanField(label=label, help_text=help_text, required=False, widget=UnfoldBooleanWidget)


def _day(label: Any, help_text: Any) -> forms.DateField:
    widget = UnfoldAdminTextInputWidget(attrs={"type": "date"})
    years = [MinValueValidator(date(FIRST_YEAR, 1, 2)), MaxValueValidator(date(LAST_YEAR, 12, 30))]
    return forms.DateField(label=label, help_text=help_text, required=False, widget=widget, validators=years)


class CouponForm(forms.Form):
    """All that a coupon's definition can say."""

    program = forms.ModelChoiceField(
        Program.objects.all(), label=_("Program"), empty_label=None, widget=UnfoldAdminSelectWidget
    )
    code = _text(_("Code"), _("Lower-case letters, digits, - and _. It names the coupon for good."), max_length=63)
    name = _text(_("Name"), _("What members read."), max_length=200)

    kind = _choice(
        _("Discount"),
        [("percent", _("A percentage")), ("amount", _("An amount")), ("free_shipping", _("Free shipping"))],
    )
    percent = _text(_("Percentage"), _("For a percentage, such as 12.5."), required=False, max_length=8)
    amount = _amounts(_("Amount"), _("For an amount. By currency: GBP 10.00, EUR 12.00."))
    at_most = _amounts(_("At most"), _("For a percentage or free shipping, by currency. Empty: no cap."))

    threshold = _amounts(_("Minimum of the order"), _("List prices, by currency. Empty: none."))
    skus = _list(_("SKUs"), _("The goods that it is for, with commas between them. Empty: all."))
    categories = _list(_("Categories"))
    exclude_skus = _list(_("SKUs left out"))
    exclude_categories = _list(_("Categories left out"))

    first_day = _day(_("First day"), _("In the program's time zone. Empty: from its publication on."))
    last_day = _day(_("Last day"), _("The whole of that day counts. Empty: until it is ended."))
    valid_days = _number(_("Days after issue"), _("To the end of so many days after a member got it."), min_value=0)

    how = _choice(
        _("How members get it"),
        [
            ("issued", _("It is issued to them")),
            ("claimed", _("They take it")),
            ("code", _("They type a code")),
            ("automatic", _("It applies by itself")),
        ],
    )
    tiers = _list(_("Tiers"), _("Codes of the tiers that it is for. Empty: all."))
    markets = _list(_("Markets"), _("Codes of the markets that it is for. Empty: all."))
    first_order = _yes(_("For a first order only"))
    new_member_days = _number(_("New members only"), _("So many days after joining. Empty: for all."), min_value=0)

    exclusive = _yes(_("No other coupon beside it"))
    stack_group = _text(_("Group"), _("At most one coupon of a group in an order."), required=False, max_length=63)
    priority = _number(_("Priority"), _("The smaller goes first where coupons take off all there is."), initial=0)

    per_member = _number(_("Per member"), _("How many one member may have. Empty: no limit."), min_value=1)
    once_per_person = _yes(
        _("Once per person"),
        _("Of accounts with one e-mail address, card or device one gets it. Needs 1 per member."),
    )
    limit = _number(_("For all"), _("How many there are. Empty: no limit."), min_value=1)
    shards = _number(
        _("Counters"), _("1; up to 16 for a rush on a large limit."), initial=1, min_value=1, max_value=MOST_SHARDS
    )
    on_cancel = _choice(
        _("When the shop cancels the order"),
        [("restore", _("The member gets it back")), ("keep", _("The coupon stays used"))],
    )
    on_refund = _choice(
        _("When the whole order is returned"),
        [("keep", _("The coupon stays used")), ("restore", _("The member gets it back"))],
    )
    restore_days = _number(
        _("Days after it is given back"),
        _("What a member gets back can be used for so many days at least. Empty: what is over by then is lost."),
        min_value=0,
    )

    SECTIONS = (
        (_("Coupon"), ("program", "code", "name")),
        (_("What it takes off"), ("kind", "percent", "amount", "at_most")),
        (_("Off what"), ("threshold", "skus", "categories", "exclude_skus", "exclude_categories")),
        (_("When"), ("first_day", "last_day", "valid_days")),
        (_("For whom"), ("how", "tiers", "markets", "first_order", "new_member_days")),
        (_("Beside other coupons"), ("exclusive", "stack_group", "priority")),
        (_("How many"), ("per_member", "once_per_person", "limit", "shards")),
        (_("When the order comes back"), ("on_cancel", "on_refund", "restore_days")),
    )

    def sections(self) -> list[tuple[Any, list[forms.BoundField]]]:
        """Return the fields under their titles."""
        return [(title, [self[name] for name in names]) for title, names in self.SECTIONS]

    def text(self) -> str:
        """Return the definition as program files say it."""
        told: dict[str, Any] = dict(self.cleaned_data)
        zone = told["program"].time_zone
        first, last = told["first_day"], told["last_day"]
        document = {
            "name": told["name"],
            "discount": self._discount(),
            **{key: told[key] for key in ("threshold", "skus", "categories", "exclude_skus", "exclude_categories")},
            "starts_at": day_start(first, zone).isoformat() if first else None,
            "ends_at": day_start(last + timedelta(days=1), zone).isoformat() if last else None,
            **{key: told[key] for key in ("valid_days", "how", "tiers", "markets", "first_order", "new_member_days")},
            **{key: told[key] for key in ("exclusive", "stack_group", "priority")},
            **{key: told[key] for key in ("per_member", "once_per_person", "limit", "shards")},
            **{key: told[key] for key in ("on_cancel", "on_refund", "restore_days")},
        }
        return write_yaml({key: value for key, value in document.items() if value not in (None, "", [], {})})

    def _discount(self) -> dict[str, Any]:
        told = self.cleaned_data
        if told["kind"] == "amount":
            return {"amount": told["amount"]}
        kind = (
            {"percent": f"{told['percent'].strip().removesuffix('%')}%"}
            if told["kind"] == "percent"
            else {"free_shipping": True}
        )
        return kind | ({"at_most": told["at_most"]} if told["at_most"] else {})

    def place(self, problems: list[str]) -> list[str]:
        """Put each problem of the definition beside its field; return those that have none."""
        left = []
        for problem in problems:
            path, _colon, reason = problem.partition(": ")
            keys = path.removeprefix("coupon.").replace("[", ".").split(".")
            key = keys[1] if keys[0] == "discount" and len(keys) > 1 else keys[0]
            field = _FIELD_OF.get(key, key)
            if field in self.fields:
                self.add_error(field, reason)
            else:
                left.append(problem)
        return left


def preview_draft(*, program: Program, code: str, text: str) -> str:
    """Return the definition that a YAML text says, written out in full.

    Raises: DraftRefused (invalid: the code is malformed or taken, or the definition is wrong).
    """
    drafts.check_code(CouponDefinition, program, code)
    coupon = CouponDefinition(program=program, code=code)
    return drafts.as_text(COUPON, coupon, as_written(drafts.read_text(COUPON, coupon, text), program.currency))
