"""measure: metrics of a distilled set against the real training and test sets."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.artifacts import FEATURES
from limbeck.metrics.distances import all_metrics
from limbeck.stages.common import Spec, params, read_all
from limbeck.store import write_json


def run(spec: Spec, distilled: Sequence[Path], train: Sequence[Path], test: Sequence[Path], metrics: Path) -> None:
    """Write ``metrics``: every value under ``<metric>_<extractor>``."""
    features, labels, correct = read_all(distilled, FEATURES, "features", "labels", "correct")
    real, real_labels = read_all(train, FEATURES, "features", "labels")
    held, _ = read_all(test, FEATURES, "features", "labels")
    values = all_metrics(features, labels, real, real_labels, held)
    values["agreement"] = float(correct.mean())
    named = {f"{name}_{spec['extractor']}": value for name, value in values.items()}
    write_json(metrics, "metrics", params(spec), {**named, "images": len(labels)})
