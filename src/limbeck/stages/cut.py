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
        self._places: tuple[np.ndarray, np.ndarray] | None = None
        if "windows" in self:  # the first rows of all images and the end of the last, and every window's corner
            self._places = np.append(np.flatnonzero(self["windows"] == 0), len(self)), self["corners"]

    def image(self, row: int) -> np.ndarray:
        """The image (H, W, channels) whose first row that is."""
        if self._places is None:
            return self.read("images", row, row + 1)[0]
        firsts, corners = self._places
        stop = int(firsts[np.searchsorted(firsts, row, side="right")])
        return joined(self.read("images", row, stop), corners[row:stop])

    def cut(self, row: int, box: np.ndarray) -> np.ndarray:
        """The patch (side, side, channels) of that image at ``box``: top, left, side."""
        top, left, side = map(int, box)
        return self.image(row)[top : top + side, left : left + side]
