"""encode streams: its peak memory does not grow from 5,000 to 60,000 images."""

import json
from pathlib import Path

import numpy as np

from benchmarks.measure import alone
from limbeck.artifacts import IMAGES
from limbeck.data.paths import package_path
from limbeck.store import create

SIZES = (5_000, 60_000)


def images(path: Path, n: int) -> None:
    """Random images of ten classes."""
    rng = np.random.default_rng(0)
    shapes = {"images": (n, 32, 32, 1), "labels": (n,), "source_ids": (n, 1)}
    with create(path, IMAGES, shapes, {}, {}, classes=[str(c) for c in range(10)], class_range=[0, 10]) as out:
        for start in range(0, n, 1000):
            out.append("images", rng.integers(0, 256, (1000, 32, 32, 1), dtype=np.uint8))
            out.append("labels", np.arange(start, start + 1000) * 10 // n)
            out.append("source_ids", np.full((1000, 1), 48, np.uint8))


def run(folder: Path) -> list[dict[str, object]]:
    """One line per size, the ratio against the smaller."""
    spec = json.dumps({"family": "dit", "batch": 100, "code": "benchmark"})
    prior = package_path("package:fashion-dit") / "model_index.json"
    lines: list[dict[str, object]] = []
    for n in SIZES:
        source, out = folder / f"{n}.zarr.zip", folder / f"{n}-latents.zarr.zip"
        images(source, n)
        files = ["--images", str(source), "--prior", str(prior), "--latents", str(out), "--prov", str(folder / "prov.json")]
        used = alone(["--threads", "1", "encode", "--spec", spec, *files])
        line: dict[str, object] = {"benchmark": "encode", "case": f"{n:,} images", "seconds": used.seconds, "peak_mb": used.peak_mb}
        lines.append(
            {**line, "ratio": used.peak_mb / float(str(lines[0]["peak_mb"])) if lines else 1.0, "of": "peak memory at 5,000"}
        )
    return lines
