"""ManifoldGD: mode guidance kept in the tangent space of the local diffusion manifold.

Source: Roy et al., ManifoldGD, Eq. 4 and Sec. 3.3; reading in docs/methods/manifoldgd.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.diffusion.levels import Level
from limbeck.geometry.annealing import decay, released
from limbeck.geometry.patch import Patch, local_rows, neighbour_count
from limbeck.geometry.tangent import lift, tangent
from limbeck.guidance.base import Hook, Step, Tangents, Targets
from limbeck.guidance.mode import ModeGuidance
from limbeck.guidance.mode import build as build_mode


def project(g: Tensor, basis: Tensor, lam_man: float) -> Tensor:
    """g - lam_man P_N g with P_N = I - U Uᵀ (Eq. 4).

    Parameters
    ----------
    g: (N, D). basis: U, (N, D, d), orthonormal columns; zero columns are allowed.
    """
    return g - lam_man * (g - tangential(g, basis))


def tangential(g: Tensor, basis: Tensor) -> Tensor:
    """P_T g = U Uᵀ g: (N, D)."""
    return (basis @ (basis.mT @ g[..., None]))[..., 0]


def pull(x_t: Tensor, basis: Tensor, mean: Tensor, lam_man: float) -> Tensor:
    """As released: lam_man times the unit vector from x_t straight towards the local affine plane through ``mean`` (N, D)."""
    offset = x_t - mean
    normal = offset - tangential(offset, basis)
    return -lam_man * torch.nn.functional.normalize(normal, dim=1)


@dataclass
class ManifoldGuidance:
    """Eq. 4 on top of :class:`ModeGuidance`.

    lam_man: one per guided step. tangents: local planes, None for ``correction: none``.
    share: filled while sampling, per guided step the (N,) share of the mode guidance's norm inside the tangent space.
    """

    mode: ModeGuidance
    correction: str
    lam_man: Sequence[float]
    tangents: Tangents | None
    share: list[Tensor] = field(default_factory=list)

    @property
    def hook(self) -> Hook:
        return self.mode.hook

    @property
    def recompute_noise(self) -> bool:
        return self.mode.recompute_noise

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:
        g = self.mode(step, x_t, x0_hat)
        if g is None or self.tangents is None:
            return g
        basis, mean = self.tangents(step, x_t)
        flat = g.flatten(1)
        norm = flat.norm(dim=1).clamp_min(torch.finfo(flat.dtype).tiny)
        self.share.append((basis.mT @ flat[..., None]).flatten(1).norm(dim=1) / norm)
        if self.correction == "project":
            return project(flat, basis, self.lam_man[step.index]).view_as(g)
        return g + pull(x_t.flatten(1), basis, mean, self.lam_man[step.index]).view_as(g)


@dataclass(frozen=True)
class CachedTangents:
    """Planes of the stage ``tangents``: bases lifted from neighbour ids and coefficients.

    neighbours: (N, steps, K) points of each image's patch, -1 pads. coefficients: (N, steps, K, d).
    """

    patches: Sequence[Patch]
    neighbours: np.ndarray
    coefficients: np.ndarray
    estimator: str

    def __len__(self) -> int:
        return len(self.patches)

    def __call__(self, step: Step, x_t: Tensor) -> tuple[Tensor, Tensor]:
        return stacked([self.plane(row, step) for row in range(len(self))], x_t)

    def plane(self, row: int, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Basis (D, d) and mean (D,) of one image; of no other step or x_t."""
        ids, weights = self.neighbours[row, step.index], self.coefficients[row, step.index]
        used = ids[ids >= 0]
        points = self.patches[row].at(step.index, step.level, self.estimator, used)
        return _plane(points, weights[: len(used)], step, self.estimator)


@dataclass(frozen=True)
class OnlineTangents:
    """Planes at the actual x_t (``query: online``), computed while sampling. options: TangentOptions."""

    patches: Sequence[Patch]
    options: dict[str, Any]

    def __call__(self, step: Step, x_t: Tensor) -> tuple[Tensor, Tensor]:
        planes = []
        for patch, x in zip(self.patches, x_t.flatten(1).cpu().numpy(), strict=True):
            points, _ = neighbours_of(patch, x, step.index, step.level, self.options)
            found = tangent(points, self.options["d"], self.options["eigensolver"], self.options["tolerance"])
            planes.append(_plane(points, found.coefficients, step, self.options["estimator"]))
        return stacked(planes, x_t)


def neighbours_of(
    patch: Patch, x_t: np.ndarray, index: int, level: Level, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The K_t neighbours of a query (D,) in a patch: points (K, D) and their places in the patch (K,)."""
    cloud = patch.at(index, level, options["estimator"])
    rows = local_rows(cloud, x_t, level, neighbour_count(options["k"], len(cloud), options["d"]), options["estimator"])
    return cloud[rows], rows


def factors(options: dict[str, Any]) -> list[float]:
    """The radius' factor at every guided step."""
    if options["neighbourhood"] == "synthetic":
        return released(options["anneal"], options["t_stop"], options["warmup"], options["max_mult"])
    return decay(options["anneal"], options["t_stop"], options["warmup"], options["anneal_to"])


def _plane(points: np.ndarray, coefficients: np.ndarray, step: Step, estimator: str) -> tuple[np.ndarray, np.ndarray]:
    """Basis (D, d) and mean (D,) in the scale of x_t."""
    mean = points.mean(axis=0)
    return lift(points - mean, coefficients), mean * np.float32(step.level.alpha) if estimator == "expected" else mean


def stacked(planes: Sequence[tuple[np.ndarray, np.ndarray]], x_t: Tensor) -> tuple[Tensor, Tensor]:
    """Bases (N, D, d) and means (N, D) where x_t is."""
    bases, means = (torch.from_numpy(np.stack(column)).to(x_t) for column in zip(*planes, strict=True))
    return bases, means


def build(options: dict, targets: Targets, solver: str) -> ManifoldGuidance:
    """From resolved options, the batch's prototypes and its tangents."""
    decayed = decay(options["anneal"], options["t_stop"], options["warmup"], options["anneal_to"])
    return ManifoldGuidance(
        mode=build_mode(options, targets, solver),
        correction=options["correction"],
        lam_man=[options["lam_man"] * (f if options["anneal_lambda"] else 1.0) for f in decayed],
        tangents=targets.tangents if options["correction"] != "none" else None,
    )
