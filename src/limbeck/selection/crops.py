"""Random crops of an image, as RDED draws them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def random_boxes(rng: np.random.Generator, size: int, options: Mapping[str, Any]) -> np.ndarray:
    """(crops, 3) top, left and side of square crops of an image of side ``size``: their area is uniform in ``crop_area``, as a
    share of the image's, their place uniform.
    """
    low, high = options["crop_area"]
    areas = rng.uniform(low, high, options["crops"])
    sides = np.clip(np.round(size * np.sqrt(areas)), 1, size).astype(np.int64)
    places = np.array([[math.floor(u * (size - side + 1)) for u in rng.random(2)] for side in sides])
    return np.concatenate([places, sides[:, None]], axis=1)
