"""Checkouts: a basket is quoted, held, and paid by an order that names it, or released, or lapses."""
