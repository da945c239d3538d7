"""Coupons as marketing and support see them: definitions, codes, claims, and what redeeming them took off."""

from coupons.admin import codes, definitions, usage

__all__ = ["codes", "definitions", "usage"]
