"""What the benchmarks' overlays resolve to against the numbers that the papers print for each benchmark."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from limbeck import protocols
from limbeck.config import Config
from limbeck.derived import inherit
from limbeck.resolution import resolve

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "workflow/configs"
LETTERS = tuple(f"imagenet-{letter}" for letter in "abcde")


def config(*overlays: Path) -> dict[str, Any]:
    """The overlays' keys, the later over the earlier, without config.yaml's."""
    found: dict[str, Any] = {}
    for path in overlays:
        update_config(found, yaml.safe_load(path.read_text()))
    return found


DDPM = {"solver": "ddpm", "steps": 50}  # ManifoldGD Tables 1, 2
MANIFOLD = {
    "t_stop": 25,
    "d": 3,
    "warmup": 5,
    "anneal": "exponential",
    "kernel": "rbf",
    "weight": 0.1,
}  # its Tables 4, 5, 9, Fig. 8
LOW, HIGH = {"gamma": 1.0, "prior_injection_steps": 15}, {"gamma": 0.8, "prior_injection_steps": 8}  # CoDA Sec. 5 for DiT
SDXL = {"gamma": 0.1, "prior_injection_steps": 5}  # CoDA Table 8


def coda(neighbours: int, size: int = 55) -> dict[str, Any]:
    """CoDA's discovery: A.3 and A.6, and Sec. 4.1."""
    return {"n_neighbors": neighbours, "min_cluster_size": size, "components": 50, "min_dist": 0.0, "min_samples": 3}


def d3hr(candidates: int) -> dict[str, Any]:
    """D3HR App. B and Sec. 5.1."""
    return {"candidates": candidates, "l_mu": 1.0, "l_sd": 1.0, "l_skew": 0.5, "inversion_step": 31}


@pytest.mark.parametrize(
    ("name", "ipc", "method", "numbers"),
    [
        ("imagenette", 10, "manifoldgd_ddpm", {**DDPM, **MANIFOLD, "radius": 0.05}),  # its Table 7
        ("imagenet100", 10, "manifoldgd_ddpm", {**DDPM, **MANIFOLD, "radius": 0.1}),
        ("imagewoof", 100, "mgd_ddpm", {**DDPM, "t_stop": 25}),
        ("imagenette", 10, "coda", {**coda(90), **LOW}),
        ("imagenette", 50, "coda", {**coda(40, 15), **HIGH}),
        ("imageidc", 20, "coda_real", coda(90)),
        ("imageidc", 50, "coda_real", coda(40, 15)),
        ("imagewoof", 10, "coda", {**coda(85), **LOW}),
        ("imagenet1k", 10, "coda", {**coda(85), **LOW}),
        ("imagenet1k", 50, "coda", {**coda(40, 15), **HIGH}),
        *((letter, 10, "coda", {**coda(85), **SDXL, "solver": "dpm++", "cfg_scale": 5.0, "steps": 50}) for letter in LETTERS),
        ("places365", 10, "coda", {**coda(90), **SDXL, "solver": "dpm++", "cfg_scale": 5.0, "steps": 50}),
        ("imagenet1k", 10, "d3hr", d3hr(100_000)),
        ("tiny_imagenet", 10, "d3hr", d3hr(1_000_000)),
        ("cifar10", 50, "d3hr", d3hr(5_000_000)),
        ("cifar100", 50, "d3hr", d3hr(5_000_000)),
        ("imagewoof", 10, "ims3", {"alpha": 0.4, "beta": 0.9, "groups": 5}),
    ],
)
def test_the_papers_numbers(name, ipc, method, numbers):
    found = inherit(Config.model_validate(config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml")))
    made = resolve(found, method, ipc, found.run.prior, name)
    parts = (made.discovery, *made.guidance, made.sampler, made.start, made.keep)
    resolved = {key: value for part in parts for key, value in (part or {}).items()}
    assert {key: resolved[key] for key in numbers} == numbers


@pytest.mark.parametrize("name", ["imagenette", "imagewoof", "imageidc", "imagenet100", "imagenet1k"])
def test_ims3s_tuning(name):  # its Sec. 5.1
    found = Config.model_validate(config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml"))
    tuned = found.priors["dit-xl-im"].finetune
    assert (tuned.dataset, tuned.criterion, tuned.mode) == (name, "inversion_matching", "difffit")
    assert (tuned.epochs, tuned.batch_size, tuned.rate, tuned.lambda_im) == (8, 8, 1e-3, 0.002)
    assert (found.priors["dit-xl-minimax"].finetune.dataset, found.methods["ims3"]["prior"]) == (name, "dit-xl-im")


@pytest.mark.parametrize(("name", "epochs"), [("cifar10", 400), ("cifar100", 400), ("tiny_imagenet", 300)])
def test_d3hrs_small_images(name, epochs):  # its Sec. 5.1 and Table A1
    found = Config.model_validate(config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml"))
    tuned = found.priors[found.run.prior].finetune
    assert (tuned.dataset, tuned.mode, tuned.epochs) == (name, "full", 400)
    (protocol,) = found.run.protocols
    settings = protocols.get(protocol, "run.protocols", found.protocols).settings(10, 200, "resnet")
    assert (settings.epochs, settings.optimiser, settings.lr, settings.weight_decay) == (epochs, "adamw", 0.01, 0.01)
    assert (settings.batch_size, settings.temperature, settings.labels) == (128, 20, "soft")
