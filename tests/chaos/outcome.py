"""How a fault can end badly."""


class Lost(AssertionError):
    """Something is gone that was there, or cannot be made any more."""


class Wrong(AssertionError):
    """Something else came out, or was left over, and nobody was told."""
