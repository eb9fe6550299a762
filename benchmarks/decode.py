"""ingest decodes and resizes in threads: against a plain Pillow loop over half of the files in each of two processes.

Three commands: the loop; what ingest does before it writes; and the whole of ingest, which compresses, writes and checks an
artifact of as many bytes as the pixels too. ``python -m benchmarks.decode plain FIRST STEP FOLDER`` is the loop.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Line, Usage, alone, judged, together
from limbeck.config import Dataset, View
from limbeck.data.sources import open_source
from limbeck.stages.ingest import Ingest

CLASSES, PER_CLASS, DISTINCT = 10, 400, 20
SIZE = 256


def jpegs(root: Path) -> None:
    """Photographs' sizes and detail: noise of several scales, 500 by 375."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        for split, count in (("train", PER_CLASS), ("val", 1)):
            folder = root / split / f"c{label}"
            folder.mkdir(parents=True)
            for number in range(min(count, DISTINCT)):
                layers = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((6, 8), (24, 32), (94, 125))]
                pictures = [np.asarray(Image.fromarray(layer).resize((500, 375)), np.float32) for layer in layers]
                pixels = np.clip(0.5 * pictures[0] + 0.3 * pictures[1] + 0.2 * pictures[2], 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04}.JPEG", quality=92)
            for number in range(DISTINCT, count):
                os.link(folder / f"{number % DISTINCT:04}.JPEG", folder / f"{number:04}.JPEG")


def plain(first: int, step: int, root: Path) -> None:
    """Every ``step``-th file: open, RGB, central square, Lanczos."""
    for path in sorted((root / "train").rglob("*.JPEG"))[first::step]:
        with Image.open(path) as file:
            image = file.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        np.asarray(image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def threaded(threads: int, root: Path) -> None:
    """The same of all files by ingest's threads."""
    source = open_source("photographs", Dataset(source="folder", path=str(root)))
    ingest = Ingest(source, "train", View(size=SIZE), 3, threads, root)
    count = sum(pixels is not None for _, pixels in ingest.decoded(np.arange(len(source.labels("train")))))
    assert count == CLASSES * PER_CLASS


def line(case: str, used: Usage, reference: Usage) -> Line:
    """A row of the table."""
    numbers = {"seconds": used.seconds, "peak_mb": used.peak_mb, "ratio": used.seconds / reference.seconds}
    case = f"{CLASSES * PER_CLASS:,} JPEGs to {SIZE}, {case}"
    return {"benchmark": "decode", "case": case, **numbers, "of": "time of the plain loop"}


def run(folder: Path) -> list[Line]:
    """The loop, then ingest's threads, as many, and ingest."""
    root = folder / "jpegs"
    jpegs(root)
    cores = min(2, os.cpu_count() or 1)
    loops = together(*(["plain", str(first), str(cores), str(root)] for first in range(cores)), module="benchmarks.decode")
    reference = Usage(max(loop.seconds for loop in loops), sum(loop.peak_mb for loop in loops))
    threads = alone(["threads", str(cores), str(root)], module="benchmarks.decode")
    source = {"source": "folder", "path": str(root), "classes": None, "channels": 3}
    about = {"dataset": "photographs", "source": source, "view": {"size": SIZE, "resize": "crop"}, "split": "train"}
    spec = json.dumps({**about, "classes": [0, CLASSES], "bad_files": 0, "code": "benchmark"})
    files = ["--images", str(folder / "images.zarr.zip"), "--prov", str(folder / "prov.json")]
    used = alone(["--threads", str(cores), "ingest", "--spec", spec, *files])
    decoded = judged(line("ingest's threads", threads, reference), ratio=(None, 1.2))
    return [line("plain loop", reference, reference), decoded, line("ingest", used, reference)]


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        plain(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        threaded(int(sys.argv[2]), Path(sys.argv[3]))
