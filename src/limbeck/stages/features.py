"""features: features of real images, one split and shard, streamed."""

from pathlib import Path

from limbeck.artifacts import FEATURES
from limbeck.metrics.extractors import EXTRACTORS
from limbeck.stages.common import Spec, class_rows, params, progress, resize_to
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, weights: Path, record: Path, features: Path) -> None:
    """Write ``features`` of any artifact that has ``images`` and ``labels``; batches never span classes."""
    extractor = EXTRACTORS[spec["extractor"]](weights, record)
    with Artifact(images) as source, progress("features") as report:
        labels = source["labels"]
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        shapes = {"features": (len(labels), extractor.dim), "labels": labels.shape, "correct": labels.shape}
        with create(features, FEATURES, shapes, params(spec), {"images": images, "weights": weights}, **header) as out:
            for label, rows in class_rows(labels):
                pixels = resize_to(source.read("images", rows.start, rows.stop), extractor.size)
                for values, predicted in extractor.batches(pixels):
                    out.append("features", values)
                    out.append("correct", predicted == label)
                report(rows.stop, len(labels))
            out.append("labels", labels)
