"""Selective Subgroup Sampling: of G candidate groups per class, one near its class's real centroid and apart from other classes.

Source: IMS3 Sec. 4.2, Eqs. 8-11, Algorithm 2; reading in docs/methods/ims3.md. The second sum of Eq. 10 runs over all candidates of
the other classes, whichever of them are selected, so the objective is a sum of C terms of one g_i each: the argmin per class is its
global minimum, and no search is needed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from limbeck.seeds import stream

CLAMP = 1e-6  # the least 1 - cos, so that the log for equal directions is finite
ROUNDING = 1e-9  # in a log near the clamp, where a cosine's own (1e-15) is 1e-9 of 1 - cos
CANCELLED = 1e-12  # a mean of unit vectors this short is rounding, not a direction
MEMORY = 2**24  # bytes of cosines held at once; more is not faster


@dataclass(frozen=True)
class Selected:
    """One group per class.

    groups: (C,) int64 indices. near: (C, G) log(1 - cos) of a candidate and its class's reference, low for representative ones.
    apart: (C, G) mean log(1 - cos) over all candidates of the other classes, high for distinct ones; 0 for a single class.
    scores: (C, G) alpha near - beta apart, the terms of Eq. 10, whatever the variant.
    """

    groups: np.ndarray
    near: np.ndarray
    apart: np.ndarray
    scores: np.ndarray


def centroid(features: np.ndarray) -> np.ndarray:
    """(..., D) float64 on the unit sphere: mean direction of features (..., K, D), each normalised first (Eqs. 8, 9).

    Raises
    ------
    ValueError: a feature is zero or not finite, a group's features cancel, or there are none.
    """
    mean = mean_unit(features)
    return mean / _lengths(mean, "mean direction", CANCELLED)[..., None]


def mean_unit(features: np.ndarray) -> np.ndarray:
    """(..., D) float64 mean of features (..., K, D), each normalised first; means of equally many may be averaged further.

    Raises
    ------
    ValueError: a feature is zero or not finite, or there are none.
    """
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise ValueError(f"features must be (..., K, D) of at least one feature, not {features.shape}")
    lengths = _lengths(features, "features")
    return np.einsum("...kd,...k->...d", features, 1 / (lengths * features.shape[-2]))


def select(
    candidates: np.ndarray,
    references: np.ndarray,
    *,
    alpha: float = 0.4,
    beta: float = 0.9,
    variant: Literal["paper", "released"] = "paper",
    seed: int = 0,
) -> Selected:
    """The group of each class that minimises Eq. 10; the lowest index where scores are equal.

    Parameters
    ----------
    candidates: (C, G, D) centroids of the groups, of any lengths. references: (C, D) of the real images.
    alpha, beta: weights of the two sums, of which only the ratio matters.
    variant: ``paper`` sums over all candidates of the other classes, ``released`` over the selected ones, see ``_greedy``.
    seed: names the stream of the start of ``released``.

    Raises
    ------
    ValueError: shapes do not fit, a vector is zero or not finite, a weight is negative or not finite, or the variant is unknown.
    """
    if variant not in ("paper", "released"):
        raise ValueError(f"variant must be paper or released, not {variant!r}")
    units, near, apart, scores = _terms(candidates, references, alpha, beta)
    if variant == "paper":
        groups = scores.argmin(axis=1)
    else:
        with threadpool_limits(1, "blas"):  # a product per class and sweep: threads would wait for each other, long on busy cores
            groups = _greedy(units, near, alpha, beta, seed)
    return Selected(groups, near, apart, scores)


def objective(
    candidates: np.ndarray, references: np.ndarray, groups: np.ndarray, *, alpha: float = 0.4, beta: float = 0.9
) -> float:
    """Eq. 10 of any assignment: groups (C,) integers; the rest, and the errors, as those of ``select``."""
    scores = _terms(candidates, references, alpha, beta)[-1]
    classes, count = scores.shape
    if groups.shape != (classes,) or not ((groups >= 0) & (groups < count)).all():
        raise ValueError(f"groups must be {classes} indices below {count}, not {groups}")
    return float(scores[np.arange(classes), groups].sum())


def _terms(
    candidates: np.ndarray, references: np.ndarray, alpha: float, beta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Normalised candidates (C, G, D) float64; near, apart and scores (C, G), see ``Selected``."""
    if candidates.ndim != 3 or 0 in candidates.shape:
        raise ValueError(f"candidates must be (C, G, D) and not empty, not {candidates.shape}")
    if references.shape != (expected := candidates.shape[::2]):
        raise ValueError(f"references must be {expected}, as candidates {candidates.shape}, not {references.shape}")
    if not (0 <= alpha < np.inf and 0 <= beta < np.inf):
        raise ValueError(f"alpha and beta must be finite and not negative, not {alpha} and {beta}")
    units = candidates / _lengths(candidates, "candidates")[..., None]
    real = references / _lengths(references, "references")[..., None]
    near = _log_gaps(np.einsum("cgd,cd->cg", units, real))
    apart = _apart(units)
    return units, near, apart, alpha * near - beta * apart


def _apart(units: np.ndarray) -> np.ndarray:
    """(C, G) mean log(1 - cos) over all candidates of the other classes, of (C, G, D).

    Classes are taken in chunks, each against itself and those after it: a cosine of two chunks is computed once for both.
    """
    classes, groups, dims = units.shape
    flat, sums = units.reshape(-1, dims), np.zeros(classes * groups)
    step = max(1, MEMORY // (8 * groups * len(flat)))
    for first in range(0, classes, step):
        own = np.arange(min(step, classes - first))
        start, stop = first * groups, (first + len(own)) * groups
        logs = _log_gaps(flat[start:stop] @ flat[start:].T)
        logs.reshape(len(own), groups, -1, groups)[own, :, own] = 0
        sums[start:stop] += logs.sum(axis=1)
        sums[stop:] += logs[:, stop - start :].sum(axis=0)
    return sums.reshape(classes, groups) / max(1, (classes - 1) * groups)


def _greedy(units: np.ndarray, near: np.ndarray, alpha: float, beta: float, seed: int) -> np.ndarray:
    """Groups (C,) that no change of one class improves, by sweeps over the classes from a random start (Algorithm 2).

    The objective is alpha Σ_i near[i, g_i] - beta / (C - 1) Σ_i Σ_{j != i} log(1 - cos(c_{i,g_i}, c_{j,g_j})).
    """
    # ASSUME: the release scores selected pairs only and takes classes in order, each its best group given the others' current ones
    classes, count, _ = units.shape
    groups = stream(seed, "subgroup").integers(count, size=(classes,))
    chosen = units[np.arange(classes), groups]
    changed = True
    while changed:
        changed = False
        for i, own in enumerate(units):
            logs = _log_gaps(own @ chosen.T)
            logs[:, i] = 0
            scores = alpha * near[i] - 2 * beta / max(1, classes - 1) * logs.sum(axis=1)  # either order of a pair is in the sum
            if scores[groups[i]] - scores.min() > ROUNDING * (alpha + beta):  # a gain that is rounding could repeat forever
                groups[i] = scores.argmin()
                chosen[i] = own[groups[i]]
                changed = True
    return groups


def _log_gaps(cosines: np.ndarray) -> np.ndarray:
    """log(1 - cos), written over the cosines."""
    np.subtract(1, cosines, out=cosines)
    np.maximum(cosines, CLAMP, out=cosines)
    return np.log(cosines, out=cosines)


def _lengths(vectors: np.ndarray, name: str, least: float = 0.0) -> np.ndarray:
    """(...) float64 L2 norms of (..., D); ValueError names the first that is not finite, or not longer than ``least``."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64))
    bad = np.argwhere(~((lengths > least) & (lengths < np.inf)))
    if len(bad):
        index = bad[0].tolist()
        fault = "zero" if lengths[tuple(index)] <= least else "not finite"
        raise ValueError(f"{name}{index or ''} is {fault}")
    return lengths
