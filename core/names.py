"""What a shop calls its goods, as it is compared: by coupons and by earn rules alike."""


def fold(name: str) -> str:
    """Return what is compared of a sku or a category: `Gift` in a basket is the `gift` that a definition names."""
    return name.strip().casefold()
