"""Tuned priors through Snakemake: DiffFit and in full, on other labels, interrupted, of a text UNet."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from diffusers import DiTPipeline
from safetensors.torch import load_file

from limbeck.artifacts import DISTILLED
from limbeck.errors import LimbeckError
from limbeck.finetune.difffit import apply
from limbeck.priors.files import weight_digests
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests import tiny_priors
from tests.conftest import Workflow

FASHION = {"source": "npz", "path": "package:fashion_mini.npz", "channels": 1}
IM = {"dataset": "fashion-mini", "criterion": "inversion_matching", "epochs": 1, "batch_size": 100}


def tuned(flow: Workflow, base: str = "tiny", **options: object) -> Workflow:
    """The workflow with its run's prior tuned from ``base``."""
    flow.overlay["priors"]["tuned"] = {"base": base, "finetune": {**IM, **options}}
    flow.overlay["run"] |= {"prior": "tuned", "methods": ["dit"], "references": []}
    return flow


def index(flow: Workflow) -> Path:
    return flow.results / "priors/tuned/model_index.json"


@pytest.mark.long
def test_a_prior_gets_the_labels_of_another_dataset(workflow, image_folder):
    flow = workflow(
        datasets={"own": {"source": "folder", "path": str(image_folder), "channels": 1}},
    )
    flow.overlay["priors"]["adapted"] = {
        "base": "tiny",
        "finetune": {"dataset": "own", "mode": "full", "batch_size": 4, "epochs": 2},
    }
    flow.overlay["run"] |= {"prior": "adapted", "methods": ["d3hr"], "datasets": ["own"], "references": []}
    flow.build()
    assert json.loads((flow.results / "priors/adapted/model_index.json").read_text())["id2label"] == {
        "0": "b'irds",
        "1": "cats & dogs",
    }
    plain = DiTPipeline.from_pretrained(flow.results / "priors/adapted")
    assert plain.transformer.config.num_embeds_ada_norm == 2
    with Artifact(flow.results / f"own/adapted/d3hr/ipc2/seed0/distilled-0{SUFFIX}", DISTILLED) as found:
        assert found["labels"].tolist() == [0, 0, 1, 1]
    # the VAE is the base's, so are the latents
    assert (flow.results / f"own/v32/tiny/latents/0{SUFFIX}").is_file()
    assert not (flow.results / "own/v32/adapted").exists()
    assert not list(flow.results.rglob(".*"))
    assert flow.planned() == []


@pytest.mark.long
def test_difffit_from_config_to_images_and_what_reruns(workflow):
    flow = tuned(workflow())
    flow.build()
    folder, base = flow.results / "priors/tuned", flow.results / "priors/tiny"
    assert (
        weight_digests(folder)["vae/diffusion_pytorch_model.safetensors"]
        == weight_digests(base)["vae/diffusion_pytorch_model.safetensors"]
    )
    record = json.loads((folder / "training.json").read_text())
    assert record["images"] == 5000
    assert {"diffusion", "matching"} <= set(record["loss"][0])
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    log = (flow.results / "logs/finetune/tuned.log").read_text()
    assert "transformer_blocks.*.attn1.to_out.0.scale: 1 x (16,)" in log
    assert "parameters are trained" in log
    model, stored = (DiTPipeline.from_pretrained(f).transformer for f in (base, folder))
    delta = load_file(folder / "delta.safetensors")
    assert (folder / "delta.safetensors").stat().st_size < 0.5 * (
        folder / "transformer/diffusion_pytorch_model.safetensors"
    ).stat().st_size
    apply(model, delta)
    for name, value in stored.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value, atol=1e-6, err_msg=name)
    assert flow.planned() == []
    flow.overlay["priors"]["tuned"]["finetune"]["lambda_im"] = 0.1
    rules = [rule for rule, _ in flow.planned()]
    assert rules == ["embed", "finetune_dit_difffit", "measure", "pngs", "report", "sample", "train"]
    # changed weights are noticed though the index is the same: built alone, or in another run
    flow.build(str(index(flow)))
    assert "sample" in {rule for rule, _ in flow.planned()}
    # discovery works in the base's latents: the same as without tuning
    flow.overlay["run"]["methods"] = ["dit", "mgd"]
    assert ("encode", "") not in flow.planned()


def test_a_killed_job_goes_on_from_its_checkpoint(workflow):
    """SIGKILL, then plain Snakemake: the same bytes as without, and nothing is left behind."""
    flow = tuned(workflow(), epochs=4, batch_size=250)
    flow.build(str(index(flow)))
    expected = weight_digests(index(flow).parent)
    spec = flow.plan().spec("finetune", {"prior": "tuned"})
    for file in index(flow).parent.rglob("*"):
        if file.is_file():
            file.unlink()
    latents, base = flow.results / f"fashion-mini/v32/tiny/latents/0{SUFFIX}", flow.results / "priors/tiny/model_index.json"
    command = [sys.executable, "-m", "limbeck", "--threads", "1", "finetune", "--spec", spec, "--latents", str(latents)]
    job = subprocess.Popen(
        [
            *command,
            "--base",
            str(base),
            "--index",
            str(index(flow)),
            "--prov",
            str(flow.folder / "prov.json"),
            "--checkpoint-seconds",
            "0",
        ]
    )
    checkpoint = flow.results / "priors/.tuned.checkpoint"
    until = time.monotonic() + 120
    while not checkpoint.exists() and job.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert checkpoint.exists()
    assert not index(flow).exists()
    flow.build(str(index(flow)))
    assert "finetune: 1/80" not in (flow.results / "logs/finetune/tuned.log").read_text()
    assert weight_digests(index(flow).parent) == expected
    assert not list((flow.results / "priors").glob(".*"))


@pytest.mark.long
def test_a_text_unet_is_tuned_on_prompts(workflow, tmp_path):
    base = tiny_priors.sd(tmp_path / "sd")
    flow = workflow(priors={"tiny-sd": {"family": "sd", "weights": str(base), "prompt": "a photo of {name}"}})
    tuned(flow, "tiny-sd", criterion="minimax", batch_size=500)
    flow.build(str(index(flow)))
    before, after = (weight_digests(flow.results / f"priors/{name}") for name in ("tiny-sd", "tuned"))
    assert [name for name in before if before[name] != after[name]] == ["unet/diffusion_pytorch_model.safetensors"]
    log = (flow.results / "logs/finetune/tuned.log").read_text()
    assert "attn2.to_out.0.scale" in log
    assert "representativeness" in json.loads((index(flow).parent / "training.json").read_text())["loss"][-1]


def test_priors_tuned_from_one_another(workflow):
    flow = tuned(workflow())
    flow.overlay["priors"]["again"] = {"base": "tuned", "finetune": {**IM, "criterion": "diffusion"}, "cfg_scale": 2.5}
    plan = flow.plan()
    assert (plan.vae_of("again"), plan.config.priors["again"].view) == ("tiny", "v32")
    assert (plan.config.priors["tuned"].cfg_scale, plan.config.priors["again"].cfg_scale) == (1.5, 2.5)
    assert plan.tuning_latents("again") == [str(flow.results / f"fashion-mini/v32/tiny/latents/0{SUFFIX}")]
    # what the criterion does not read is not in the spec
    assert "lambda_im" not in plan.spec("finetune", {"prior": "again"})
    assert '"lambda_im":0.002' in plan.spec("finetune", {"prior": "tuned"})


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"base": "tiny"}, "'base' and 'finetune' belong together"),
        ({"weights": "x", "finetune": IM}, "'base' and 'finetune' belong together"),
        ({"base": "tiny", "weights": "x", "finetune": IM}, "exactly one of 'weights', 'train' and 'base'"),
        ({"base": "nowhere", "finetune": IM}, r"priors\.tuned\.base: unknown name 'nowhere'"),
        ({"base": "tuned", "finetune": IM}, r"priors\.tuned\.base: 'tuned' is tuned from 'tuned' itself"),
        ({"base": "tiny", "view": "v32", "finetune": IM}, "a tuned prior has no 'view', it takes that of its base 'tiny'"),
        ({"base": "tiny", "finetune": {**IM, "dataset": "x"}}, r"priors\.tuned\.finetune\.dataset: unknown name 'x'"),
        ({"base": "tiny", "finetune": {**IM, "memory": 3}}, "'memory' belongs to criterion minimax, not to inversion_matching"),
        ({"base": "tiny", "finetune": {**IM, "lamda": 3}}, r"priors\.tuned\.finetune\.lamda"),
        ({"base": "xl3", "finetune": IM}, r"priors\.tuned\.base: 'xl3' is of family sd3; tuned are dit, sd, sdxl"),
        ({"base": "tiny", "refiner": "xl3", "finetune": IM}, r"priors\.tuned\.refiner: only family sdxl has a refiner"),
        ({"base": "tiny", "finetune": {**IM, "batch_size": 5001}}, r"batch_size: times accumulate 5001, more than the 5000 images"),
        ({"base": "tiny", "finetune": {**IM, "dataset": "other"}}, r"finetune\.dataset: other has no view 'v32'"),
        ({"base": "hubsd", "finetune": {**IM, "dataset": "other"}}, r"finetune\.dataset: other has no view 'v32'"),
        ({"base": "tiny", "finetune": {**IM, "dataset": "large"}}, r"finetune\.dataset: 'v32' is not of the 32 pixels"),
        ({"base": "tiny", "finetune": {**IM, "dataset": "own"}}, r"priors\.tuned\.finetune: .*tune it in full \(mode: full\)"),
    ],
)
def test_what_cannot_be_is_refused_before_any_job(workflow, image_folder, prior, message, monkeypatch):
    flow = workflow(
        priors={"tuned": prior, "xl3": {"family": "sd3", "weights": "hub/sd3"}, "hubsd": {"family": "sd", "weights": "hub/sd"}},
        datasets={
            "own": {"source": "folder", "path": str(image_folder), "channels": 1},
            "other": {**FASHION, "views": {"v16": {"size": 16}}},
            "large": {**FASHION, "views": {"v32": {"size": 64}}},
        },
    )
    flow.overlay["run"]["prior"] = "tuned"
    # a hub's name is refused before anything else where it may not be asked for
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    flow.overlay["offline"] = False
    with pytest.raises(LimbeckError, match=message) as caught:
        flow.plan()
    assert "\n" not in str(caught.value)
