"""What every discovery returns for one class."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Found:
    """Prototypes of one class.

    indices: (IPC,) rows of the class's images, distinct. counts: (IPC,) images each stands for.
    centroids: (IPC, D) mean latents, or None where no latents were asked for.
    """

    indices: np.ndarray
    counts: np.ndarray
    centroids: np.ndarray | None


# discover(latents (N, D) or None, n images, IPC, options, seed, class) -> Found
Options = dict[str, Any]
