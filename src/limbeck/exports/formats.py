"""The layouts that others' training reads: each takes a distilled set and an empty folder, and keeps the order of its classes."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.encoding import png
from limbeck.data.folders import folder_name
from limbeck.errors import LimbeckError
from limbeck.exports.cell import Distilled
from limbeck.stages.common import by_class

ROWS = 100  # images in a row group, as the hub has it: its viewer reads one for a page
# (mean, deviation) of red, green and blue by which DD-Ranking 0.2 normalises its test images: CIFAR-10 and -100, and all its others
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_SIDE = 32  # pixels; none of its others has it
Report = Callable[[int, int], None]  # classes done, of how many


@dataclass(frozen=True)
class Format:
    """write: into a folder, telling how far it is; returns what else the manifest should say.

    load: the Python that reads what is called ``reads`` in it.
    data_files: of the default configuration that the Hugging Face hub and ``datasets`` find in the card; None where they read none.
    """

    write: Callable[[Distilled, Path, Report], dict[str, Any]]
    load: str
    reads: str
    data_files: str | None = None

    def line(self, out: Path | str) -> str:
        """The Python that reads an export in the folder ``out``."""
        return self.load.format(json.dumps(os.path.normpath(os.path.join(out, self.reads)), ensure_ascii=False))


def imagefolder(found: Distilled, out: Path, report: Report) -> dict[str, Any]:
    """``train/<class>/<image>.png``: the sorted names of the folders are the classes in order."""
    for _, name, content in _pngs(found, found.shards, report):
        path = out / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {}


def parquet(found: Distilled, out: Path, report: Report) -> dict[str, Any]:
    """``data/train-<i>-of-<n>.parquet``: PNGs in an ``Image`` column, a ``ClassLabel`` with the classes' own names beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"_type": "ClassLabel", "names": list(found.classes)}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata={"huggingface": json.dumps(about)})
    (out / "data").mkdir()
    for number, shard in enumerate(found.shards):
        path = out / f"data/train-{number:05d}-of-{len(found.shards):05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            rows = ({"image": {"bytes": png, "path": name}, "label": c} for c, name, png in _pngs(found, [shard], report))
            while group := list(islice(rows, ROWS)):
                writer.write_table(pa.Table.from_pylist(group, schema))
    return {}


def ddranking(found: Distilled, out: Path, report: Report) -> dict[str, Any]:
    """``images.pt``, float32 (classes·IPC, C, H, W), class-major, normalised as DD-Ranking does it; ``labels.pt``, int64."""
    import torch

    if found.ipc is None:
        raise LimbeckError(f"{found.folder}: its classes have different numbers of images, DD-Ranking takes as many of each")
    height, width, channels = found.shape
    mean, deviation = (torch.tensor(row) for row in (CIFAR if height == CIFAR_SIDE else IMAGENET))
    if channels == 1:  # DD-Ranking itself has no gray images
        mean, deviation = mean.mean().reshape(1), deviation.mean().reshape(1)
    images = torch.empty(found.images, channels, height, width)
    labels = torch.arange(len(found.classes)).repeat_interleave(found.ipc)
    for label, pixels in by_class(found.shards):
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        images[labels == label] = (x - mean[:, None, None]) / deviation[:, None, None]
        report(label + 1, len(found.classes))
    torch.save(images, out / "images.pt")
    torch.save(labels, out / "labels.pt")
    return {"mean": [round(float(value), 6) for value in mean], "std": [round(float(value), 6) for value in deviation]}


def _pngs(found: Distilled, shards: Sequence[Path], report: Report) -> Iterator[tuple[int, str, bytes]]:
    """(class, <folder>/<number>.png, the file's bytes) of every image of some shards, class-major."""
    classes = found.classes
    for label, images in by_class(shards):
        folder = folder_name(label, classes[label], len(classes))
        for number, image in enumerate(images):
            yield label, f"{folder}/{number:05d}.png", png(image)
        report(label + 1, len(classes))


FORMATS: dict[str, Format] = {
    "imagefolder": Format(imagefolder, "torchvision.datasets.ImageFolder({})", "train", "train/*/*.png"),
    "parquet": Format(parquet, 'datasets.load_dataset({}, split="train")', "", "data/train-*.parquet"),
    "ddranking": Format(ddranking, "metric.compute_metrics(image_tensor=torch.load({}))", "images.pt"),
}
