"""The neighbourhood of a prototype, noised to a step of the sampler, and the nearest of its points.

Source: ManifoldGD Eq. 5 and supplementary Sec. 6; reading in docs/methods/manifoldgd.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from limbeck.diffusion.levels import Level
from limbeck.seeds import stream

Options = dict
Which = np.ndarray | slice
ALL = slice(None)


@dataclass(frozen=True)
class Patch:
    """The points around one prototype at every guided step.

    centre: (D,) the prototype. rows: (P,) rows of the class's latents, nearest first; empty for a synthetic neighbourhood.
    points: (P, D) float32: those latents, or directions of norm 1. counts, radii: (steps,) points in use and radius at each step.
    name: (seed, class, item) of its random streams.
    """

    centre: np.ndarray
    rows: np.ndarray
    points: np.ndarray
    counts: np.ndarray
    radii: np.ndarray
    name: tuple[int, int, int]

    def clean(self, index: int, which: Which = ALL) -> np.ndarray:
        """N_s at a guided step: (P_t, D), or those of its points."""
        points = self.points[: self.counts[index]][which]
        return points if len(self.rows) else self.centre + self.radii[index] * points

    def noise(self, index: int) -> np.ndarray:
        """eps_k of its points at a guided step: (P_t, D)."""
        seed, label, item = self.name
        shape = (int(self.counts[index]), self.points.shape[1])
        return stream(seed, "tangents", label, item, index).standard_normal(shape, dtype=np.float32)

    def noised(self, index: int, level: Level, which: Which = ALL) -> np.ndarray:
        """M_t = { alpha z_k + sigma eps_k }: (P_t, D); Eq. 5 misses alpha = sqrt(abar), supp. Sec. 6 has it."""
        noise = self.noise(index)[which]
        noise *= np.float32(level.sigma)
        noise += np.float32(level.alpha) * self.clean(index, which)
        return noise

    def at(self, index: int, level: Level, estimator: str, which: Which = ALL) -> np.ndarray:
        """The cloud whose covariance is taken: noised (``monte_carlo``), or clean (``expected``).

        E[C_t] = alpha² Cov(z) + sigma² (1 - 1/K) I for fixed neighbours, so the clean ones have its eigenvectors.
        """
        return self.clean(index, which) if estimator == "expected" else self.noised(index, level, which)


def nearest(cloud: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """Rows of the ``k`` points of a cloud (P, D) nearest to a query (D,), nearest first; int64 (k,)."""
    return faiss.knn(query[None], np.ascontiguousarray(cloud), k)[1][0]


def local_rows(cloud: np.ndarray, x_t: np.ndarray, level: Level, k: int, estimator: str) -> np.ndarray:
    """KNN(x_t; M_t, K_t). ``expected`` takes distances to alpha z_k; the noised ones' means differ from them by a constant.

    Where alpha is 0 (the first step of flow matching) all of those are equal: the points nearest to the prototype are taken.
    """
    if estimator != "expected":
        return nearest(cloud, x_t, k)
    return nearest(cloud, x_t / np.float32(level.alpha), k) if level.alpha else np.arange(k)


def neighbour_count(k: float, points: int, d: int) -> int:
    """K_t: a count, or a fraction of the patch's points; at least d + 2, at most all points."""
    wanted = k if isinstance(k, int) else math.ceil(k * points)
    return min(points, max(wanted, d + 2))


def real_patches(
    latents: np.ndarray,
    centres: np.ndarray,
    options: Options,
    factors: Sequence[float],
    seed: int,
    label: int,
    items: Sequence[int],
) -> list[Patch]:
    """Neighbourhoods N_s = { z : |z - c_s| <= r } among a class's latents (N, D), one per prototype (B, D).

    ``radius_unit: quantile`` reads r as the share of the class that lies inside, ``absolute`` as a distance in latent units;
    ``factors`` shrink it, one per guided step.

    Raises
    ------
    ValueError: fewer than d + 2 points are left.
    """
    least = options["d"] + 2
    if len(latents) < least:
        raise ValueError(f"has {len(latents)} images, fewer than d + 2 = {least}: lower 'd'")
    patches = []
    for item, centre in zip(items, centres, strict=True):
        distances = np.sqrt(((latents - centre) ** 2).sum(axis=1, dtype=np.float64))
        order = np.argsort(distances, kind="stable")
        sorted_distances = distances[order]
        if options["radius_unit"] == "quantile":
            wanted = [max(least, math.ceil(options["radius"] * f * len(latents))) for f in factors]
            counts = np.minimum(wanted, len(latents))
            radii = sorted_distances[counts - 1]
        else:
            radii = options["radius"] * np.asarray(factors)
            counts = np.searchsorted(sorted_distances, radii, side="right")
            if counts.min() < least:
                step = int(counts.argmin())
                raise ValueError(
                    f"radius {options['radius']:g} leaves {counts[step]} of {len(latents)} latents around prototype {item} at "
                    f"guided step {step} ({radii[step]:.3g}), fewer than d + 2 = {least}: raise 'radius' (distances there: median "
                    f"{np.median(distances):.3g}, the {least} nearest within {sorted_distances[least - 1]:.3g})"
                )
        rows = order[: counts.max()]
        patches.append(Patch(centre, rows, latents[rows], counts, radii.astype(np.float32), (seed, label, item)))
    return patches


def synthetic_patches(
    latents: np.ndarray,
    centres: np.ndarray,
    options: Options,
    factors: Sequence[float],
    seed: int,
    label: int,
    items: Sequence[int],
) -> list[Patch]:
    """As released: random points on spheres around the prototypes, of the radius that ``radius`` means for the class's latents."""
    patches = []
    for item, centre in zip(items, centres, strict=True):
        radius = options["radius"]
        if options["radius_unit"] == "quantile":
            radius = np.quantile(np.sqrt(((latents - centre) ** 2).sum(axis=1, dtype=np.float64)), radius)
        points = stream(seed, "tangents.sphere", label, item).standard_normal((options["points"], len(centre)))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        counts = np.full(len(factors), options["points"])
        radii = (radius * np.asarray(factors)).astype(np.float32)
        patches.append(Patch(centre, np.empty(0, np.int64), points.astype(np.float32), counts, radii, (seed, label, item)))
    return patches
