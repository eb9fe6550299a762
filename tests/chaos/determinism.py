"""The same images however the work is cut, and wherever: shards, batches, jobs at once, kills, another CPU, a GPU."""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.artifacts import DISTILLED
from limbeck.records import SUFFIX
from limbeck.stages.common import read_all
from tests.chaos.kill import disturb, plain
from tests.chaos.outcome import Fault, Wrong
from tests.chaos.runs import SmallRun, clean_environment
from tests.conftest import write_small

METHODS = ("random", "dit", "mgd", "manifoldgd", "coda", "d3hr", "s3", "im", "patches")
CHOSEN = ("random", "patches")  # pixels of real images
# the vector instructions of an older CPU, in every library that asks for them
OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
}
PROCESSORS = {"here": {"LIMBECK_DEVICE": "cpu"}, "older": {"LIMBECK_DEVICE": "cpu", **OLDER}, "cuda": {"LIMBECK_DEVICE": "cuda"}}
# choose otherwise where latents, or the weights of a trained teacher, differ by rounding (docs/INTEGRITY.md)
CHOOSING = ("coda", "s3", "patches")
BATCH, SHARDS = 64, 1
# what batches of other sizes may change: gray levels of 255, and latents of variance 1 (docs/INTEGRITY.md has what they do change)
GRAY, LATENT = 1, 1e-4


@dataclass(frozen=True)
class Way:
    """How a run's work is cut: shards of the dataset, images per batch in every stage that has one, and of encoding by itself; jobs
    at once, processes killed; one of PROCESSORS.
    """

    shards: int = SHARDS
    batch: int = BATCH
    encoded: int = BATCH
    cores: int = 1
    kills: int = 0
    processor: str = "here"

    @property
    def same_latents(self) -> bool:
        """Whether the dataset's latents are those of the plain way to the bit."""
        return self.encoded == BATCH and self.processor == "here"


def run(folder: Path, way: Way, seed: int) -> Path:
    """The results of a small run of many methods, made in a way."""
    folder.mkdir()
    write_small(folder / "pixels.npz")
    small = SmallRun(folder / "w", METHODS, cores=way.cores, **overlay(folder, way))
    env = clean_environment() | PROCESSORS[way.processor]
    if way.kills:
        disturb(small, env, way.kills, {}, seed, 3.0)
    plain(small.command, small.folder, env)
    return small.results


def overlay(folder: Path, way: Way) -> dict[str, Any]:
    """What the way says of the config: nothing else differs."""
    view = {"v32": {"size": 32, "resize": "pad"}}
    pixels = {"source": "npz", "path": str(folder / "pixels.npz"), "channels": 1, "views": view, "shards": way.shards}
    tuned = {"dataset": "fashion-mini", "criterion": "inversion_matching", "epochs": 1}
    sampled = {"steps": 3, "batch_size": way.batch}
    guided = {**sampled, "t_stop": 2}
    return {
        "datasets": {"fashion-mini": pixels},
        "priors": {"tiny": {"encode_batch": way.encoded}, "tuned": {"base": "tiny", "finetune": tuned}},
        "methods": {
            "dit": {"base": "dit", **sampled},
            "mgd": {"base": "mgd", "weight": 0.1, **guided},
            "manifoldgd": {"base": "manifoldgd", "warmup": 0, **guided},
            "coda": {"base": "coda", "prior_injection_steps": 1, **sampled},
            "d3hr": {"base": "d3hr", "inversion_step": 2, "candidates": 100, "inversion_batch": way.batch, **sampled},
            "s3": {"base": "ims3", "groups": 2, **sampled},
            "im": {"base": "dit", "prior": "tuned", **sampled},
            "patches": {"base": "patches", "real_images_per_class": 20, "score_batch": way.batch, "dift_batch": way.batch},
        },
    }


def compare(found: Path, wanted: Path, way: Way) -> dict[str, tuple[float, float]]:
    """By method the largest differences of gray levels and latents from the plain way.

    Raises
    ------
    Wrong: one is larger than a rounding can be; any, where the batches are alike or real pixels are chosen.
    """
    worst, exactly = {}, way.batch == BATCH and way.same_latents
    for method in METHODS if way.same_latents else sorted(set(METHODS) - set(CHOOSING)):
        images, latents, labels, exact = [], [], [], exactly or method in CHOSEN
        for results, shards in ((wanted, SHARDS), (found, way.shards)):
            folder = next(results.glob(f"fashion-mini/*/{method}/ipc2/seed0"))
            paths = [folder / f"distilled-{shard}{SUFFIX}" for shard in range(shards)]
            arrays = ["images", "labels"] if method in CHOSEN else ["images", "labels", "latents"]
            pixels, classes, *rest = read_all(paths, DISTILLED, *arrays)
            images.append(pixels.astype(int))
            labels.append(classes)
            latents.append(rest[0] if rest else np.zeros(1))
        if images[0].shape != images[1].shape or not np.array_equal(*labels):
            raise Wrong(f"{method}, {way}: other classes")
        worst[method] = (float(np.abs(images[0] - images[1]).max()), float(np.abs(latents[0] - latents[1]).max()))
        if worst[method][0] > (0 if exact else GRAY) or worst[method][1] > (0 if exact else LATENT):
            raise Wrong(f"{method}, {way}: images differ by {worst[method][0]:.0f} of 255, latents by {worst[method][1]:.2g}")
    return worst


def ways(count: int, seed: int) -> list[Way]:
    """As many; the first few by hand, the others drawn."""
    rng = random.Random(seed)
    each = [Way(shards=3, cores=2, kills=3), Way(batch=1), Way(encoded=7, processor="older"), Way(shards=10), Way(cores=2)]
    each += [Way(processor="cuda")] if torch.cuda.is_available() else []
    batches = [1, 2, 7, BATCH]
    while len(each) < count:
        each.append(Way(rng.choice([1, 2, 3, 5]), rng.choice(batches), rng.choice(batches), rng.choice([1, 2]), rng.choice([0, 3])))
    return each[:count]


def several(count: int, seed: int, folder: Path) -> dict[str, tuple[float, float]]:
    """By method the largest differences of any way from the plain one."""
    plainly, worst = run(folder / "plain", Way(), seed), dict.fromkeys(METHODS, (0.0, 0.0))
    for number, way in enumerate(ways(count, seed)):
        found = compare(run(folder / str(number), way, seed + number), plainly, way)
        for name, (image, latent) in found.items():
            worst[name] = (max(worst[name][0], image), max(worst[name][1], latent))
    return worst


def _several(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        worst = several(count, seed, Path(folder))
    for name, (image, latent) in worst.items():
        print(f"{name}: images {image:.0f} of 255, latents {latent:.1e}")
    return count


FAULTS: list[Fault] = [("work cut otherwise", _several, 3, 20)]
