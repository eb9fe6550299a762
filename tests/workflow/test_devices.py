"""A prior in bfloat16, by a named attention kernel, with another VAE, through Snakemake; which jobs ask for a GPU; what reruns."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.artifacts import DISTILLED, LATENTS
from limbeck.errors import LimbeckError
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

NETWORKS = {"prior_dit", "encode", "sample", "teacher", "features", "embed", "train"}
AFTER = {"pngs", "embed", "measure", "train", "report"}
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior) -> Workflow:
    """The tiny prior with a VAE of other weights."""
    folder = tmp_path_factory.mktemp("devices")
    shutil.copytree(tiny_prior / "vae", folder / "other")
    weights = load_file(tiny_prior / VAE)
    save_file({name: value * 1.1 for name, value in weights.items()}, folder / "other/diffusion_pytorch_model.safetensors")
    how = {"compute": "bfloat16", "attention": "math", "cfg_channels": 3, "vae": str(folder / "other")}
    made = make_workflow(
        folder / "w",
        tiny_prior,
        run={"methods": ["mgd"], "references": []},
        priors={"tiny": {"weights": str(tiny_prior), "view": "v32", "cfg_scale": 1.5, **how}},
    )
    made.build()
    return made


@pytest.mark.long
def test_what_it_makes_is_float32_and_says_how_it_was_made(built):
    folder = built.results / "fashion-mini"
    with Artifact(folder / f"v32/tiny/latents/0{SUFFIX}", LATENTS) as latents:
        assert latents.attrs["params"] == {"size": 32, "batch": 100, "compute": "bfloat16"}
        assert np.isfinite(latents["latents"]).all()
    with Artifact(folder / f"tiny/mgd/ipc2/seed0/distilled-0{SUFFIX}", DISTILLED) as found:
        params = found.attrs["params"]
        assert (params["prior"], params["sampler"]["cfg_channels"]) == ({"size": 32, "compute": "bfloat16", "attention": "math"}, 3)
        assert found["latents"].dtype == np.float32
        assert np.isfinite(found["latents"]).all()
    stored = built.results / "priors/tiny"
    other = load_file(built.folder.parent / "other/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, other[name]) for name, value in load_file(stored / VAE).items())
    assert json.loads((stored / "prior.json").read_text())["params"]["vae"] == str(built.folder.parent / "other")
    assert built.planned() == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"compute": "float32"}, {"encode", "reduce", "select", "sample"}),
        ({"attention": "auto"}, {"sample"}),
        ({"compile": True}, {"sample"}),
        ({"cfg_channels": "all"}, {"sample"}),
        ({"vae": None}, {"prior_dit", "encode", "reduce", "select", "sample"}),
    ],
)
def test_how_a_prior_computes_reruns_what_it_makes(flow, change, rules):
    flow.overlay["priors"]["tiny"] |= change
    assert {rule for rule, _ in flow.planned()} == rules | AFTER


@pytest.mark.long
def test_a_changed_file_of_the_other_vae_is_noticed(flow):
    path = flow.folder.parent / "other/diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    try:
        save_file({name: value * 1.01 for name, value in load_file(path).items()}, path)
        assert "prior_dit" in {rule for rule, _ in flow.planned()}
        path.write_bytes(whole[:-1])
        with pytest.raises(LimbeckError, match=r"priors\.tiny\.vae: .*half-downloaded"):
            flow.plan()
    finally:
        path.write_bytes(whole)


@pytest.mark.long
def test_jobs_with_networks_ask_for_a_gpu_where_cuda_is_named(workflow):
    made = workflow(run={"methods": ["mgd"], "references": []})
    asked = {}
    for name in ("cuda", "auto"):
        made.env["LIMBECK_DEVICE"] = name
        done = made.snakemake("-n")
        assert done.returncode == 0, done.stdout + done.stderr
        asked[name], rule = set(), ""
        for line in (done.stdout + done.stderr).splitlines():
            if line.strip().startswith("rule "):
                rule = line.split()[-1].rstrip(":")
            elif "resources:" in line and "gpu=1" in line:
                asked[name].add(rule)
    assert asked == {"cuda": NETWORKS, "auto": set()}
