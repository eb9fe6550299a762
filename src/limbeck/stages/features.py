"""features: features of real images under an extractor, one split and shard, streamed."""

from importlib import import_module
from pathlib import Path

from limbeck.artifacts import FEATURES
from limbeck.components import EXTRACTORS
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, resize_to
from limbeck.stages.numbers import append
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, features: Path, teacher: Path | None = None, record: Path | None = None) -> None:
    """Write ``features`` of any artifact that has ``images`` and ``labels``; batches never span classes."""
    extractor = import_module(EXTRACTORS[spec["kind"]]).load(spec, teacher, record)
    with Artifact(images) as source, progress("features") as report:
        labels = source["labels"]
        header = header_of(source)
        shapes = {"features": (len(labels), extractor.dim), "labels": labels.shape}
        if extractor.classifies:
            shapes["correct"] = labels.shape
        # the digests name the weights, whatever folder they are in
        inputs = {"images": images, **extractor.files}
        with create(features, FEATURES, shapes, params(spec, "weights"), inputs, **header) as out:
            for label, rows in class_rows(labels):
                where, pixels = f"class {header['classes'][label]!r}", source.read("images", rows.start, rows.stop)
                for values, predicted in extractor.batches(resize_to(pixels, extractor.size) if extractor.size else pixels):
                    append(out, {"features": values}, where, "are the extractor's weights whole?")
                    if extractor.classifies:
                        out.append("correct", predicted == label)
                report(rows.stop, len(labels))
            out.append("labels", labels)
