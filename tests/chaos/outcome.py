"""What a fault is, and how it can end badly."""

from collections.abc import Callable

# what it is, function(count, seed) -> how many were tried, count of the tests, count of the long run
Fault = tuple[str, Callable[[int, int], int], int, int]


class Lost(AssertionError):
    """Something is gone that was there, or cannot be made any more."""


class Wrong(AssertionError):
    """Something else came out, or was left over, and nobody was told."""
