"""Means, spreads and paired differences of accuracies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


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
        sd=_sd(pooled),
        sd_seed=_sd(np.array([group.mean() for group in groups])),
        sd_repeat=math.sqrt(np.mean([group.var(ddof=1) for group in within])) if within else math.nan,
        binomial=math.sqrt(mean * (1 - mean) / test_images),
        seeds=len(groups),
        repeats=len(groups[0]),
    )


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Paired:
    """Difference a - b over shared seeds, as fractions, with a 95 % interval by Student's t; resolved: 0 lies outside it."""

    difference: float
    half_width: float
    seeds: int

    @property
    def resolved(self) -> bool:
        """Whether the data tell the two apart."""
        return abs(self.difference) > self.half_width


def paired(a: Mapping[int, Sequence[float]], b: Mapping[int, Sequence[float]]) -> Paired | None:
    """Paired by generation seed; None with fewer than two shared seeds."""
    shared = sorted(set(a) & set(b))
    if len(shared) < 2:
        return None
    d = np.array([np.mean(a[s]) - np.mean(b[s]) for s in shared])
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return Paired(float(d.mean()), float(half), len(d))
