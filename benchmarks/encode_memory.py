"""encode streams: its peak memory does not grow from 5,000 images to 60,000, and ImageNet-1K's number stays below 2 GB."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Line, Usage, alone, judged
from limbeck.artifacts import IMAGES
from limbeck.config import DitTraining, VaeTraining
from limbeck.priors import dit
from limbeck.priors.files import INDEX
from limbeck.priors.training import build_dit, build_vae
from limbeck.stages import prior
from limbeck.store import create

SIZES = (5_000, 60_000)
IMAGENET, SIDE = 1_281_167, 8  # as many entries, at a size that a CPU encodes in a minute


def images(path: Path, n: int, classes: int, shape: tuple[int, int, int]) -> None:
    """Random images, class by class."""
    rng = np.random.default_rng(0)
    shapes = {"images": (n, *shape), "labels": (n,), "source_ids": (n, 1)}
    header: dict[str, Any] = {"classes": [str(c) for c in range(classes)], "class_range": [0, classes]}
    with create(path, IMAGES, shapes, {}, {}, **header) as out:
        for start in range(0, n, 1000):
            stop = min(start + 1000, n)
            out.append("images", rng.integers(0, 256, (stop - start, *shape), dtype=np.uint8))
            out.append("labels", np.arange(start, stop) * classes // n)
            out.append("source_ids", np.full((stop - start, 1), 48, np.uint8))


def stored(folder: Path, weights: str) -> Path:
    """The index of a prior as the pipeline stores it."""
    spec = {"family": "dit", "weights": weights, "train": None, "load": {"dtype": "float32"}, "code": "benchmark"}
    prior.run(spec, [], folder / INDEX)
    return folder / INDEX


def tiny(folder: Path) -> Path:
    """A folder with a random prior of small images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = build_vae(3, SIDE, VaeTraining(block_out_channels=(8, 8)))
        model = build_dit(4, SIDE // 2, 1, DitTraining(layers=1, heads=1, head_dim=8))
    dit.save(folder, model, vae, prior.SCHEDULER, {0: "any"})
    return folder


def encoded(folder: Path, n: int, classes: int, shape: tuple[int, int, int], index: Path, batch: int) -> Usage:
    """The whole command."""
    source, out = folder / f"{n}.zarr.zip", folder / f"{n}-latents.zarr.zip"
    images(source, n, classes, shape)
    spec = json.dumps({"family": "dit", "size": shape[0], "batch": batch, "code": "benchmark"})
    files = ["--images", str(source), "--prior", str(index), "--latents", str(out), "--prov", str(folder / "prov.json")]
    used = alone(["--threads", "1", "encode", "--spec", spec, *files])
    source.unlink()
    out.unlink()
    return used


def run(folder: Path) -> list[Line]:
    """One line per number of images, the ratio against the smallest's memory, or the limit."""
    embedded, small = stored(folder / "fashion", "package:fashion-dit"), stored(folder / "small", str(tiny(folder / "tiny")))
    found = [(f"{n:,} images", encoded(folder, n, 10, (32, 32, 1), embedded, 100)) for n in SIZES]
    of = [(used.peak_mb / found[0][1].peak_mb, "peak memory at 5,000") for _, used in found]
    large = encoded(folder, IMAGENET, 1000, (SIDE, SIDE, 3), small, 1000)
    found.append((f"{IMAGENET:,} images of {SIDE}x{SIDE}", large))
    of.append((large.peak_mb / 2000, "a limit of 2 GB"))
    lines: list[Line] = [
        {"benchmark": "encode", "case": case, "seconds": used.seconds, "peak_mb": used.peak_mb, "ratio": ratio, "of": against}
        for (case, used), (ratio, against) in zip(found, of, strict=True)
    ]
    return [lines[0], *(judged(line, ratio=(None, 1.1)) for line in lines[1:-1]), judged(lines[-1], peak_mb=(None, 2000))]
