"""Means, spreads and paired differences of accuracies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # a difference is resolved when its p-value is below, that is when 0 lies outside the 95 % interval
NO_SPREAD = 1e-9  # differences of accuracies spread by less only through rounding


@dataclass(frozen=True)
class Accuracy:
    """Accuracies of one row, as fractions.

    mean over all trainings; sd over all; sd_seed between the generation seeds' means; sd_repeat within a seed (pooled);
    binomial: the standard error that the number of test images alone brings. A spread of a single value is nan.
    """

    mean: float
    sd: float
    sd_seed: float
    sd_repeat: float
    binomial: float
    seeds: int
    repeats: int


def summarise(accuracies: Mapping[int, Sequence[float]], test_images: int) -> Accuracy:
    """From seed -> accuracies of its repeats."""
    groups = [np.asarray(values, float) for values in accuracies.values()]
    pooled = np.concatenate(groups)
    mean = float(pooled.mean())
    within = [group for group in groups if len(group) > 1]
    return Accuracy(
        mean=mean,
        sd=spread(pooled),
        sd_seed=spread(np.array([group.mean() for group in groups])),
        sd_repeat=math.sqrt(np.mean([group.var(ddof=1) for group in within])) if within else math.nan,
        binomial=math.sqrt(mean * (1 - mean) / test_images),
        seeds=len(groups),
        repeats=len(groups[0]),
    )


def spread(values: np.ndarray) -> float:
    """Sample standard deviation; of a single value nan."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Paired:
    """Difference a - b over shared seeds, as fractions.

    half_width of its 95 % interval and two-sided p by Student's t on the seeds' differences (the paired t-test); effect: their mean
    over their standard deviation (Cohen's d_z). All three are nan where the seeds' differences are the same but not 0: a spread
    of 0 is then a coincidence of counted hits, and tells nothing.
    """

    difference: float
    half_width: float
    p: float
    effect: float
    seeds: int

    @property
    def resolved(self) -> bool:
        """Whether the data tell the two apart, this pair alone."""
        return self.p < LEVEL


def paired(a: Mapping[int, Sequence[float]], b: Mapping[int, Sequence[float]]) -> Paired | None:
    """Paired by generation seed; None with fewer than two shared seeds."""
    shared = sorted(set(a) & set(b))
    if len(shared) < 2:
        return None
    d = np.array([np.mean(a[s]) - np.mean(b[s]) for s in shared])
    mean, sd, n = float(d.mean()), spread(d), len(d)
    if sd < NO_SPREAD:
        same = abs(mean) < NO_SPREAD
        return Paired(0.0, 0.0, 1.0, 0.0, n) if same else Paired(mean, math.nan, math.nan, math.nan, n)
    error = sd / math.sqrt(n)
    p = 2 * stats.t.sf(abs(mean) / error, n - 1)
    return Paired(mean, float(stats.t.ppf(1 - LEVEL / 2, n - 1) * error), float(p), mean / sd, n)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest times m - k + 1, never below the one before, at most 1.

    A nan is a test that could not be made; it stays, and does not count.
    """
    values = np.asarray(p, float)
    out = np.full(len(values), math.nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # nan sorts last
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return out.tolist()


def mean_ranks(accuracies: Sequence[Sequence[float | None]]) -> list[float]:
    """Of cells (each: one accuracy per method) the methods' mean rank, 1 the best; ties share theirs, what failed comes last."""
    table = np.array([[-math.inf if value is None else value for value in cell] for cell in accuracies])
    return stats.rankdata(-table, axis=1).mean(axis=0).tolist()
