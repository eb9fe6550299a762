"""What a scheduler is told: every job has numbers, they follow the sizes they are for, and the profiles name rules that exist."""

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
from limbeck.data.benchmarks import class_name, members
from limbeck.derived import TUNED_FAMILIES
from limbeck.gpus import GPU_STAGES
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


# Rules that a GPU makes faster. They ask for one where LIMBECK_DEVICE=cuda, and under a profile of a scheduler, so that a machine
# without one is not blocked; the tests keep rules and profiles in step.
GPU_RULES = (
    *("prior_dit", *(f"finetune_{family}{how}" for family in TUNED_FAMILIES for how in ("", "_difffit"))),
    *("encode", "reencode", "score", "patch_features", "invert"),
    *("sample", "candidates", "crop", "teacher", "features", "embed", "embed_candidates", "soft_labels", "train"),
)
# Rules of seconds, so many that a scheduler would do little else: a profile sends several of their jobs as one. Each rule is a
# group of its own, since jobs of one that wait for each other by way of a third, as pick, embed and measure, would wait for ever.
SMALL_RULES = ("select", "pick", "keep", "pngs", "measure")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of ImageNet-1K's overlay in 50 shards: as many images and classes, of a pixel each."""
    path = tmp_path_factory.mktemp("imagenet") / "pixels.npz"
    names, arrays = [class_name(wnid) for wnid in members("imagenet1k")], {}
    for split, count in (("train", 1281), ("test", 50)):
        n = 1000 * count
        arrays[f"{split}_images"] = np.zeros((n, 1, 1, 3), np.uint8)
        arrays[f"{split}_labels"] = np.repeat(np.arange(1000), count)
        arrays[f"{split}_ids"] = np.arange(n)
    np.savez_compressed(path, classes=np.array(names), **arrays)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / "workflow/configs/imagenet1k.yaml").read_text()))
    update_config(config, {"datasets": {"imagenet1k": {"source": "npz", "path": str(path), "shards": 50, "classes": None}}})
    update_config(config, {"teachers": {"resnet18": {"weights": None}}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the prior's name is enough here
        return Plan(config)


def test_every_rule_and_stage_has_a_formula():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    used = re.findall(r'mem_mb=memory\("(\w+)"\),\s+runtime=runtime\("(\w+)"\),', text)
    specs = re.findall(r'spec=spec\("(\w+)"\)', text)
    assert [stage for stage, _ in used] == [stage for _, stage in used] == specs
    assert set(specs) == set(SPECS) == set(resources.ESTIMATES)


def test_the_profiles_name_the_same_rules():
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    names = set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", rules, re.M))
    names |= {name for name in GPU_RULES if name.startswith(("prior_", "finetune_"))}  # of a loop
    for path in sorted((ROOT / "profiles").glob("*/config.yaml")):
        options = yaml.safe_load(path.read_text())
        if path.parent.name in ("default", "s3"):
            assert not {"set-resources", "default-resources", "resources", "groups"} & set(options)
            continue
        asked = {rule for rule, wanted in options["set-resources"].items() if wanted.get("gpu")}
        assert asked == set(GPU_RULES) <= names
        assert options["retries"] >= 1
        assert set(options.get("groups", SMALL_RULES)) == set(SMALL_RULES) <= names


def test_the_same_rules_ask_for_a_gpu_on_one_machine():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    stages = set(re.findall(r'runtime=runtime\("(\w+)"\),(?:\s+#.*)?\s+gpu=GPUS', text))
    inherited = {"candidates": "sample", "embed_candidates": "embed"}
    assert {inherited.get(rule, rule.split("_")[0] if rule[:5] in ("prior", "finet") else rule) for rule in GPU_RULES} == stages
    assert stages == set(GPU_STAGES)


def test_every_attempt_asks_for_twice_as_much():
    found = plan()
    w = {**SAMPLE, "dataset": "fashion-mini", "prior": "fashion-dit", "ipc": "10"}
    memory = [resources.memory_mb(found, "sample", w, attempt) for attempt in (1, 2, 3)]
    minutes = [resources.runtime_min(found, "sample", w, attempt) for attempt in (1, 2, 3)]
    assert memory[1] in range(2 * memory[0] - 1, 2 * memory[0] + 2)
    assert memory[2] in range(4 * memory[0] - 2, 4 * memory[0] + 3)
    assert minutes == [minutes[0], 2 * minutes[0], 4 * minutes[0]]


def test_the_embedded_prior_is_as_large_as_its_files_say():
    found = resources.network(plan(), "fashion-dit-im")  # tuned from fashion-dit
    about = json.loads((ROOT / "src/limbeck/data/fashion-dit/transformer/config.json").read_text())
    assert found.width == about["num_attention_heads"] * about["attention_head_dim"] / about["patch_size"] ** 2
    assert (found.latent(32), found.blocks) == (4 * 8 * 8, about["num_layers"])
    size = (ROOT / "src/limbeck/data/fashion-dit/transformer/diffusion_pytorch_model.safetensors").stat().st_size
    assert 0.98 * size < 2 * found.denoiser < size  # float16, and a header


def test_parameters_of_shards_add_up_and_those_of_a_variant_do_not(tmp_path):
    for name, count in (("a-00001.safetensors", 30), ("a-00002.safetensors", 12), ("a.fp16.safetensors", 42)):
        (tmp_path / "unet").mkdir(exist_ok=True)
        save_file({"x": np.zeros((count, 2), np.float32)}, tmp_path / "unet" / name)
    (tmp_path / "unet" / "broken.safetensors").write_bytes(b"\xff" * 20)
    found = sizes.of(plan().config.priors["sd15"], tmp_path)
    assert found.denoiser == found.all == 84


def test_a_trained_prior_is_about_as_large_as_what_training_builds():
    train = {"dataset": "fashion-mini", "dit": {"layers": 6, "heads": 5, "head_dim": 32}}
    trained = resources.network(plan(priors={"own": {"view": "v32", "train": train}}), "own")
    given = resources.network(plan(), "fashion-dit")  # the same architecture
    assert 0.7 < trained.denoiser / given.denoiser < 1.4
    assert (trained.width, trained.factor, trained.vae) == (given.width, given.factor, given.vae)


def test_memory_grows_with_what_is_held_at_once(imagenet):
    def of(stage: str, w: dict[str, str]) -> float:
        return resources.estimate(imagenet, stage, w).memory.cpu

    sample = {**SAMPLE, "dataset": "imagenet1k"}
    assert of("sample", {**sample, "ipc": "10"}) < of("sample", sample)
    # 64 of a batch at IPC 100: at least 6.5 tensors of 128 channels at 256 x 256 each, as measured of Stable Diffusion's decoder
    decoded = 64 * 6.5 * 128 * 256**2 * 4 / 2**20
    assert BASE + 760e6 * 4 / 2**20 + decoded < of("sample", {**sample, "ipc": "100"}) < 3 * (BASE + 760e6 * 4 / 2**20 + decoded)
    ingest = {"dataset": "imagenet1k", "view": "v256", "split": "train", "shard": "0"}
    assert of("ingest", ingest) < 5000
    metrics = {**sample, "extractor": "teacher"}
    assert of("measure", {**metrics, "ipc": "10"}) <= of("measure", {**metrics, "ipc": "100"})


def test_class_wise_rules_of_imagenet_fit_24_gigabytes_and_a_day(imagenet):
    """On a CPU; students' and teachers' activations take more."""
    base = {"dataset": "imagenet1k", "shard": "7", "prior": "dit-xl", "vae": "dit-xl", "view": "v256", "seed": "0"}
    jobs = [("ingest", {**base, "split": "train"}), ("encode", base)]
    for ipc in (10, 50, 100):
        for name in ("dit", "mgd", "coda", "d3hr"):
            method = imagenet.method(name, ipc, "imagenet1k")
            w = {**base, "ipc": str(ipc), "method": name}
            jobs.append(("sample", w))
            if method.discovery:
                jobs.append(("select", {**w, "discovery": method.discovery_name}))
            if method.inversion_name:
                jobs += [("invert", {**w, "inversion": method.inversion_name}), ("draw", {**w, "start": method.start_name})]
    for stage, w in jobs:
        need = resources.estimate(imagenet, stage, w)
        assert need.memory.cpu < 24_000, (stage, w)
        assert math.isfinite(need.seconds)
        assert 60 * 24 >= resources.runtime_min(imagenet, stage, w) >= 10, (stage, w)


def test_no_rule_of_imagenet_takes_24_gigabytes_of_a_machine_with_gpus(imagenet):
    """What networks hold is on the GPU. On a CPU some of the same jobs ask for more."""
    base = {"dataset": "imagenet1k", "prior": "dit-xl", "seed": "0", "extractor": "teacher"}
    jobs = [("teacher", {**base, "teacher": "resnet18"}), ("hold_out", {**base, "view": "v224"})]
    jobs += [("prior", base), *(("finetune", {"prior": name}) for name in ("dit-xl-im", "dit-xl-minimax"))]
    jobs += [("features", {**base, "split": split, "shard": "7"}) for split in ("train", "test")]
    for ipc in ("10", "50", "100", "all"):
        for name in ("dit", "s3", "im", "mgd", "coda", "d3hr") if ipc != "all" else ("full",):
            w = {**base, "ipc": ipc, "method": name}
            for protocol in imagenet.run.protocols:
                jobs += [("train", {**w, "protocol": protocol, "student": student}) for student in imagenet.run.students]
            jobs.append(("measure", w))
            if ipc != "all":
                jobs += [("sample", {**w, "shard": "7"}), ("embed", {**w, "shard": "7"}), ("pngs", w), ("report", w)]
                jobs += [("soft_labels", {**w, "protocol": "d3hr-soft", "repeat": "0"})]
        jobs += [(stage, {**base, "ipc": ipc, "method": "s3", "shard": "7"}) for stage in ("choose", "keep") if ipc != "all"]
    large = 0
    for stage, w in jobs:
        memory = resources.estimate(imagenet, stage, w).memory
        assert resources.memory_mb(imagenet, stage, w, gpu=True) < 24_000, (stage, w)
        assert (memory.device > 0) == (stage in GPU_STAGES), stage
        large += memory.cpu > 24_000
    assert large  # else the distinction would be idle


def test_nothing_heavy_is_imported():
    """The Snakefile reads both modules."""
    for name in ("resources.py", "priors/sizes.py"):
        tree = ast.parse((ROOT / "src/limbeck" / name).read_text())
        found = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        found |= {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert found <= {"limbeck", "itertools", "math", "json", "collections", "dataclasses", "functools", "typing", "pathlib"}
