"""ingest decodes and resizes in threads: against a plain Pillow loop over half of the files in each of two processes.

The plain loop writes nothing; ingest compresses and writes an artifact, checks it, and starts up. ``python -m benchmarks.decode
FIRST STEP FOLDER`` is the loop.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Usage, alone, together

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


def run(folder: Path) -> list[dict[str, object]]:
    """The loop, then ingest with as many threads."""
    root = folder / "jpegs"
    jpegs(root)
    cores = min(2, os.cpu_count() or 1)
    loops = together(*([str(first), str(cores), str(root)] for first in range(cores)), module="benchmarks.decode")
    reference = Usage(max(loop.seconds for loop in loops), sum(loop.peak_mb for loop in loops))
    source = {"source": "folder", "path": str(root), "classes": None, "channels": 3}
    about = {"dataset": "photographs", "source": source, "view": {"size": SIZE, "resize": "crop"}, "split": "train"}
    spec = json.dumps({**about, "classes": [0, CLASSES], "bad_files": 0, "code": "benchmark"})
    files = ["--images", str(folder / "images.zarr.zip"), "--prov", str(folder / "prov.json")]
    used = alone(["--threads", str(cores), "ingest", "--spec", spec, *files])
    case, of = f"{CLASSES * PER_CLASS:,} JPEGs to {SIZE}", "time of the plain loop"
    return [
        {"benchmark": "decode", "case": f"{case}, plain loop", "seconds": loop_s, "peak_mb": loop_mb, "ratio": 1.0, "of": of}
        for loop_s, loop_mb in [(reference.seconds, reference.peak_mb)]
    ] + [
        {
            "benchmark": "decode",
            "case": f"{case}, ingest",
            "seconds": used.seconds,
            "peak_mb": used.peak_mb,
            "ratio": used.seconds / reference.seconds,
            "of": of,
        }
    ]


if __name__ == "__main__":
    plain(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
