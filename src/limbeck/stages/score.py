"""score: typicality maps of a shard's training images under a prior, streamed; they depend on no IPC and no other class."""

import time
from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import IMAGES, LATENTS, SCORES
from limbeck.errors import LimbeckError
from limbeck.priors.files import weight_digests
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal, stream
from limbeck.selection.typicality import timesteps, typicality
from limbeck.stages.common import Spec, class_rows, header_of, params, progress
from limbeck.stages.numbers import WEIGHTS, append
from limbeck.store import Artifact, create

SEED = 0  # scores belong to no generation seed


def run(spec: Spec, images: Path, latents: Path, prior: Path, scores: Path) -> dict[str, float]:
    """Write ``scores``; returns the seconds per row. A batch is in memory at a time, whatever the number of draws.

    ``images`` is read for which rows are windows of one image.
    """
    options, started = spec["scoring"], time.monotonic()
    with Artifact(latents, LATENTS) as source, progress("score") as report:
        labels, shape = source["labels"], source.shape("latents")[1:]
        header = header_of(source)
        scorer = _Scorer(spec, prior, header["classes"])
        if shape != scorer.model.latent_shape:
            raise LimbeckError(f"prior {prior.parent}: takes latents {scorer.model.latent_shape}, those of {latents} are {shape}")
        chosen = _rows(labels, images, options["real_images_per_class"])
        n = sum(len(rows) for _, rows in chosen)
        shapes: dict[str, tuple[int, ...]] = {"maps": (n, *shape[1:]), "rows": (n,), "labels": (n,)}
        inputs, done = {"images": images, "latents": latents}, 0
        with create(scores, SCORES, shapes, params(spec), inputs, weight_digests(prior.parent), **header) as out:
            for at, rows in chosen:
                label = int(labels[at.start])
                for start in range(0, len(rows), options["score_batch"]):
                    own = rows[start : start + options["score_batch"]]
                    # rows ascend, so that a batch is read as one piece
                    block = source.read("latents", at.start + int(own[0]), at.start + int(own[-1]) + 1)[own - own[0]]
                    maps = scorer(torch.from_numpy(block.astype(np.float32)), label, own.tolist())
                    append(out, {"maps": maps}, f"class {header['classes'][label]!r}", WEIGHTS)
                    done += len(own)
                    report(done, n)
                out.append("rows", rows)
                out.append("labels", np.full(len(rows), label))
    return {"seconds_per_image": round((time.monotonic() - started) / n, 4)}


def _rows(labels: np.ndarray, images: Path, limit: int | None) -> list[tuple[slice, np.ndarray]]:
    """Every class's rows, and which of them are scored, ascending: all, or those of ``limit`` random images; more add to fewer."""
    with Artifact(images, IMAGES) as pixels:
        first = pixels["windows"] == 0 if "windows" in pixels else np.ones(len(labels), bool)
    chosen = []
    for label, at in class_rows(labels):
        image = np.cumsum(first[at]) - 1  # that each row is a window of
        order = stream(SEED, "score.images", label).permutation(image[-1] + 1)
        chosen.append((at, np.flatnonzero(np.isin(image, order[:limit]))))
    return chosen


class _Scorer:
    """A prior that scores batches; every row has its own streams of timesteps and noise."""

    def __init__(self, spec: Spec, prior: Path, classes: list[str]):
        self.options, self.classes = spec["scoring"], classes
        self.model = load_prior(spec["family"], prior.parent, **spec["prior"])
        self.schedule = self.model.schedule
        self.ids = self.model.class_ids(classes)

    def __call__(self, z: torch.Tensor, label: int, rows: list[int]) -> np.ndarray:
        """Maps of latents (N, C, H, W), the rows of a class."""
        draws, among, rule = (self.options[key] for key in ("n_draws", "t_range", "t_draws"))
        times = [timesteps(stream(SEED, "score.t", label, row), draws, among, len(self.schedule), rule) for row in rows]

        def noise(draw: int) -> torch.Tensor:
            return torch.stack([normal(tuple(z.shape[1:]), SEED, "score.noise", label, row, draw) for row in rows])

        labels, t = torch.full((len(z),), self.ids[label]), torch.from_numpy(np.stack(times))
        found = typicality(self.model.denoise, self.schedule, z, labels, self.model.null, t, noise)
        return found.numpy()
