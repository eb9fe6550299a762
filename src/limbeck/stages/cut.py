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

    def cut(self, row: int, box: np.ndarray) -> np.ndarray:
        """The patch (side, side, channels) at ``box`` (top, left, side) of the image whose first row that is."""
        top, left, side = map(int, box)
        if self._windows is None:
            image = self.read("images", row, row + 1)[0]
        else:
            following = np.flatnonzero(self._windows["windows"][row + 1 :] == 0)
            stop = row + 1 + int(following[0]) if len(following) else len(self)
            image = joined(self.read("images", row, stop), self._windows["corners"][row:stop])
        return image[top : top + side, left : left + side]
