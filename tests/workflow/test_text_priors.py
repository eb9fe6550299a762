"""CoDA through Snakemake with a small SDXL and its refiner: discovery on one view, generation at another, students on a third."""

import numpy as np
import pytest
import torch

from limbeck.artifacts import DISTILLED, IMAGES, PROTOTYPES, TARGETS
from limbeck.errors import LimbeckError
from limbeck.priors.base import load_vae
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests import tiny_priors
from tests.conftest import Workflow, make_workflow

SMALL = {"reducer": "pca", "components": 5, "min_cluster_size": 20}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """fashion-mini: 32 pixels for students, 16 for discovery, 48 for the prior."""
    folder = tmp_path_factory.mktemp("sdxl")
    base = tiny_priors.sdxl(folder)
    made = make_workflow(
        folder / "w",
        base,
        run={"methods": ["coda"], "ipc": [2], "references": [], "prior": "tiny-xl"},
        priors={
            "tiny-xl": {"family": "sdxl", "weights": str(base), "view": "v48", "discovery_view": "v16", "refiner": "tiny-refiner"},
            "tiny-refiner": {"family": "sdxl_refiner", "weights": str(tiny_priors.refiner(folder, base))},
        },
        datasets={
            "fashion-mini": {
                "views": {
                    "v32": {"size": 32, "resize": "pad"},
                    "v16": {"size": 16, "resize": "squash"},
                    "v48": {"size": 48, "resize": "crop"},
                }
            }
        },
        methods={
            "coda": {"base": "coda", **SMALL, "steps": 3, "prior_injection_steps": 1},
        },
    )
    made.build()
    return made


@pytest.mark.long
def test_the_chain_from_prompts_to_the_page(built):
    cell = built.results / "fashion-mini/tiny-xl/coda/ipc2/seed0"
    with Artifact(cell / f"distilled-0{SUFFIX}", DISTILLED) as found:
        assert found.shape("images") == (20, 32, 32, 1)  # resized to the dataset's
        assert found.shape("latents") == (20, 4, 24, 24)  # at the prior's own
        params = found.attrs["params"]
    assert (params["sampler"]["solver"], params["sampler"]["cfg_scale"]) == ("dpm++", 5.0)
    assert (params["guidance"][0]["alignment"], params["guidance"][0]["gamma"]) == ("released", 0.1)
    assert (built.results / "fashion-mini/ipc2/summary.html").is_file()
    assert built.planned() == []


@pytest.mark.long
def test_the_targets_are_the_chosen_images_at_the_priors_size(built):
    space = built.results / "fashion-mini/v16/tiny-xl"
    with Artifact(next(space.glob(f"prototypes/density-*/ipc2/seed0/0{SUFFIX}")), PROTOTYPES) as chosen:
        indices = chosen["indices"]
        assert chosen.shape("members")[1:] == (4, 8, 8)
    name = next((built.results / "fashion-mini/tiny-xl/targets").glob(f"density-*/ipc2/seed0/0{SUFFIX}"))
    with Artifact(name, TARGETS) as targets:
        members = targets["members"]
    # the same images through the pipeline's own view of that size
    images = built.results / f"fashion-mini/v48/images/train-0{SUFFIX}"
    built.build(str(images))
    with Artifact(images, IMAGES) as found:
        pixels = np.concatenate([found.read("images", int(row), int(row) + 1) for row in indices])
    expected = load_vae(built.results / "priors/tiny-xl", 48).encode(pixels)
    assert torch.allclose(torch.from_numpy(members), expected, atol=1e-4)
    assert not (built.results / "fashion-mini/v48/tiny-xl").exists()  # the other images were never encoded at that size


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"methods": {"coda": {"gamma": 0.05}}}, {"sample"}),
        ({"methods": {"coda": {"min_cluster_size": 30}}}, {"fit", "select", "reencode", "sample"}),
        ({"priors": {"tiny-xl": {"prompt": "a photo of {name}"}}}, {"sample"}),
        ({"priors": {"tiny-xl": {"refiner": None}}}, {"sample"}),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, change, rules):
    for table, entries in change.items():
        for name, options in entries.items():
            flow.overlay[table][name] |= options
    after = {"pngs", "embed", "measure", "train", "report"}
    assert {rule for rule, _ in flow.planned()} == rules | after


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"coda": {"target": "centroid"}}}, r"methods.coda.target: priors.tiny-xl.discovery_view leaves no latents"),
        ({"methods": {"coda": {"solver": "flow"}}}, "methods.coda.solver: 'flow' does not fit prior tiny-xl (sdxl)"),
        ({"run": {"prior": "tiny-refiner"}}, "run.prior: 'tiny-refiner' is a refiner"),
        ({"priors": {"tiny-xl": {"discovery_view": "v99"}}}, "priors.tiny-xl.discovery_view: 'v99' is not a view"),
        ({"priors": {"tiny-xl": {"prompt": "a photo"}}}, "priors.tiny-xl.prompt"),
        ({"priors": {"tiny-xl": {"family": "sd3"}}}, "priors.tiny-xl: only family sdxl has a refiner"),
        ({"priors": {"tiny-xl": {"weights": "/nowhere"}}}, "priors.tiny-xl.weights: missing in /nowhere: model_index.json"),
    ],
)
def test_what_cannot_be_is_refused_before_any_job(flow, change, message):
    for table, entries in change.items():
        for name, options in entries.items():
            flow.overlay[table][name] = flow.overlay[table][name] | options if isinstance(options, dict) else options
    with pytest.raises(LimbeckError) as caught:
        flow.plan()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
