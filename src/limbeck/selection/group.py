"""Group sampling: of m random groups of n latents, the one whose statistics match a class's Gaussian best.

Source: D3HR Sec. 4.4, Eqs. 5-9, Table A5; reading in docs/methods/d3hr.md. With z = mu + sigma u, the three terms of a group are
functions of u times sigma², so candidates are drawn once as standard normals and one matrix product scores all classes:
``L[k, c] = (l_mu ubar² + l_sd (s_u - 1)²)[k, :] @ sigma²[:, c] + l_skew Σ skew_u²``. The loss does not depend on mu.

Format. Candidate k is row k % P of draw k // P, a block of (P, n, D) float32 from the stream
``(seed, "group", class or 0, k // P)``, with P = max(1, BLOCK // (n D)). A candidate is known by its index, and is drawn again
in the time of one block at most (1.2 ms, or that of the candidate itself where it is larger than a block).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from limbeck.seeds import stream

BLOCK = 2**17  # normals per draw: they fit a core's cache, and naming a stream costs 1 % of the draw
MEMORY = 2**23  # bytes of candidates scored by one matrix product


@dataclass(frozen=True)
class Sampling:
    """What to draw and how to judge it.

    n: latents of a group (IPC). candidates: groups, the paper's m. weights: of the mean, sd and skewness terms (Eq. 5); 0 switches
    a term off. variance_scale: factor of sigma² in draws and targets alike (Table A5). It scales the mean and sd terms, not the
    skewness, so it also shifts their balance.
    pool: ``shared`` scores the same candidates for all classes, each class seeing them through its own signed permutation of the
    dimensions; ``independent`` draws candidates per class.
    blocks: parts of the dimensions, each with a best candidate of its own: L is a sum over dimensions. 1 is the paper. Parts are
    contiguous in the pool's order, so a class's are random sets of its dimensions under ``shared``.
    search: ``best`` of the candidates, or ``exact``: candidate 0 made to match, see ``draws``.
    """

    n: int
    candidates: int = 100_000
    weights: tuple[float, float, float] = (1.0, 1.0, 0.5)
    variance_scale: float = 1.0
    pool: Literal["shared", "independent"] = "shared"
    blocks: int = 1
    search: Literal["best", "exact"] = "best"

    def __post_init__(self) -> None:
        if min(self.n, self.candidates, self.blocks) < 1:
            raise ValueError("n, candidates and blocks must be at least 1")
        if min(self.weights) < 0 or self.variance_scale <= 0:
            raise ValueError("weights must not be negative and variance_scale must be positive")


@dataclass(frozen=True)
class Groups:
    """The winners of C classes.

    indices: (C, blocks) int64, the candidate of each block of dimensions. losses: (C,) of Eq. 5. terms: (C, 3) of the winners,
    Eqs. 6, 7 and 8 summed over dimensions, without weights. spread: (C, 3) float32, the standard deviation of each term over the
    candidates; 0 for ``search: exact``.
    """

    indices: np.ndarray
    losses: np.ndarray
    terms: np.ndarray
    spread: np.ndarray


def search(
    sigma: np.ndarray, classes: Sequence[int], sampling: Sampling, seed: int, threads: int = 1, memory: int = MEMORY
) -> Groups:
    """The best candidates of each class; the lowest index where losses are equal (Eq. 9).

    A dimension of zero variance adds nothing to the mean and sd terms; its skewness is that of u, the limit for sigma to 0.

    Parameters
    ----------
    sigma: (C, D) standard deviations. classes: (C,) their numbers, which name the random streams.
    threads: candidates are drawn in that many threads; the result is the same.
    memory: bytes of candidates that each thread holds (at least one block of them); changes no winner.

    Raises
    ------
    ValueError: sigma is negative or not finite, or there are more blocks than dimensions.
    """
    _check(sigma, sampling)
    variance = sampling.variance_scale * sigma.astype(np.float64) ** 2
    dims = variance.shape[1]
    if sampling.search == "exact":
        indices = np.zeros((len(variance), sampling.blocks), np.int64)
        spread = np.zeros((len(variance), 3), np.float32)
    elif sampling.pool == "shared":
        seen = [row[permutation(seed, c, dims)[0]] for c, row in zip(classes, variance, strict=True)]
        indices, spread = _best(np.stack(seen, axis=1), 0, sampling, seed, threads, memory)
    else:
        found = [_best(row[:, None], c, sampling, seed, threads, memory) for c, row in zip(classes, variance, strict=True)]
        indices, spread = (np.concatenate(column) for column in zip(*found, strict=True))
    terms = np.stack([_terms(draws(i, dims, sampling, seed, c), row) for i, c, row in zip(indices, classes, variance, strict=True)])
    return Groups(indices, terms @ np.array(sampling.weights), terms, spread)


def latents(mu: np.ndarray, sigma: np.ndarray, indices: np.ndarray, sampling: Sampling, seed: int, class_id: int) -> np.ndarray:
    """A winner's group (n, D) float32, the same wherever it is drawn.

    Parameters
    ----------
    mu, sigma: (D,) of the class. indices: (blocks,) a row of ``Groups.indices``.
    """
    u = draws(indices, len(mu), sampling, seed, class_id)
    scaled = np.sqrt(sampling.variance_scale) * sigma.astype(np.float64)
    return (mu.astype(np.float64) + scaled * u).astype(np.float32)


def draws(indices: np.ndarray, dims: int, sampling: Sampling, seed: int, class_id: int) -> np.ndarray:
    """The standardised group (n, D) float64, in the class's own order of dimensions.

    ``search: exact`` shifts and scales each dimension to mean 0 and standard deviation 1. One latent (n = 1) cannot have both: it
    gets the minimum of l_mu u² + l_sd (|u| - 1)² instead, |u| = l_sd / (l_mu + l_sd), with the drawn sign.
    """
    shared = sampling.pool == "shared"
    u = np.empty((sampling.n, dims))
    for part, index in zip(_parts(dims, len(indices)), indices, strict=True):
        u[:, part] = _candidate(seed, 0 if shared else class_id, int(index), sampling.n, dims)[:, part]
    if sampling.search == "exact":
        u = _matched(u, sampling)
    if not shared:
        return u
    order, sign = permutation(seed, class_id, dims)
    own = np.empty_like(u)
    own[:, order] = sign * u
    return own


def statistics(u: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(3, k, D) float64 of groups (k, n, D): ubar², (s_u - 1)² and skew_u², the last 0 for n <= 2 (Eqs. 6-8 with z = mu + sigma u).

    None of them changes with the sign of u.
    """
    k, n, dims = u.shape
    out = np.empty((3, k, dims)) if out is None else out
    out[...] = 0
    x, power = np.empty((2, k, dims))
    for i in range(n):
        x[...] = u[:, i]
        out[0] += x
        out[1] += np.multiply(x, x, out=power)
        if n > 2:
            power *= x
            out[2] += power
    out[:2] /= n
    np.sqrt(out[1], out=out[1])
    out[1] -= 1
    if n > 2:
        out[2] *= n / ((n - 1) * (n - 2))
    return np.square(out, out=out)


def _terms(u: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """(3,) of one group (n, D)."""
    mean, sd, skew = statistics(u[None])[:, 0]
    return np.array([(mean * variance).sum(), (sd * variance).sum(), skew.sum()])


def _best(
    variance: np.ndarray, pool: int, sampling: Sampling, seed: int, threads: int, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Winners (C, blocks) and spread (C, 3) over one pool, for variances (D, C) in the pool's order."""
    dims, classes = variance.shape
    per_block = _per_block(sampling.n, dims)
    step = per_block * max(1, memory // (per_block * 8 * (3 * dims + 8 * classes)))
    ranges = [range(first, min(first + step, sampling.candidates)) for first in range(0, sampling.candidates, step)]
    indices = np.zeros((sampling.blocks, classes), np.int64)
    lowest = np.full(indices.shape, np.inf)
    seen, (mean, squares) = 0, np.zeros((2, 3, classes))
    # one BLAS thread each: they would fight, and sums must not depend on their number
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as executor:
        scored = executor.map(lambda r: _score(variance, r, pool, sampling, seed), ranges)
        for part, (losses, rows, part_mean, part_squares) in zip(ranges, scored, strict=True):
            better = losses < lowest  # in the order of candidates, so that the first of equals stays
            lowest[better], indices[better] = losses[better], rows[better]
            delta, count = part_mean - mean, len(part)  # Chan et al. 1983
            squares += part_squares + delta**2 * (seen * count / (seen + count))
            mean += delta * (count / (seen + count))
            seen += count
    return indices.T, np.sqrt(squares / seen).T.astype(np.float32)


def _score(
    variance: np.ndarray, candidates: range, pool: int, sampling: Sampling, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of a range that starts with a block: lowest losses and their candidates, (blocks, C); the terms' means, squares (3, C)."""
    dims, classes = variance.shape
    values = _values(candidates, dims, pool, sampling, seed)
    losses, rows = np.empty((sampling.blocks, classes)), np.empty((sampling.blocks, classes), np.int64)
    total = np.zeros((3, len(candidates), classes))
    for block, part in enumerate(_parts(dims, sampling.blocks)):
        mean, sd = values[:2, :, part] @ variance[part]
        skew = values[2, :, part].sum(axis=1)[:, None]
        loss = sampling.weights[0] * mean + sampling.weights[1] * sd + sampling.weights[2] * skew
        best = loss.argmin(axis=0)
        losses[block], rows[block] = loss[best, np.arange(classes)], best + candidates.start
        for term, part_of in enumerate((mean, sd, skew)):
            total[term] += part_of
    means = total.mean(axis=1)
    total -= means[:, None]
    return losses, rows, means, np.einsum("tkc,tkc->tc", total, total)


def _values(candidates: range, dims: int, pool: int, sampling: Sampling, seed: int) -> np.ndarray:
    """Statistics (3, k, D) of a range of candidates that starts with a block, drawn block by block."""
    values = np.empty((3, len(candidates), dims))
    per_block = _per_block(sampling.n, dims)
    u = np.empty((min(per_block, len(candidates)), sampling.n, dims), np.float32)
    for row in range(0, len(candidates), per_block):
        count = min(per_block, len(candidates) - row)
        _generator(seed, pool, candidates[row] // per_block).standard_normal(out=u[:count], dtype=np.float32)
        statistics(u[:count], values[:, row : row + count])
    return values


def _candidate(seed: int, pool: int, index: int, n: int, dims: int) -> np.ndarray:
    """Candidate (n, D) float32 in the pool's order, bit for bit as it was scored."""
    block, row = divmod(index, _per_block(n, dims))
    return _generator(seed, pool, block).standard_normal((row + 1, n, dims), dtype=np.float32)[row]


def _generator(seed: int, pool: int, block: int) -> np.random.Generator:
    return stream(seed, "group", pool, block)


def _per_block(n: int, dims: int) -> int:
    return max(1, BLOCK // (n * dims))


def _parts(dims: int, blocks: int) -> list[slice]:
    return [slice(dims * b // blocks, dims * (b + 1) // blocks) for b in range(blocks)]


def permutation(seed: int, class_id: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Dimension j of the pool is the class's dimension order[j] times sign[j]: two (D,) arrays."""
    rng = stream(seed, "group.permutation", class_id)
    return rng.permutation(dims), rng.choice([-1.0, 1.0], dims)


def _matched(u: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Mean 0 and standard deviation 1 per dimension of (n, D); see ``draws``."""
    n = len(u)
    if n == 1:
        mean, sd = sampling.weights[:2]
        return np.copysign(sd / (mean + sd), u) if mean + sd else u
    ramp = np.arange(n)[:, None] - (n - 1) / 2  # for a dimension in which all draws happen to be equal
    centred = np.where(np.ptp(u, axis=0) > 0, u - u.mean(axis=0), ramp)
    return centred / np.sqrt((centred**2).mean(axis=0))


def _check(sigma: np.ndarray, sampling: Sampling) -> None:
    if not (np.isfinite(sigma).all() and (sigma >= 0).all()):
        raise ValueError("sigma must be finite and not negative")
    if sampling.blocks > sigma.shape[1]:
        raise ValueError(f"{sampling.blocks} blocks are more than the {sigma.shape[1]} dimensions")
