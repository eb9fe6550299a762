"""What guidance reads while sampling: a batch's prototypes, and its tangent spaces cached or online."""

from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import LATENTS, PROTOTYPES, TANGENTS
from limbeck.geometry.patch import Patch
from limbeck.guidance.base import Guidance, Tangents, Targets
from limbeck.guidance.manifold import CachedTangents, ManifoldGuidance, OnlineTangents
from limbeck.stages.common import Spec, class_rows, read_class
from limbeck.stages.tangents import class_patches
from limbeck.store import Artifact

TARGETS = ("centroids", "members", "centroid_spread", "member_spread")


class Guided:
    """The artifacts behind a method's guidance; every one is None where the method does not need it."""

    def __init__(self, spec: Spec, prototypes: Path | None = None, latents: Path | None = None, tangents: Path | None = None):
        self.spec, self.options = spec, spec["tangents"]
        self.latents = Artifact(latents, LATENTS) if latents else None
        self.cached = Artifact(tangents, TANGENTS) if tangents else None
        self.rows: dict[int, slice] = {}
        self._class: tuple[int, np.ndarray] | None = None
        if prototypes:
            with Artifact(prototypes, PROTOTYPES) as found:
                self.prototypes = {name: torch.from_numpy(found[name]) for name in TARGETS}
                self.first = {label: where.start for label, where in class_rows(found["labels"])}
        if self.latents:
            self.rows = dict(class_rows(self.latents["labels"]))

    def batch(self, label: int, items: range) -> Targets:
        """For images ``items`` of a class."""
        rows = slice(self.first[label] + items.start, self.first[label] + items.stop)
        chosen = {name: values[rows] for name, values in self.prototypes.items()}
        return Targets(**chosen, tangents=self._tangents(label, items, rows) if self.options else None)

    def _tangents(self, label: int, items: range, rows: slice) -> Tangents:
        assert self.latents is not None
        centres = self.prototypes["centroids" if self.options["target"] == "centroid" else "members"][rows].flatten(1).numpy()
        name = self.latents.attrs["classes"][label]
        points = self._points(label)
        if self.cached is None or self.options["neighbourhood"] == "synthetic":
            patches = class_patches(self.options, points, centres, self.spec["seed"], label, name, items)
        else:
            patches = self._read_patches(label, items, rows, centres, points)
        if self.cached is None:
            return OnlineTangents(patches, dict(self.options))
        read = {key: torch.from_numpy(self.cached.read(key, rows.start, rows.stop)) for key in ("neighbours", "coefficients")}
        return CachedTangents(patches, **read, estimator=self.options["estimator"])

    def _points(self, label: int) -> np.ndarray:
        """A class's latents; the last class is kept."""
        if self._class is None or self._class[0] != label:
            assert self.latents is not None
            self._class = (label, read_class(self.latents, self.rows[label]))
        return self._class[1]

    def _read_patches(self, label: int, items: range, rows: slice, centres: np.ndarray, points: np.ndarray) -> list[Patch]:
        # the stored order of the points: sorting again could break ties otherwise on another machine
        assert self.cached is not None
        read = {key: self.cached.read(key, rows.start, rows.stop) for key in ("patch", "patch_counts", "radii")}
        patches = []
        for i, item in enumerate(items):
            own = read["patch"][i][read["patch"][i] >= 0] - self.rows[label].start
            patches.append(
                Patch(centres[i], own, points[own], read["patch_counts"][i], read["radii"][i], (self.spec["seed"], label, item))
            )
        return patches

    def trace_shapes(self, n: int) -> dict[str, tuple[int, int]]:
        """Arrays that the guidance leaves beside the images."""
        return {"tangent_share": (n, self.options["t_stop"])} if self.options else {}

    def traces(self, guidance: list[Guidance]) -> dict[str, np.ndarray]:
        """Those arrays of a sampled batch."""
        shares = [g.share for g in guidance if isinstance(g, ManifoldGuidance) and g.share]
        return {"tangent_share": torch.stack(shares[0], dim=1).numpy()} if shares else {}
