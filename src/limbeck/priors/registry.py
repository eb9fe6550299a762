"""Prior families by name."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.priors.base import Prior

# each class: __init__(folder, size, **options), and load(name, **options) -> a diffusers pipeline
FAMILIES: dict[str, tuple[str, str]] = {
    "dit": ("limbeck.priors.dit", "DitPrior"),
    "sd": ("limbeck.priors.unet", "SdPrior"),
    "sdxl": ("limbeck.priors.unet", "SdxlPrior"),
    "sdxl_refiner": ("limbeck.priors.unet", "SdxlRefiner"),
    "sd3": ("limbeck.priors.sd3", "Sd3Prior"),
}


def family(name: str) -> Any:
    """The class of a family."""
    module, cls = FAMILIES[name]
    return getattr(import_module(module), cls)


def load_prior(name: str, folder: Path, size: int, **options: Any) -> "Prior":
    """The prior stored in ``folder`` for images of side ``size``."""
    return family(name)(folder, size, **options)
