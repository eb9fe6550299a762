"""measure: metrics of a distilled set against the real training and test sets, in the features of one extractor."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from limbeck.artifacts import FEATURES
from limbeck.errors import LimbeckError
from limbeck.metrics.evaluation import Distilled, against_test, against_training
from limbeck.metrics.frechet import Moments
from limbeck.metrics.samples import BLOCK, LARGEST, some
from limbeck.metrics.trajectories import variance_of_norms
from limbeck.records import write_json
from limbeck.stages.common import Spec, class_rows, params
from limbeck.store import Artifact

CLASS_LARGEST = 1000  # test rows of a class behind its MMD


class Streamed:
    """Features of a set over its shards, class by class; what is in memory at a time does not grow with their number."""

    def __init__(self, shards: Sequence[Artifact]):
        self.shards = shards
        self.parts = [(label, shard, rows) for shard in shards for label, rows in class_rows(shard["labels"])]
        self.dim = shards[0].shape("features")[1]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def blocks(self, only: int | None = None, block: int = BLOCK) -> Iterator[tuple[int, np.ndarray]]:
        """(class, rows (m, d)), at most ``block`` of one class at a time; of all classes or one."""
        for label, shard, rows in self.parts:
            for start in range(rows.start, rows.stop, block) if only in (None, label) else ():
                yield label, shard.read("features", start, min(start + block, rows.stop))

    def gather(self, wanted: np.ndarray, only: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features (m, d) and labels (m,) of rows counted over all blocks, in the order that they are named in."""
        found, labels = np.empty((len(wanted), self.dim), np.float32), np.empty(len(wanted), np.int32)
        order, at = np.argsort(wanted), 0
        for label, rows in self.blocks(only):
            low, high = np.searchsorted(wanted, (at, at + len(rows)), sorter=order)
            here = order[low:high]
            found[here], labels[here] = rows[wanted[here] - at], label
            at += len(rows)
        return found, labels

    def distilled(self) -> Distilled:
        """As the set that is measured: its rows, or a draw among those of a very large one, and the moments of all."""
        moments = Moments(self.dim)
        for _, rows in self.blocks():
            moments.add(rows)
        return Distilled(*self.gather(np.sort(some(len(self), LARGEST, "metrics.set"))), moments)

    def sample(self, name: str) -> np.ndarray:
        """A draw among all rows, in random order."""
        return self.gather(some(len(self), LARGEST, name))[0]

    def by_class(self, labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(class, a draw among its rows in random order) of every class in ``labels``."""
        for label in np.unique(labels).tolist():
            count = sum(rows.stop - rows.start for each, _, rows in self.parts if each == label)
            yield label, self.gather(some(count, CLASS_LARGEST, "metrics.class", label), label)[0]


def run(
    spec: Spec, distilled: Sequence[Path], images: Sequence[Path], train: Sequence[Path], test: Sequence[Path], metrics: Path
) -> None:
    """Write ``metrics``: every value under ``<metric>_<extractor>``, null where it is undefined.

    ``distilled``, ``train`` and ``test`` are features; ``images`` is the set itself, for what its sampling left.
    """
    with ExitStack() as stack:
        own, real, held = (
            Streamed([stack.enter_context(Artifact(p, FEATURES)) for p in each]) for each in (distilled, train, test)
        )
        about = own.distilled()
        values = against_training(about, real.blocks(), real.sample("metrics.train"))
        values |= against_test(about, held.blocks(), held.sample("metrics.test"), held.by_class(about.labels))
        if all("correct" in shard for shard in own.shards):
            values["agreement"] = float(np.concatenate([shard["correct"] for shard in own.shards]).mean())
        count = len(own)
    if spec["kind"] == "inception":
        values["fid"] = values.pop("fd")
    named = {f"{name}_{spec['extractor']}": value for name, value in values.items()}
    named["trajectory_norm_variance"] = _trajectories(images)
    if infinite := [name for name, value in named.items() if math.isinf(value)]:
        raise LimbeckError(f"{metrics}: {infinite[0]} is infinite; are the weights of extractor {spec['extractor']} whole?")
    results = {name: None if math.isnan(value) else value for name, value in named.items()}
    write_json(metrics, "metrics", params(spec), {**results, "images": count})


def _trajectories(images: Sequence[Path]) -> float:
    """Variance of the norms that a class's trajectories end at; nan for a set that was not sampled."""
    norms, labels = [], []
    for path in images:
        with Artifact(path) as shard:
            if "x0_norms" not in shard:
                return math.nan
            norms.append(shard["x0_norms"])
            labels.append(shard["labels"])
    return float(variance_of_norms(np.concatenate(norms), np.concatenate(labels))[-1])
