"""Building a student from its row of the registry."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError

if TYPE_CHECKING:
    from torch import nn


def construct(row: Mapping[str, Any], channels: int, classes: int, size: int) -> "nn.Module":
    """An untrained student for images (channels, size, size); draws from torch's current random state.

    Raises
    ------
    LimbeckError: an image size that it does not have.
    """
    if complaint := misfit(row, size):
        raise LimbeckError(f"student {row['name']}: {complaint}")
    return getattr(import_module(row["module"]), row["factory"])(channels, classes, size, **row["options"])


def misfit(row: Mapping[str, Any], size: int) -> str | None:
    """Why a student does not take images of a size; None if it does."""
    if size < row["smallest"]:
        return f"image side {size} is less than {row['smallest']}"
    return f"image side {size} is not a multiple of {row['side']}" if size % row["side"] else None
