"""Facts for retention and sums of the ledger, recomputed from what changed and never counted up."""

from django.db import models

from core.models import Program
from membership.models import Member, Tier
from points.models import Wallet


class MemberMonth(models.Model):
    """A member in a local month, from the month of the first order on.

    `tier_start` is the tier of the program's main ladder as of the first instant of the month. Amounts in
    the program's currency; refunds count in the month they were given. Program and tier come from the member's
    own rows, so only the member is checked by the database: two more checks would triple the cost of a refresh.
    """

    pk = models.CompositePrimaryKey("member_id", "month")
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    month = models.DateField()
    first_month = models.DateField()
    tier_start = models.ForeignKey(
        Tier, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False
    )
    orders = models.IntegerField()
    net_minor = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(name="membermonth_cells", fields=["program", "month"])]

    def __str__(self) -> str:
        return f"{self.member_id} {self.month}"


class DirtyMonth(models.Model):
    """Facts or tiers of this member changed from this month on: recompute its months."""

    pk = models.CompositePrimaryKey("member_id", "since")
    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    since = models.DateField()

    def __str__(self) -> str:
        return f"{self.member_id} from {self.since}"


class WalletDay(models.Model):
    """What moved in a wallet on a local day, over all members: a projection of the ledger.

    Outstanding points grow by earned + adjusted - redeemed - expired - clawed_back. A reversal gives back what was
    redeemed; `adjusted` is what operators gave less what they took. `refreshed_at`: when the day was last summed.
    """

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    earned = models.BigIntegerField()
    redeemed = models.BigIntegerField()
    expired = models.BigIntegerField()
    clawed_back = models.BigIntegerField()
    adjusted = models.BigIntegerField()
    refreshed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="walletday_once", fields=["wallet", "day"])]

    def __str__(self) -> str:
        return f"{self.wallet_id} {self.day}"
