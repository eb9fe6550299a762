"""Patches of stored images, cut out of the one or the several rows that an image has."""

from pathlib import Path

import numpy as np

from limbeck.artifacts import IMAGES
from limbeck.data.preprocessing import joined
from limbeck.store import Artifact


class Cutter(Artifact):
    """The images that patches are cut from."""

    def __init__(self, path: Path):
        super().__init__(path, IMAGES)
        self._windows = {name: self[name] for name in ("windows", "corners")} if "windows" in self else None

    def image(self, row: int) -> np.ndarray:
        """The image (H, W, channels) whose first row that is."""
        if self._windows is None:
            return self.read("images", row, row + 1)[0]
        following = np.flatnonzero(self._windows["windows"][row + 1 :] == 0)
        stop = row + 1 + int(following[0]) if len(following) else len(self)
        return joined(self.read("images", row, stop), self._windows["corners"][row:stop])

    def cut(self, row: int, box: np.ndarray) -> np.ndarray:
        """The patch (side, side, channels) of that image at ``box``: top, left, side."""
        top, left, side = map(int, box)
        return self.image(row)[top : top + side, left : left + side]
