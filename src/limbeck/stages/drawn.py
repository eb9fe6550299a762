"""Drawn latents that sampling starts from: regenerated from the class's statistics and the winner's index."""

from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import STARTS, STATISTICS
from limbeck.selection.group import latents
from limbeck.stages.common import Spec
from limbeck.stages.draw import sampling_of
from limbeck.store import Artifact


class Drawn:
    """statistics: of inverted latents. starts: which draws from them."""

    def __init__(self, spec: Spec, statistics: Path, starts: Path):
        self.sampling, self.seed = sampling_of({"draws": spec["start"], "ipc": spec["ipc"]}), spec["seed"]
        with Artifact(statistics, STATISTICS) as found:
            self.rows = {int(label): row for row, label in enumerate(found["labels"])}
            self.means, self.variances = (found[name].reshape(len(self.rows), -1) for name in ("mean", "variance"))
        with Artifact(starts, STARTS) as found:
            self.indices = found["indices"]

    def latents(self, label: int, items: range) -> torch.Tensor:
        """(N, D) float32 of images ``items`` of a class; drawn as a whole group, so a batch changes nothing."""
        row = self.rows[label]
        group = latents(self.means[row], np.sqrt(self.variances[row]), self.indices[row], self.sampling, self.seed, label)
        return torch.from_numpy(group[items.start : items.stop])
