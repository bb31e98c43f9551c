"""Models of one size: the width with which each has so many parameters."""

from __future__ import annotations

from collections.abc import Callable


def closest(count: Callable[[int], int], budget: int, name: str, tolerance: float = 0.02) -> int:
    """The width whose number of parameters comes closest to a budget.

    Args:
        count: the number of parameters by width, growing with it.
        budget: how many there should be.
        name: of the model, for what is said.
        tolerance: how far off they may be, as a fraction of the budget.

    Raises:
        ValueError: where they are further off.
    """
    low, high = 1, 2
    while count(high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    sizes = {width: count(width) for width in (low, high)}
    best = min(sizes, key=lambda width: abs(sizes[width] - budget))
    if abs(sizes[best] - budget) > tolerance * budget:
        words = " and ".join(f"{size:,} at width {width}" for width, size in sizes.items())
        raise ValueError(
            f"budget: expected what {name} can have within {tolerance:.0%}, such as {words}, got {budget:,}."
        )
    return best
