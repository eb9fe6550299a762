"""What guidance reads while sampling: a batch's prototypes, and where a method has them, its tangent spaces."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import PROTOTYPES, TARGETS
from limbeck.components import PLANES
from limbeck.diffusion.levels import Level
from limbeck.guidance.base import Guidance, Targets
from limbeck.stages.common import Spec, class_rows
from limbeck.store import Artifact

NAMES = ("centroids", "members", "centroid_spread", "member_spread")


class Guided:
    """The artifacts behind a method's guidance; every one is None where the method does not need it.

    grid: the levels of the solver's steps.
    """

    def __init__(
        self,
        spec: Spec,
        prototypes: Path | None = None,
        targets: Path | None = None,
        latents: Path | None = None,
        tangents: Path | None = None,
        grid: Sequence[Level] = (),
    ):
        self.options = spec["tangents"]
        # by name, so that an edit there reruns only methods with tangents
        self.planes = import_module(PLANES).Planes(spec, latents, tangents, grid) if self.options else None
        if path := targets or prototypes:  # re-encoded ones have neither means nor spreads
            with Artifact(path, TARGETS if targets else PROTOTYPES) as found:
                self.prototypes = {name: torch.from_numpy(found[name]) for name in NAMES if name in found}
                self.first = {label: where.start for label, where in class_rows(found["labels"])}

    def batch(self, label: int, items: range) -> Targets:
        """For images ``items`` of a class."""
        rows = slice(self.first[label] + items.start, self.first[label] + items.stop)
        given = {name: values[rows] for name, values in self.prototypes.items()}
        chosen = Targets(given["members"], given.get("centroids"), given.get("centroid_spread"), given.get("member_spread"))
        return self.planes.add(chosen, label, items, rows) if self.planes else chosen

    def trace_shapes(self, n: int) -> dict[str, tuple[int, int]]:
        """Arrays that the guidance leaves beside the images."""
        return {"tangent_share": (n, self.options["t_stop"])} if self.options else {}

    def traces(self, guidance: list[Guidance]) -> dict[str, np.ndarray]:
        """Those arrays of a sampled batch."""
        shares = [share for g in guidance if (share := getattr(g, "share", None))]
        return {"tangent_share": torch.stack(shares[0], dim=1).cpu().numpy()} if shares else {}
