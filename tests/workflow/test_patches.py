"""Patch selection, RDED and D4M through Snakemake: what reruns, what is shared, what comes out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.artifacts import DISTILLED, PROTOTYPES
from limbeck.data.preprocessing import joined, resized
from limbeck.errors import LimbeckError
from limbeck.methods import embedding_name, embedding_options, fit_name, fit_options
from limbeck.priors.dit import DitPrior
from limbeck.records import SUFFIX
from limbeck.seeds import normal
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow
from tests.unit.test_patches import arranged

PATCHES = {"base": "patches", "n_draws": 1, "dift_ensemble": 1, "real_images_per_class": 40, "clusters": 4, "top_clusters": 2}
D4M = {"base": "d4m", "steps": 4, "strength": 0.5, "n_init": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    made = make_workflow(
        tmp_path_factory.mktemp("patches"),
        tiny_prior,
        run={"methods": ["patches", "rded", "d4m", "decoded"], "ipc": [2], "references": []},
        methods={
            "patches": PATCHES,
            "rded": {"base": "rded", "crop_area": [0.25, 0.5], "crops": 2, "crop_images": 30, "mosaic": "2x2"},
            "d4m": D4M,
            "decoded": {"base": "kmeans_decoded", "n_init": 1, "algorithm": "minibatch"},
        },
    )
    made.build(*targets(made))
    return made


def targets(flow: Workflow, ipc: int = 2) -> list[str]:
    """The distilled sets, without their evaluation."""
    plan = flow.plan()
    return [path for name in plan.methods(ipc) for path in plan.distilled("fashion-mini", name, ipc, 0)]


def distilled(flow: Workflow, name: str, *arrays: str) -> list[np.ndarray]:
    folder = flow.results / "fashion-mini" / flow.plan().prior_of(name, 2, "fashion-mini") / name / "ipc2/seed0"
    with Artifact(folder / f"distilled-0{SUFFIX}", DISTILLED) as found:
        return [found[array] for array in arrays]


def prototypes(flow: Workflow, name: str, *arrays: str) -> list[np.ndarray]:
    plan = flow.plan()
    with Artifact(plan.prototypes("fashion-mini", plan.method(name, 2, "fashion-mini"), 2, 0, 0), PROTOTYPES) as found:
        return [found[array] for array in arrays]


def real(flow: Workflow) -> np.ndarray:
    with Artifact(flow.results / f"fashion-mini/v32/images/train-0{SUFFIX}") as found:
        return found["images"]


@pytest.mark.long
def test_small_images_are_taken_whole_and_crops_are_tiled(built):
    pixels = real(built)
    (images,), (rows, boxes) = distilled(built, "patches", "images"), prototypes(built, "patches", "parts", "boxes")
    assert rows.shape == (20, 1)
    assert (boxes == (0, 0, 32)).all()
    assert np.array_equal(images, pixels[rows[:, 0]])
    assert len(np.unique(rows)) == 20
    (images,), (rows, boxes) = distilled(built, "rded", "images"), prototypes(built, "rded", "parts", "boxes")
    assert rows.shape == (20, 4)
    assert boxes[..., 2].min() >= 16
    assert boxes[..., 2].max() <= 23
    top, left, side = boxes[3, 0]
    assert np.array_equal(images[3, :16, :16], resized(pixels[rows[3, 0], top : top + side, left : left + side], 16))
    assert built.planned(*targets(built)) == []


@pytest.mark.long
def test_prototypes_are_decoded_or_noised_and_denoised(built):
    prior = DitPrior(built.results / "priors/tiny", 32)
    ids = prior.class_ids(built.plan().source("fashion-mini").classes)
    (centroids,) = prototypes(built, "decoded", "centroids")
    latents, images = distilled(built, "decoded", "latents", "images")
    np.testing.assert_allclose(latents, centroids, atol=1e-6)
    assert np.array_equal(images[:2], prior.decode(torch.from_numpy(latents[:2]), 1))
    # D4M: the last two of four DDIM steps, from the noised centroids
    (centroids,) = prototypes(built, "d4m", "centroids")
    (latents,) = distilled(built, "d4m", "latents")
    scheduler = prior.scheduler("ddim", 4)
    abars = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps] + [float(scheduler.final_alpha_cumprod)]
    for label in (0, 7):
        own = torch.from_numpy(centroids[2 * label : 2 * label + 2])
        eps = torch.stack([normal(prior.latent_shape, 0, "sample", label, item) for item in range(2)])
        x = abars[2] ** 0.5 * own + (1 - abars[2]) ** 0.5 * eps
        for index in (2, 3):
            cond, null = (
                prior.denoise(x, int(scheduler.timesteps[index]), torch.full((2,), c))[0] for c in (ids[label], prior.null)
            )
            noise = null + 1.5 * (cond - null)
            clean = (x - (1 - abars[index]) ** 0.5 * noise) / abars[index] ** 0.5
            x = abars[index + 1] ** 0.5 * clean + (1 - abars[index + 1]) ** 0.5 * noise
        np.testing.assert_allclose(latents[2 * label : 2 * label + 2], x.detach().numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "rules"),
    [
        ("patches", {"top_clusters": 1}, {"select", "pick"}),
        ("patches", {"mosaic": "2x2"}, {"select", "pick"}),
        ("patches", {"clusters": 3}, {"fit", "select", "pick"}),
        ("patches", {"dift_t": 50}, {"patch_features", "fit", "select", "pick"}),
        ("patches", {"features": "vae"}, {"patch_features", "fit", "select", "pick"}),
        ("patches", {"features": "teacher"}, {"patch_features", "fit", "select", "pick"}),
        ("patches", {"features": "none"}, {"select", "pick"}),
        ("patches", {"patch_size": 16}, {"localize", "patch_features", "fit", "select", "pick"}),
        ("patches", {"t_range": [0.2, 0.4]}, {"score", "localize", "patch_features", "fit", "select", "pick"}),
        ("rded", {"mosaic": "single"}, {"select", "pick"}),
        ("rded", {"crops": 3}, {"crop", "select", "pick"}),
        ("d4m", {"strength": 0.75}, {"sample"}),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, name, options, rules):
    flow.overlay["methods"][name] |= options
    planned = flow.planned(*targets(flow))
    assert {rule for rule, _ in planned} == rules
    assert {method for _, method in planned} <= {"", name}


@pytest.mark.long
def test_another_ipc_scores_locates_features_and_clusters_nothing_again(flow):
    flow.overlay["run"] |= {"ipc": [3], "methods": ["patches"]}
    assert {rule for rule, _ in flow.planned(*targets(flow, 3))} == {"select", "pick"}
    flow.build(*targets(flow, 3))


@pytest.mark.long
@pytest.mark.parametrize(("features", "dims"), [("teacher", 512), ("vae", 256), ("clip", 24), ("none", 0)])
def test_other_features_than_the_denoisers(flow, tiny_clip, features, dims):
    flow.overlay["extractors"] = {"clip": {"kind": "clip", "weights": str(tiny_clip)}}
    flow.overlay["run"] |= {"methods": ["patches"]}
    flow.overlay["methods"]["patches"] |= {"features": features}
    flow.build(*targets(flow))
    plan, space = flow.plan(), flow.results / "fashion-mini/v32/tiny"
    options = plan.method("patches", 2, "fashion-mini").discovery
    with Artifact(plan.patches("fashion-mini", "tiny", options, 0, 0)) as found:
        scores, labels, chosen = found["scores"], found["labels"], found["rows"]
    clusters, distances = np.zeros(len(scores), int), -scores  # one cluster, the highest score the nearest: all by score
    if dims:
        with Artifact(space / f"embeddings/{embedding_name(embedding_options(options))}/0{SUFFIX}") as found:
            assert found.shape("coordinates") == (400, dims)
        with Artifact(space / f"fits/{fit_name(fit_options(options))}/0{SUFFIX}") as found:
            clusters, distances = found["clusters"], found["distances"]
    (rows,) = prototypes(flow, "patches", "parts")
    for label in range(10):
        own = labels == label
        wanted = arranged(scores[own], 2, 1, clusters[own], distances[own], options.get("top_clusters", 1))
        assert rows[2 * label : 2 * label + 2].tolist() == chosen[own][np.array(wanted)].tolist()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({**PATCHES, "patch_size": 40}, r"methods\.m\.patch_size: 40 is more than the 32 pixels of 'v32'"),
        ({**PATCHES, "view": "v99"}, r"methods\.m\.view: no view 'v99' in dataset fashion-mini; known: \['v32'\]"),
        ({**PATCHES, "t_range": [0.7, 0.1]}, r"methods\.m: .*t_range \[0.7, 0.1\] is no range"),
        (
            {**PATCHES, "features": "resnet"},
            r"methods\.m\.features: unknown extractor 'resnet'; known: \['vae', 'dift', 'none', 'teacher', 'resnet18'\]",
        ),
        ({**PATCHES, "generate": True}, r"methods\.m\.generate: 'patches' chooses patches of images"),
        ({**PATCHES, "real_images_per_class": 1}, r"methods\.m\.real_images_per_class: 1 "),
        ({"base": "rded", "crop_images": 7, "mosaic": "2x2"}, r"methods\.m\.crop_images: 7 "),
        ({"base": "rded", "crop_area": [0, 2]}, r"methods\.m: .*crop_area \[0.0, 2.0\] is no range"),
        ({"base": "dit", "start": "prototype"}, r"methods\.m\.start: has no prototypes to start from; set 'discovery'"),
        ({"base": "d4m", "strength": 1.5}, r"methods\.m\.strength"),
        ({"base": "d4m", "strength": 0.01}, r"methods\.m\.strength: 0.01 of 50 steps is none"),
        (
            {"base": "mgd", "start": "prototype", "strength": 0.5},
            r"methods\.m\.t_stop: guidance ends after 25 steps, sampling begins",
        ),
        (
            {"base": "coda", "start": "prototype", "strength": 0.3},
            r"methods\.m\.prior_injection_steps: 15 leave none of",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_job(workflow, method, message):
    flow = workflow(run={"methods": ["m"]}, methods={"m": method})
    with pytest.raises(LimbeckError, match=message) as caught:
        flow.plan()
    assert "\n" not in str(caught.value)


WINDOWS = {"size": 32, "resize": "windows", "stride": 8}


def test_windows_are_for_patches_alone(workflow):
    def fashion(**views: dict) -> dict:
        return {"windowed": {"source": "npz", "path": "package:fashion_mini.npz", "channels": 1, "views": views}}

    square, run = {"size": 32, "resize": "pad"}, {"datasets": ["windowed"], "methods": ["patches"]}
    with pytest.raises(LimbeckError, match=r"datasets\.windowed\.views\.w: students cannot be trained on windows"):
        workflow(run=run, datasets=fashion(w=WINDOWS, v32=square)).plan()
    both = fashion(v32=square, w=WINDOWS)
    weights = {"tiny": {"weights": "package:fashion-dit", "view": "w"}}
    with pytest.raises(LimbeckError, match=r"priors\.tiny\.view: 'w' is cut into windows"):
        workflow(run=run, datasets=both, priors=weights).plan()
    with pytest.raises(LimbeckError, match=r"stride 8 belongs to resize: windows"):
        workflow(run=run, datasets=fashion(v32={**square, "stride": 8})).plan()
    plan = workflow(run=run, datasets=both, methods={"patches": {**PATCHES, "view": "w", "patch_size": 28}}).plan()
    method = plan.method("patches", 2, "windowed")
    assert "/windowed/w/tiny/" in plan.prototypes("windowed", method, 2, 0, 0)
    assert method.discovery["parts"] == 4  # a patch of the view's side is still cut from a longer image
    pseudo = {"few": {"source": "pseudo", "of": "windowed", "labelled": 0.5, "threshold": None}, **both}
    with pytest.raises(LimbeckError, match=r"methods\.patches\.view: few labels whole images, not the windows of 'w'"):
        workflow(run={**run, "datasets": ["few"]}, datasets=pseudo, methods={"patches": {**PATCHES, "view": "w"}}).plan()


@pytest.mark.long
def test_images_that_are_no_squares_are_scored_in_windows(workflow, tmp_path):
    rng = np.random.default_rng()
    for split in ("train", "test"):
        for name in ("Dress", "Bag"):
            (tmp_path / "wide" / split / name).mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, [(24, 48), (30, 20), (32, 32), (32, 70), (20, 20)][i], np.uint8)
                Image.fromarray(pixels).save(tmp_path / "wide" / split / name / f"{i}.png")
    views = {"v32": {"size": 32, "resize": "crop"}, "w": WINDOWS}
    flow = workflow(
        run={"datasets": ["wide"], "methods": ["patches"], "ipc": [1]},
        datasets={"wide": {"source": "folder", "path": str(tmp_path / "wide"), "channels": 1, "views": views}},
        methods={"patches": {"base": "patches", "n_draws": 1, "view": "w", "patch_size": 24, "mosaic": "2x2", "dift_ensemble": 1}},
    )
    plan = flow.plan()
    method = plan.method("patches", 1, "wide")
    targets = plan.distilled("wide", "patches", 1, 0)
    flow.build(*targets)
    with Artifact(plan.images("wide", "train", "w")[0]) as found:
        windows, corners, pixels = found["windows"], found["corners"], found["images"]
    # the long sides become 64, 48, 32, 70 and 32 pixels
    assert windows[: len(windows) // 2].tolist() == [*range(5), *range(3), 0, *range(6), 0]
    with Artifact(plan.prototypes("wide", method, 1, 0, 0), PROTOTYPES) as found:
        rows, boxes = found["parts"], found["boxes"]
    with Artifact(targets[0], DISTILLED) as found:
        mosaics = found["images"]
    assert mosaics.shape == (2, 32, 32, 1)
    assert (windows[rows] == 0).all()
    for mosaic, own, at in zip(mosaics, rows, boxes, strict=True):
        for part, (y, x) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
            stop = own[part] + 1
            while stop < len(windows) and windows[stop]:
                stop += 1
            whole = joined(pixels[own[part] : stop], corners[own[part] : stop])
            top, left, side = at[part]
            cut = whole[top : top + side, left : left + side]
            assert cut.shape == (24, 24, 1)
            assert np.array_equal(mosaic[y : y + 16, x : x + 16], resized(cut, 16))
