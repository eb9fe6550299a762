"""Measure the embedded prior and write its model card: src/limbeck/data/fashion-dit/{README.md,samples.png}.

    make table
    .venv/bin/snakemake --configfile workflow/configs/train_fashion_dit.yaml -- \\
        results/fashion_mnist/teachers/convnet3/teacher.json results/fashion_mnist/v32/images/test-0.zarr.zip
    .venv/bin/python workflow/scripts/prior_card.py

Students on real images and on samples come from `make table` (IPC 50); those on reconstructions are trained here under the same
protocol, seeds and repeats. The judge of samples is a teacher trained on all 60,000 real training images.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.artifacts import DISTILLED, IMAGES
from limbeck.data.paths import package_path
from limbeck.diffusion.sampling import sample
from limbeck.metrics.teacher import TeacherExtractor
from limbeck.priors.dit import DitPrior
from limbeck.protocols import PROTOCOLS
from limbeck.records import read_json
from limbeck.report.grid import montage
from limbeck.report.statistics import paired
from limbeck.seeds import normal
from limbeck.stages.common import classes_of, read_all
from limbeck.store import Artifact
from limbeck.students.evaluation import accuracy, predict
from limbeck.students.registry import build
from limbeck.students.training import train

RESULTS = Path("results")
MINI = RESULTS / "fashion-mini"
PROTOCOL, STUDENT, IPC, SEEDS = "tiny-hard", "convnet3-w32", 50, (0, 1, 2)
SCALES = (1.0, 1.5, 2.0, 4.0)
PER_CLASS = 50
TEACHER = RESULTS / "fashion_mnist/teachers/convnet3"


def accuracies(cell: str) -> dict[int, list[float]]:
    """Seed -> accuracies of a method of the table."""
    found: dict[int, list[float]] = {}
    for seed in SEEDS:
        path = MINI / cell / f"ipc{IPC}/seed{seed}/students/{PROTOCOL}/{STUDENT}.json"
        found[seed] = [r["accuracy"] for r in read_json(path, "student")["repeats"]]
    return found


def reconstruct(prior: DitPrior, images: np.ndarray) -> np.ndarray:
    """decode(encode(x)), a batch at a time."""
    return np.concatenate([prior.decode(prior.encode(images[i : i + 250]), images.shape[-1]) for i in range(0, len(images), 250)])


def on_reconstructions(prior: DitPrior, repeats: int) -> dict[int, list[float]]:
    """Students trained on reconstructions of the images of `random`, on the same streams."""
    test, test_labels = read_all([MINI / "v32/images/test-0.zarr.zip"], IMAGES, "images", "labels")
    settings = PROTOCOLS[PROTOCOL].settings(IPC, 10, "convnet")
    found: dict[int, list[float]] = {}
    for seed in SEEDS:
        images, labels = read_all([MINI / f"none/random/ipc{IPC}/seed{seed}/distilled-0.zarr.zip"], DISTILLED, "images", "labels")
        again = reconstruct(prior, images)
        found[seed] = []
        for repeat in range(repeats):
            model = train(lambda: build(STUDENT, 1, 10, 32), again, labels, settings, seed, repeat, lambda *_: None)
            found[seed].append(accuracy(predict(model, test, settings.normalise), test_labels))
    return found


def draw(prior: DitPrior, scale: float, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Unguided samples of every class."""
    images = []
    for label in range(10):
        noise = torch.stack([normal(prior.latent_shape, 0, "card", label, i) for i in range(per_class)])
        labels = torch.full((per_class,), label)
        found = sample(prior.denoise, prior.scheduler("ddim", 50), noise, labels, null=prior.null, cfg_scale=scale)
        images.append(prior.decode(found.latents, 1))
    return np.concatenate(images), np.repeat(np.arange(10), per_class)


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(2)
    folder = package_path("package:fashion-dit")
    prior, teacher = DitPrior(folder), TeacherExtractor(TEACHER / "model.safetensors", TEACHER / "teacher.json")
    with Artifact(RESULTS / "fashion_mnist/v32/images/test-0.zarr.zip", IMAGES) as artifact:
        images = artifact["images"]
    error = float((((reconstruct(prior, images).astype(np.float64) - images) / 127.5) ** 2).mean())
    real, sampled = accuracies("none/random"), accuracies("fashion-dit/dit")
    rebuilt = on_reconstructions(prior, len(real[0]))
    agreement = {}
    for scale in SCALES:
        made, labels = draw(prior, scale, PER_CLASS)
        agreement[scale] = float(np.mean(np.concatenate([p for _, p in teacher.batches(made)]) == labels))
    grid, _ = draw(prior, 1.5, 8)
    strip = montage(grid.reshape(10, 8, 32, 32, 1).transpose(1, 0, 2, 3, 4).reshape(-1, 32, 32, 1), 10)[..., 0]
    Image.fromarray(strip).resize((strip.shape[1] * 2, strip.shape[0] * 2), Image.Resampling.NEAREST).save(folder / "samples.png")
    record = json.loads((folder / "training.json").read_text())
    (folder / "README.md").write_text(card(record, error, real, rebuilt, sampled, agreement), encoding="utf-8")
    print((folder / "README.md").read_text())


def card(record: dict, error: float, real: dict, rebuilt: dict, sampled: dict, agreement: dict[float, float]) -> str:
    """The model card's text."""
    mean = lambda a: 100 * float(np.mean([np.mean(v) for v in a.values()]))  # noqa: E731
    loss, gap = paired(rebuilt, real), paired(sampled, real)
    assert loss is not None
    assert gap is not None
    judge = read_json(TEACHER / "teacher.json", "teacher")["accuracy"]
    met = lambda good: "met" if good else "**not met**"  # noqa: E731
    classes = ", ".join(classes_of(MINI / "v32/images/train-0.zarr.zip"))
    minutes = {k: record["seconds"][k] / 60 for k in ("vae", "dit")}
    return f"""# fashion-dit

A small class-conditional latent diffusion prior for Fashion-MNIST (MIT licence, see ../NOTICE-fashion-mnist), in the layout of
diffusers' `DiTPipeline`: an AutoencoderKL (1×32×32 to 4×8×8) and a DiT (6 blocks, width 160, patch 2), float16 weights.
Classes: {classes}.

![samples, DDIM, 50 steps, guidance scale 1.5](samples.png)

## Training

On the 60,000 training images, 2 CPU cores: VAE {record["params"]["train"]["vae"]["steps"]} steps in {minutes["vae"]:.0f} min, DiT
{record["params"]["train"]["dit"]["steps"]} steps in {minutes["dit"]:.0f} min (batch 64; EMA, cosine rate, labels dropped once per sample,
min-SNR-5 weights). `training.json` holds the configuration, seeds, losses and how this run was started; `make prior` repeats the recipe.

## Measured

| what | target | result | |
| --- | --- | --: | --- |
| reconstruction error (MSE on [-1, 1], 10,000 test images) | | {error:.4f} | |
| students on reconstructions minus on the images (IPC {IPC}, {loss.seeds} seeds) | ≥ -1 point | \
{100 * loss.difference:+.1f} ± {100 * loss.half_width:.1f} | {met(loss.difference >= -0.01)} |
| students on {IPC} unguided samples per class minus on {IPC} random real ones | ≥ -4 points | \
{100 * gap.difference:+.1f} ± {100 * gap.half_width:.1f} | {met(gap.difference >= -0.04)} |
| a classifier trained on all real images agrees with samples at scale 1.5 | ≥ 90 % | {100 * agreement[1.5]:.1f} % | \
{met(agreement[1.5] >= 0.9)} |

Accuracies (%, {PROTOCOL}, {STUDENT}): real {mean(real):.1f}, reconstructions {mean(rebuilt):.1f}, samples {mean(sampled):.1f}. ± is a 95 % interval
over shared seeds; "met" speaks of the mean, three seeds leave the interval wide. The judge has {100 * judge:.1f} % on the test images; its agreement with {PER_CLASS} samples per class by guidance scale:
{", ".join(f"{scale:g}: {100 * value:.1f} %" for scale, value in agreement.items())}.
"""


if __name__ == "__main__":
    main()
