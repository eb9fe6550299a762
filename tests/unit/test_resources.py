"""What a scheduler is told: every job has numbers, they follow the sizes they are for, and the profiles name the rules that exist."""

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from snakemake.utils import update_config

from limbeck import resources
from limbeck.data.benchmarks import members
from limbeck.plan import Plan
from limbeck.priors import sizes
from limbeck.specs import SPECS

ROOT = Path(__file__).parents[2]
SAMPLE = {"dataset": "d", "prior": "dit-xl", "method": "mgd", "ipc": "50", "seed": "0", "shard": "0"}
# a process's memory before it reads anything, with room: torch, diffusers and Snakemake's own
BASE = 1000


def plan(**overlay: object) -> Plan:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, overlay)
    return Plan(config)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of ImageNet-1K: the overlay's 1,000 classes, as many images per class as it has, from folders of empty files."""
    root = tmp_path_factory.mktemp("imagenet")
    for wnid in members("imagenet1k"):
        for split, count in (("train", 1281), ("val", 50)):
            (root / split / wnid).mkdir(parents=True)
            (root / split / wnid / "0.JPEG").touch()
            for i in range(1, count):
                (root / split / wnid / f"{i}.JPEG").hardlink_to(root / split / wnid / "0.JPEG")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / "workflow/configs/imagenet1k.yaml").read_text()))
    update_config(config, {"datasets": {"imagenet1k": {"path": str(root), "shards": 50}}})
    return Plan(config)
