"""How well typicality tells the classes of test images: the diffusion classifier that patch selection rests on (its Eq. 4).

``python workflow/scripts/diffusion_classifier.py``: the embedded benchmark under the embedded prior; about four minutes.
"""

import argparse

import numpy as np
import torch

from limbeck.config import Config
from limbeck.data.decoding import decode
from limbeck.data.paths import package_path
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
from limbeck.priors.base import Prior
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal, stream
from limbeck.selection.typicality import timesteps, typicality

BATCH = 64


def scores(prior: Prior, latents: torch.Tensor, ids: list[int], draws: int, seed: int = 0) -> np.ndarray:
    """(N, classes) mean typicality of every image for every class, the same timesteps and noise for all classes."""
    schedule, out = prior.schedule, np.empty((len(latents), len(ids)))
    for start in range(0, len(latents), BATCH):
        z = latents[start : start + BATCH]
        rows = range(start, start + len(z))
        times = [timesteps(stream(seed, "check.t", 0, row), draws, (0.1, 0.7), len(schedule), "uniform") for row in rows]
        noise = [torch.stack([normal(prior.latent_shape, seed, "check", 0, row, draw) for row in rows]) for draw in range(draws)]
        for column, label in enumerate(ids):
            labels, t = torch.full((len(z),), label), torch.from_numpy(np.stack(times))
            found = typicality(prior.denoise, schedule, z, labels, prior.null, t, noise.__getitem__)
            out[start : start + len(z), column] = found.mean(dim=(1, 2)).numpy()
    return out


def main() -> None:
    """Print how often the true class beats a random wrong one, and all others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, help="of the test images, the first so many of a random order; default: all")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    spec = Config().datasets["fashion-mini"]
    source, view = open_source("fashion-mini", spec), spec.views[spec.view]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(source.labels("test")))[: options.images]
    pixels = np.stack([apply_view(decode(source.raw("test", int(i))), view, spec.channels) for i in chosen])
    prior = load_prior("dit", package_path("package:fashion-dit"), view.size)
    found, true = scores(prior, prior.encode(pixels), prior.class_ids(source.classes), options.draws), source.labels("test")[chosen]
    rows = np.arange(len(true))
    wrong = (true + rng.integers(1, len(source.classes), len(true))) % len(source.classes)
    print(
        f"{len(true)} test images, {options.draws} draws: the true class beats a random wrong one for "
        f"{(found[rows, true] > found[rows, wrong]).mean():.1%}, all others for {(found.argmax(axis=1) == true).mean():.1%}, "
        f"no class for {(found[rows, true] > 0).mean():.1%}"
    )


if __name__ == "__main__":
    main()
