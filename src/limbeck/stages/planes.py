"""Tangent spaces of a batch while it is sampled: read from the stage ``tangents``, or computed at the actual x_t."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import LATENTS, TANGENTS
from limbeck.devices import cores, device
from limbeck.diffusion.levels import Level
from limbeck.geometry.patch import Patch
from limbeck.guidance.ahead import Ahead, BatchedTangents
from limbeck.guidance.base import Targets
from limbeck.guidance.manifold import CachedTangents, OnlineTangents
from limbeck.stages.common import Spec, class_rows, read_class
from limbeck.stages.tangents import class_patches
from limbeck.store import Artifact


class Planes:
    """latents: of the shard. tangents: None for ``query: online``. grid: the levels of the solver's steps."""

    def __init__(self, spec: Spec, latents: Path, tangents: Path | None, grid: Sequence[Level] = ()):
        # beside a GPU the CPU's cores are idle; on the CPU they are not
        self.grid, self.workers = grid, 0 if device().type == "cpu" else cores()
        self.options, self.seed = spec["tangents"], spec["seed"]
        self.latents = Artifact(latents, LATENTS)
        self.cached = Artifact(tangents, TANGENTS) if tangents else None
        self.rows = dict(class_rows(self.latents["labels"]))
        self._class: tuple[int, np.ndarray] | None = None

    def add(self, targets: Targets, label: int, items: range, rows: slice) -> Targets:
        """Targets of images ``items`` of a class, which are ``rows`` of the shard's artifacts, with their tangents."""
        centres = targets.prototype(self.options["target"]).flatten(1).numpy()
        if self.cached is None or self.options["neighbourhood"] == "synthetic":
            name = self.latents.attrs["classes"][label]
            patches = class_patches(self.options, self._points(label), centres, self.seed, label, name, items)
        else:
            patches = self._read_patches(label, items, rows, centres)
        if self.cached is None:
            return replace(targets, tangents=self._online(patches, dict(self.options)))
        read = {key: self.cached.read(key, rows.start, rows.stop) for key in ("neighbours", "coefficients")}
        cached = CachedTangents(patches, **read, estimator=self.options["estimator"])
        return replace(targets, tangents=Ahead(cached, self.grid, self.workers) if self.workers else cached)

    def _online(self, patches: list[Patch], options: dict[str, Any]) -> OnlineTangents | BatchedTangents:
        if self.workers and BatchedTangents.fits(patches, options):
            return BatchedTangents(patches, options, self.grid, self.workers)
        return OnlineTangents(patches, options)

    def _points(self, label: int) -> np.ndarray:
        """A class's latents; the last class is kept."""
        if self._class is None or self._class[0] != label:
            self._class = (label, read_class(self.latents, self.rows[label]))
        return self._class[1]

    def _read_patches(self, label: int, items: range, rows: slice, centres: np.ndarray) -> list[Patch]:
        # the stored order of the points: sorting again could break ties otherwise on another machine
        assert self.cached is not None
        points = self._points(label)
        read = {key: self.cached.read(key, rows.start, rows.stop) for key in ("patch", "patch_counts", "radii")}
        patches = []
        for i, item in enumerate(items):
            own = read["patch"][i][read["patch"][i] >= 0] - self.rows[label].start
            counts, radii = read["patch_counts"][i], read["radii"][i]
            patches.append(Patch(centres[i], own, points[own], counts, radii, (self.seed, label, item)))
        return patches
