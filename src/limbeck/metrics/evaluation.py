"""Every metric of a distilled set: arrays and blocks of real features in, floats out (EVALUATION.md, Metrics). nan: undefined."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from limbeck.metrics.coverage import Closeness, diversity
from limbeck.metrics.frechet import Frechet, Moments
from limbeck.metrics.kernels import Mmd, kid, mmd
from limbeck.metrics.l2 import L2
from limbeck.metrics.neighbours import precision_recall
from limbeck.metrics.samples import some

Blocks = Iterable[tuple[int, np.ndarray]]  # (class, rows (m, d)) of real features, class by class


@dataclass(frozen=True)
class Distilled:
    """Features (n, d) and labels (n,) of a set, or of the part of a large one that metrics of pairs see; moments of all of it."""

    features: np.ndarray
    labels: np.ndarray
    moments: Moments


def against_training(own: Distilled, blocks: Blocks, sample: np.ndarray) -> dict[str, float]:
    """Fréchet, Rep, Div, coverage; KID, precision, recall, density of ``sample``, training features (m, d) in random order."""
    distance, closeness = Frechet(own.moments), Closeness(own.features, own.labels)
    for label, rows in blocks:
        distance.add(rows)
        closeness.add(label, rows)
    mean, sd = kid(own.features, sample)
    matched = min(len(own.features), len(sample))
    return {
        "fd": distance.value(),
        "kid": mean,
        "kid_sd": sd,
        **closeness.values(),
        **diversity(own.features, own.labels),
        **precision_recall(own.features[some(len(own.features), matched, "metrics.matched")], sample[:matched]),
    }


def against_test(own: Distilled, blocks: Blocks, sample: np.ndarray, by_class: Blocks) -> dict[str, float]:
    """L2 and MMD. ``sample``: test features (m, d) in random order; ``by_class``: such ones of every class."""
    distance, discrepancy = L2(own.features, own.moments.mean), Mmd(own.features, sample)
    for _, rows in blocks:
        distance.add(rows)
        discrepancy.add(rows)
    inside = [mmd(own.features[own.labels == label], rows) for label, rows in by_class]
    return {**distance.values(), "mmd": discrepancy.value(), "mmd_class": float(np.mean(inside))}
