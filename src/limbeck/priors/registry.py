"""Prior families by name."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limbeck.priors.base import Prior

FAMILIES: dict[str, tuple[str, str]] = {"dit": ("limbeck.priors.dit", "DitPrior")}


def load_prior(family: str, folder: Path) -> "Prior":
    """The prior stored in ``folder``."""
    module, name = FAMILIES[family]
    return getattr(import_module(module), name)(folder)
