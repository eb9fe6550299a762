"""Shared fixtures: tiny priors saved in diffusers' layout, tiny image folders, and Snakemake run for real."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from snakemake.utils import update_config

from limbeck import warm
from limbeck.data.paths import package_path
from limbeck.plan import Plan
from tests import forked
from tests.tiny_priors import save_tiny_dit

ROOT = Path(__file__).parents[1]
os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``save_tiny_dit``; not to be changed."""
    folder = tmp_path_factory.mktemp("prior") / "tiny-dit"
    save_tiny_dit(folder)
    return folder


def save_clip(folder: Path, seed: int) -> None:
    """A random CLIP of a few thousand parameters with its image processor, in transformers' layout."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    towers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 24}
    text = {**towers, "vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = {**towers, "image_size": 32, "patch_size": 8, "initializer_factor": 20.0}  # a random one hardly sees its image
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP's folder; not to be changed."""
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    save_clip(folder, 3)
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes, RGB images of mixed sizes, train and test."""
    root = tmp_path / "own"
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name, tint in (("cats & dogs", 60), ("b'irds", 180)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                shape = (rng.integers(30, 60), rng.integers(30, 60), 3)
                pixels = np.clip(rng.normal(tint, 20, shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def write_small(path: Path) -> None:
    """A tenth of the embedded benchmark, the first of each class, as an npz of one's own."""
    arrays: dict[str, np.ndarray] = {}
    with np.load(package_path("package:fashion_mini.npz")) as file:
        arrays["classes"] = file["classes"]
        for split, count in (("train", 60), ("test", 20)):
            labels = file[f"{split}_labels"]
            rows = np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)])
            arrays |= {f"{split}_{name}": file[f"{split}_{name}"][rows] for name in ("images", "labels", "ids")}
    np.savez(path, **arrays)


class Workflow:
    """A working directory with its own config overlay and results, run by the repository's Snakefile."""

    def __init__(self, folder: Path, overlay: dict):
        self.folder = folder
        self.results = folder / "results"
        self.overlay = {"results": str(self.results), **overlay}
        warm.start()  # one server for all runs of this process
        self.env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

    def snakemake(self, *arguments: str, snakefile: Path = ROOT / "Snakefile") -> subprocess.CompletedProcess[str]:
        """Run Snakemake; ``--directory`` is the fixture's folder."""
        command = ["-s", str(snakefile), "--directory", str(self.folder), "--cores", "1", "--configfile", *self.configs()]
        command += ["--rerun-incomplete", "--max-checksum-file-size", "50GB", *arguments]
        if self.env.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
            return forked.snakemake(command, self.folder, self.env, 600)
        # of other sources
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def configs(self) -> list[str]:
        """The files of its config, written as it is now."""
        own = self.folder / "overlay.yaml"
        own.write_text(yaml.safe_dump(self.overlay, sort_keys=False))  # the first view is the students'
        return [str(ROOT / "config.yaml"), str(own)]

    def costs(self, *arguments: str) -> dict:
        """What ``limbeck plan`` says of the same run, as JSON."""
        out = self.folder / "plan.json"
        options = [f"--configfile={path}" for path in self.configs()] + [
            f"--snakefile={ROOT / 'Snakefile'}",
            f"--json={out}",
            "--cores=2",
        ]
        command = [sys.executable, "-m", "limbeck", "plan", *options, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict = json.loads(out.read_text())
        return found

    def plan(self) -> Plan:
        """The plan that Snakemake would make, without Snakemake."""
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        update_config(config, self.overlay)
        return Plan(config)

    def build(self, *targets: str) -> None:
        """Run to the end or fail with the logs."""
        done = self.snakemake("--quiet", "rules", "--show-failed-logs", *targets)
        assert done.returncode == 0, done.stdout + done.stderr

    def threads(self, rule: str, cores: int) -> list[int]:
        """Of every job of a rule that a run with so many cores would start."""
        said = self.snakemake("--dry-run", "--cores", str(cores)).stdout
        jobs = re.findall(rf"^rule {rule}:\n((?:    .*\n)+)", said, re.MULTILINE)
        return [int((re.findall(r"threads: (\d+)", job) or ["1"])[0]) for job in jobs]

    def planned(self, *targets: str, snakefile: Path = ROOT / "Snakefile") -> list[tuple[str, str]]:
        """(rule, method or '') of every job that a run would start, sorted."""
        done = self.snakemake("-n", *targets, snakefile=snakefile)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs, rule = [], ""
        for line in (done.stdout + done.stderr).splitlines():
            text = line.strip()
            if text.startswith(("rule ", "localrule ")):
                rule = text.split()[-1].rstrip(":")
                jobs.append([rule, ""])
            elif text.startswith("wildcards:") and "method=" in text:
                jobs[-1][1] = text.split("method=")[1].split(",")[0]
        return sorted((rule, method) for rule, method in jobs if rule != "all")


def make_workflow(folder: Path, prior: Path, **overlay: object) -> Workflow:
    """A small workflow on fashion-mini: a tiny prior, few sampling and training steps; ``overlay`` is merged two levels deep."""
    folder.mkdir(exist_ok=True)
    base: dict = {
        "run": {
            "ipc": [2],
            "methods": ["random", "dit", "mgd"],
            "references": ["subset"],
            "repeats": 1,
            "prior": "tiny",
            "protocols": ["smoke"],
            "teacher": "smoke",
        },
        "priors": {"tiny": {"weights": str(prior), "view": "v32", "cfg_scale": 1.5}},
        "methods": {
            "dit": {"base": "dit", "steps": 3},
            "mgd": {"base": "mgd", "weight": 0.1, "steps": 3, "t_stop": 2},
            "manifoldgd": {"base": "manifoldgd", "steps": 3, "t_stop": 2, "warmup": 0},
            "manifoldgd_expected": {"base": "manifoldgd", "estimator": "expected", "steps": 3, "t_stop": 2, "warmup": 0},
            "coda": {"base": "coda", "steps": 3, "prior_injection_steps": 1},
            "d3hr": {"base": "d3hr", "steps": 3, "inversion_step": 2, "candidates": 100},
            "im": {"base": "dit", "prior": None, "steps": 3},
            "s3": {"base": "ims3", "steps": 3, "groups": 2},
            "ims3": {"base": "ims3", "prior": None, "steps": 3, "groups": 2},
            "mgd_s3": {"base": "mgd", "keep": "subgroup", "steps": 3, "t_stop": 2, "groups": 2},
        },
        "teachers": {"smoke": {"student": "convnet3-w32", "protocol": "smoke-teacher"}},
    }
    for key, value in overlay.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return Workflow(folder, base)


@pytest.fixture
def flow(built: Workflow) -> Iterator[Workflow]:
    """The workflow that a module has built; a test may change its overlay and environment."""
    overlay, env = deepcopy(built.overlay), dict(built.env)
    yield built
    built.overlay, built.env = overlay, env


@pytest.fixture
def workflow(tmp_path: Path, tiny_prior: Path) -> Callable[..., Workflow]:
    """A factory of small workflows, each in its own folder."""
    return lambda name="w", **overlay: make_workflow(tmp_path / name, tiny_prior, **overlay)
