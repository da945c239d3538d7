"""One read with a nested serializer; writes that lock, insert and update."""

import json
from typing import Any

from django.db import connection, transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from coupons.models import CouponDefinitionVersion
from membership.models import Member, TierPeriod


class MemberSerializer(serializers.ModelSerializer[Member]):
    class Meta:
        model = Member
        fields = ["external_id", "kind", "status", "locale", "country", "birthday", "consents", "joined_at"]


class PeriodSerializer(serializers.ModelSerializer[TierPeriod]):
    member = MemberSerializer()

    class Meta:
        model = TierPeriod
        fields = ["member", "tier", "version", "valid_from", "recorded_at", "cause", "guaranteed_until", "evidence"]


class MemberView(APIView):
    def get(self, _request: Request, member: str) -> Response:
        """Return what a member holds."""
        periods = TierPeriod.objects.select_related("member").filter(member__external_id=member, superseded_at=None)
        return Response(PeriodSerializer(periods.order_by("-valid_from")[0]).data)


class OrderSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(max_length=200)
    member = serializers.CharField(max_length=200)
    paid_at = serializers.DateTimeField()
    currency = serializers.CharField(max_length=3)
    amount_minor = serializers.IntegerField(min_value=0)


class OrderView(APIView):
    @transaction.atomic
    def post(self, request: Request) -> Response:
        """Lock the member, insert the order, update the balance."""
        serializer = OrderSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        told = serializer.validated_data
        member = Member.objects.select_for_update().get(external_id=told["member"])
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO bench_order (external_id, member_id, paid_at, currency, amount_minor)"
                " VALUES (%s, %s, %s, %s, %s) RETURNING id",
                [told["external_id"], member.pk, told["paid_at"], told["currency"], told["amount_minor"]],
            )
            cursor.execute(
                "UPDATE bench_balance SET points = points + %s WHERE member_id = %s RETURNING points",
                [told["amount_minor"] // 100, member.pk],
            )
            points = cursor.fetchone()[0]
        return Response({**serializer.data, "points": points}, status=201)


class RefundLineSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(max_length=200)
    order_line = serializers.CharField(max_length=200)
    units = serializers.IntegerField(min_value=1)
    amount_minor = serializers.IntegerField(min_value=0)


class RefundSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(max_length=200)
    member = serializers.CharField(max_length=200)
    order = serializers.CharField(max_length=200)
    refunded_at = serializers.DateTimeField()
    currency = serializers.CharField(max_length=3)
    amount_minor = serializers.IntegerField(min_value=0)
    lines = RefundLineSerializer(many=True)


class RefundView(APIView):
    @transaction.atomic
    def post(self, request: Request) -> Response:
        """Lock the order, insert the refund, update the balance."""
        serializer = RefundSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        told = serializer.validated_data
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, member_id FROM bench_order WHERE external_id = %s FOR UPDATE", [told["order"]])
            order_id, member_id = cursor.fetchone()
            cursor.execute(
                "INSERT INTO bench_refund (external_id, order_id, refunded_at, amount_minor, lines)"
                " VALUES (%s, %s, %s, %s, %s)",
                [told["external_id"], order_id, told["refunded_at"], told["amount_minor"], json.dumps(told["lines"])],
            )
            cursor.execute(
                "UPDATE bench_balance SET points = points - %s WHERE member_id = %s RETURNING points",
                [told["amount_minor"] // 100, member_id],
            )
            points = cursor.fetchone()[0]
        return Response({**serializer.data, "points": points}, status=201)


class BasketLineSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(max_length=200)
    sku = serializers.CharField(max_length=200)
    units = serializers.IntegerField(min_value=1)
    list_minor = serializers.IntegerField(min_value=0)


class BasketSerializer(serializers.Serializer[Any]):
    member = serializers.CharField(max_length=200)
    currency = serializers.CharField(max_length=3)
    shipping_minor = serializers.IntegerField(min_value=0)
    lines = BasketLineSerializer(many=True)


class CheckoutView(APIView):
    @transaction.atomic
    def post(self, request: Request) -> Response:
        """Read the member and the shop's coupons, keep the basket, answer its sum."""
        serializer = BasketSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        told = serializer.validated_data
        member = Member.objects.get(external_id=told["member"])
        coupons = CouponDefinitionVersion.objects.filter(owner__program=member.program_id, status="published")
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO bench_checkout (member_id, body) VALUES (%s, %s)", [member.pk, json.dumps(told)]
            )
        total = sum(line["list_minor"] for line in told["lines"]) + told["shipping_minor"]
        return Response({**serializer.data, "coupons": len(coupons), "amount_minor": total}, status=201)
