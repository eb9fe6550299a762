"""What the trainings of one row under one protocol and student gave: a cell of the table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.report.statistics import Accuracy, spread, summarise

Column = tuple[str, str]  # protocol, student


@dataclass(frozen=True)
class Failure:
    """A training that came to no end."""

    seed: int
    repeat: int
    reason: str


@dataclass(frozen=True)
class Cell:
    """Accuracies at the last epoch, at the epoch best on held-out real images, and at the epoch best on the test set.

    None where there are none: one failed training leaves a cell without any, as the mean of those that did not fail would be that
    of a better method. accuracies: seed -> those at the last epoch, one per repeat; per_class: (mean, sd) by class; confusion:
    (C, C) test images of all trainings by their class and the one they are taken for. labels: what the students were shown, as
    their result files have it.
    """

    last: Accuracy | None
    selected: Accuracy | None
    best: Accuracy | None
    accuracies: Mapping[int, Sequence[float]]
    per_class: Sequence[tuple[float, float]]
    confusion: np.ndarray | None
    seeds: int
    repeats: int
    failures: Sequence[Failure]
    labels: Mapping[str, Any]
    test_images: int

    @property
    def mean(self) -> float | None:
        """Mean accuracy at the last epoch."""
        return None if self.last is None else self.last.mean


def cell(results: Mapping[int, Mapping[str, Any]]) -> Cell:
    """From seed -> the student's results, as the stage ``train`` writes them."""
    every = [(seed, repeat) for seed, found in results.items() for repeat in found["repeats"]]
    failures = [Failure(seed, repeat["repeat"], repeat["failed"]) for seed, repeat in every if repeat["failed"]]
    whole = {} if failures else {seed: found["repeats"] for seed, found in results.items()}
    first = next(iter(results.values()))
    accuracy = lambda read: _accuracy(whole, read, first["test_images"])  # noqa: E731
    return Cell(
        last=accuracy(lambda repeat: repeat["accuracy"]),
        selected=accuracy(lambda repeat: repeat["selected"] and repeat["selected"]["accuracy"]),
        best=accuracy(lambda repeat: repeat["best"] and repeat["best"]["accuracy"]),
        accuracies={seed: [repeat["accuracy"] for repeat in repeats] for seed, repeats in whole.items()},
        per_class=[] if failures else _by_class([repeat["per_class"] for _, repeat in every]),
        confusion=_confusion([] if failures else [repeat["confusion"] for _, repeat in every]),
        seeds=len(results),
        repeats=len(first["repeats"]),
        failures=failures,
        labels=first["labels"],
        test_images=first["test_images"],
    )


def _accuracy(
    repeats: Mapping[int, Sequence[Mapping[str, Any]]], read: Callable[[Mapping[str, Any]], float | None], tested: int
) -> Accuracy | None:
    """None where any training lacks it."""
    found: dict[int, list[float]] = {}
    for seed, own in repeats.items():
        values = [value for each in own if (value := read(each)) is not None]
        if len(values) < len(own):
            return None
        found[seed] = values
    return summarise(found, tested) if found else None


def _by_class(accuracies: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(np.mean(column)), spread(np.array(column))) for column in zip(*accuracies, strict=True)]


def _confusion(found: Sequence[Sequence[Sequence[int]] | None]) -> np.ndarray | None:
    kept = [np.asarray(each) for each in found if each is not None]
    return sum(kept[1:], kept[0]) if kept and len(kept) == len(found) else None


def percent(value: float | None) -> str:
    """A fraction as a percentage with one digit; an undefined one as a dash."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def printed(accuracy: Accuracy | None) -> str:
    """Mean ± sd, or a dash."""
    return "–" if accuracy is None else f"{percent(accuracy.mean)} ± {percent(accuracy.sd)}"


def outcome(found: Cell) -> str:
    """A cell's accuracy at the last epoch, or how many of its trainings failed."""
    return f"failed ({len(found.failures)} of {found.seeds * found.repeats})" if found.failures else printed(found.last)
