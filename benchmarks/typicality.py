"""Typicality maps against one image, draw and branch at a time with all grids kept; peak memory over draws and images; bytes."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Line, alone, judged
from limbeck.artifacts import IMAGES, LATENTS, SCORES, Schema
from limbeck.data.paths import package_path
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.store import create

TIMED, DRAWS = 128, 10
# images, draws
MEMORY = ((500, 1), (500, 20), (10_000, 1))
STORED = (1000, 32)  # images, side of their latents
PRIOR = {"family": "dit", "weights": "package:fashion-dit", "train": None, "load": {"dtype": "float32"}, "code": "benchmark"}
SCORING = {"t_range": [0.1, 0.7], "t_draws": "uniform", "real_images_per_class": None, "score_batch": 64}


def naive(images: int) -> float:
    """Seconds of one image, draw and branch at a time."""
    return _timed(images, batch=1, together=False)


def ours(images: int) -> float:
    """Seconds of the kernel in batches of 64."""
    return _timed(images, batch=64, together=True)


def _timed(images: int, batch: int, together: bool) -> float:
    from limbeck.priors.dit import DitPrior
    from limbeck.selection.typicality import typicality

    torch.set_num_threads(1)
    prior = DitPrior(package_path("package:fashion-dit"))
    schedule, generator = prior.schedule, torch.Generator().manual_seed(0)
    z = torch.randn(images, *prior.latent_shape, generator=generator)
    eps = torch.randn(DRAWS, *z.shape, generator=generator)
    t = torch.randint(100, 700, (images, DRAWS), generator=generator)
    labels, kept = torch.arange(images) % 10, []
    begun = time.process_time()
    for start in range(0, images, batch):
        at = slice(start, start + batch)
        if together:
            typicality(prior.denoise, schedule, z[at], labels[at], prior.null, t[at], lambda draw, at=at: eps[draw, at])  # type: ignore[misc]
            continue
        with torch.inference_mode():
            for draw in range(DRAWS):
                x = schedule.noised(z[at], eps[draw, at], t[at, draw])
                for label in (labels[at], torch.full_like(labels[at], prior.null)):
                    kept.append((prior.denoise(x, t[at, draw], label)[0] - eps[draw, at]) ** 2)
    return time.process_time() - begun


def _written(path: Path, schema: Schema, **arrays: np.ndarray) -> Path:
    """An artifact of ten classes."""
    shapes = {name: values.shape for name, values in arrays.items()}
    with create(path, schema, shapes, {}, {}, classes=list(FASHION_CLASSES), class_range=[0, 10]) as out:
        for name, values in arrays.items():
            out.append(name, values)
    return path


def _inputs(folder: Path, n: int) -> list[str]:
    """Empty images and random latents, as the command takes them."""
    labels, latents = np.arange(n) * 10 // n, np.random.default_rng(0).normal(size=(n, 4, 8, 8))
    ids, pixels = np.full((n, 1), 48, np.uint8), np.zeros((n, 8, 8, 1), np.uint8)
    images = _written(folder / f"scored-{n}.zarr.zip", IMAGES, images=pixels, labels=labels, source_ids=ids)
    return [
        "--images",
        str(images),
        "--latents",
        str(_written(folder / f"{n}-z.zarr.zip", LATENTS, latents=latents, labels=labels)),
    ]


def _stored(folder: Path) -> float:
    """MB of an artifact of maps."""
    n, side = STORED
    maps, rows = np.random.default_rng(0).normal(size=(n, side, side)), np.arange(n)
    return _written(folder / "stored.zarr.zip", SCORES, maps=maps, rows=rows, labels=np.zeros(n, np.int32)).stat().st_size / 1e6


def run(folder: Path) -> list[Line]:
    """The kernel's time, the command's memory, the artifact's size."""
    from limbeck.stages.prior import run as store_prior

    lines: list[Line] = []
    out, first, base = folder / "typicality.json", 0.0, 0.0
    for case in ("naive", "ours"):
        peak = alone([case, str(out)], module="benchmarks.typicality").peak_mb
        seconds = float(json.loads(out.read_text()))
        first = first or seconds
        line: Line = {"benchmark": "typicality", "case": f"{case}, {TIMED} images, {DRAWS} draws, CPU on 1 thread"}
        line |= {"seconds": seconds, "peak_mb": peak, "ratio": first / seconds, "of": "times faster than naive"}
        lines.append(line)
    index = folder / "stored-prior" / "model_index.json"
    store_prior(PRIOR, [], index)
    for n, draws in MEMORY:
        spec = json.dumps({"family": "dit", "prior": {"size": 32}, "scoring": {**SCORING, "n_draws": draws}, "code": "benchmark"})
        made = ["--scores", str(folder / "scores.zarr.zip"), "--prov", str(folder / "prov.json")]
        used = alone(["--threads", "1", "score", "--spec", spec, *_inputs(folder, n), "--prior", str(index), *made])
        line = {"benchmark": "score", "case": f"{n:,} images, {draws} draws", "seconds": used.seconds}
        line |= {"peak_mb": used.peak_mb, "ratio": used.peak_mb / (base or used.peak_mb), "of": "peak memory of the first"}
        lines.append(judged(line, ratio=(None, 1.1)) if base else line)  # no memory for a draw or an image
        base = base or used.peak_mb
    size = _stored(folder)
    what = f"{STORED[0]:,} maps of {STORED[1]}x{STORED[1]}: {size:.2f} MB stored"
    stored: Line = {"benchmark": "score", "case": what, "seconds": 0.0, "peak_mb": 0.0}
    return [*lines, judged({**stored, "ratio": size / 4, "of": "the 4 MB allowed"}, ratio=(None, 1))]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps({"naive": naive, "ours": ours}[sys.argv[1]](TIMED)))
