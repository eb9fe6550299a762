"""The stage invert against float64 statistics of the latents it keeps, its edge cases, and what names its artifact."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from limbeck.artifacts import LATENTS, STATISTICS
from limbeck.config import Config, View
from limbeck.data.decoding import decode
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.diffusion.inversion import inverted
from limbeck.diffusion.sampling import sample
from limbeck.errors import LimbeckError
from limbeck.priors.base import load_vae
from limbeck.priors.dit import DitPrior
from limbeck.records import SUFFIX
from limbeck.resolution import resolve
from limbeck.seeds import normal
from limbeck.stages import invert
from limbeck.stages import prior as prior_stage
from limbeck.store import Artifact, create
from tests.unit.test_methods import plan

OPTIONS = {
    "inversion": "ddim",
    "inversion_step": 6,
    "inversion_scale": 1.0,
    "inversion_batch": 16,
    "keep_latents": True,
    "steps": 10,
    "cfg_channels": "all",
}
COUNTS = {2: 40, 5: 25, 7: 1}  # classes 2, 5 and 7 of fashion's ten


def stored(weights: Path | str, folder: Path) -> Path:
    """A prior as the stage ``prior`` leaves it; its index."""
    index = folder / "model_index.json"
    prior_stage.run({"family": "dit", "weights": str(weights), "train": None, "load": {"dtype": "float32"}, "code": "x"}, [], index)
    return index


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory) -> Path:
    return stored(tiny_prior, tmp_path_factory.mktemp("stored") / "tiny")


def write_latents(path: Path, latents: np.ndarray, labels: np.ndarray) -> Path:
    shapes = {"latents": latents.shape, "labels": labels.shape}
    with create(path, LATENTS, shapes, {}, {}, classes=list(FASHION_CLASSES), class_range=[0, 10]) as out:
        out.append("latents", latents)
        out.append("labels", labels)
    return path


def some_latents() -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(list(COUNTS), list(COUNTS.values())).astype(np.int32)
    rng = np.random.default_rng(0)
    return (rng.gamma(2, 0.4, (len(labels), 4, 8, 8)) - 0.5).astype(np.float16), labels


def run(folder: Path, prior: Path, latents: np.ndarray, labels: np.ndarray, **options: object) -> dict[str, np.ndarray]:
    """The artifact's arrays; every one of them is finite."""
    spec = {"inversion": {**OPTIONS, **options}, "family": "dit", "prior": {"size": 32}, "code": "x"}
    out = folder / f"statistics{SUFFIX}"
    invert.run(spec, write_latents(folder / f"latents{SUFFIX}", latents, labels), prior, out)
    with Artifact(out, STATISTICS) as found:
        arrays = {name: found[name] for name in found.group}
    assert all(np.isfinite(values).all() for values in arrays.values())
    return arrays


def test_statistics_are_those_of_the_kept_latents_in_float64(prior, tmp_path):
    z0, labels = some_latents()
    found = run(tmp_path, prior, z0, labels)
    assert found["labels"].tolist() == list(COUNTS)
    assert found["counts"].tolist() == list(COUNTS.values())
    for row, (label, count) in enumerate(COUNTS.items()):
        z = found["latents"][labels == label].astype(np.float64)
        assert np.allclose(found["mean"][row], z.mean(axis=0), rtol=1e-6, atol=1e-7)
        if count == 1:
            continue
        assert np.allclose(found["variance"][row], z.var(axis=0, ddof=1), rtol=1e-6)
        assert np.allclose(found["skewness"][row], stats.skew(z), rtol=1e-5, atol=1e-6)
        assert np.allclose(found["kurtosis"][row], stats.kurtosis(z), rtol=1e-5, atol=1e-6)
        for rung, points in ((0, z0[labels == label].astype(np.float64)), (6, z)):
            assert found["rejected"][row, rung] == pytest.approx((stats.normaltest(points).pvalue < 0.05).mean(), abs=1e-6)
            assert found["mean_skewness"][row, rung] == pytest.approx(np.abs(stats.skew(points)).mean(), rel=1e-5)
            assert found["mean_kurtosis"][row, rung] == pytest.approx(np.abs(stats.kurtosis(points)).mean(), rel=1e-5)
    assert (found["tested"][:2] == 256).all()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_kept_latents_and_round_trip_are_the_kernels(prior, tmp_path, scale):
    z0, labels = some_latents()
    found, model = run(tmp_path, prior, z0, labels, inversion_scale=scale), DitPrior(prior.parent)
    for row, (label, count) in enumerate(COUNTS.items()):
        z = torch.from_numpy(z0[labels == label].astype(np.float32))
        of_class, options = torch.full((count,), label), {"null": model.null, "cfg_scale": scale}
        *_, top = inverted(model.denoise, model.scheduler("ddim", 10), z, of_class, 6, **options)
        assert np.allclose(found["latents"][labels == label], top, atol=1e-4)
        back = sample(model.denoise, model.scheduler("ddim", 10), top[:16], of_class[:16], start=4, **options).latents
        assert found["round_trip"][row] == pytest.approx(float((back - z[:16]).norm() / z[:16].norm()), rel=1e-3)
        assert found["round_trip"][row] > 1e-3


def test_noised_latents_have_streams_of_their_own(prior, tmp_path):
    z0, labels = some_latents()
    found = run(tmp_path, prior, z0, labels, inversion="ddpm")
    abar = float(DitPrior(prior.parent).scheduler("ddim", 10).alphas_cumprod[500])  # rungs 1 … 6 of 10: 0, 100, … 500
    for label, count in COUNTS.items():
        noise = np.stack([normal((4, 8, 8), 0, "invert", label, item).numpy() for item in range(count)])
        expected = math.sqrt(abar) * z0[labels == label].astype(np.float64) + math.sqrt(1 - abar) * noise
        assert np.allclose(found["latents"][labels == label], expected, atol=1e-6)


def test_noise_cannot_be_sampled_back_and_inverted_latents_can(prior, tmp_path):
    z0, labels = some_latents()
    finer = {"steps": 50, "inversion_step": 30}
    errors = [run(tmp_path, prior, z0, labels, inversion=kind, **finer)["round_trip"] for kind in ("ddim", "ddpm")]
    assert (10 * errors[0] < errors[1]).all()


def test_no_step_leaves_the_latents_as_they_are(prior, tmp_path):
    z0, labels = some_latents()
    found = run(tmp_path, prior, z0, labels, inversion_step=0)
    assert np.array_equal(found["latents"], z0.astype(np.float32))
    assert not found["round_trip"].any()
    assert found["rejected"].shape == (3, 1)


def test_a_class_of_one_image_has_no_variance_and_no_test(prior, tmp_path):
    found = run(tmp_path, prior, *some_latents())
    assert np.array_equal(found["mean"][2], found["latents"][-1])
    for name in ("variance", "skewness", "kurtosis"):
        assert not found[name][2].any()
    assert (found["rejected"][2] == -1).all()
    assert not found["tested"][2].any()


def test_constant_dimensions_are_not_tested(prior, tmp_path):
    z0, labels = some_latents()
    z0[:, 1, 2:4] = 0.25
    found = run(tmp_path, prior, z0, labels)
    assert found["tested"][0, 0] == found["tested"][1, 0] == 256 - 16
    assert found["tested"][0, 6] == 256  # the network mixes dimensions
    only = run(tmp_path, prior, np.zeros_like(z0), labels, inversion_step=0)
    for name in ("mean", "variance", "skewness", "kurtosis", "tested", "round_trip"):
        assert not only[name].any()
    assert (only["rejected"] == -1).all()
    run(tmp_path, prior, np.zeros_like(z0), labels)  # finite on every rung


def test_latents_are_left_out_unless_kept_and_batches_change_rounding_alone(prior, tmp_path):
    z0, labels = some_latents()
    a, b = (run(tmp_path, prior, z0, labels, keep_latents=False, inversion_batch=batch) for batch in (7, 64))
    assert "latents" not in a
    for name in ("mean", "variance"):
        assert np.allclose(a[name], b[name], atol=1e-5)


def test_latents_of_another_size_and_overflow_are_one_line(prior, tmp_path):
    z0, labels = some_latents()
    with pytest.raises(LimbeckError, match=r"^prior tiny: generates latents \(4, 8, 8\), those to invert are \(4, 4, 8\)$"):
        run(tmp_path, prior, z0[:, :, :4], labels)
    with pytest.raises(LimbeckError, match=r"^class 'Pullover': its latents are not numbers after 2 of 6 steps up; lower inv"):
        run(tmp_path, prior, z0, labels, inversion_scale=1e38)


@pytest.mark.long
def test_the_embedded_priors_noise_space_is_more_normal_than_its_latents(tmp_path):
    """D3HR Fig. 1 as numbers, for one class of the embedded benchmark."""
    index = stored("package:fashion-dit", tmp_path / "fashion-dit")
    source = open_source("fashion-mini", Config().datasets["fashion-mini"])
    rows = np.flatnonzero(source.labels("train") == 5)[:150]
    images = np.stack([apply_view(decode(source.raw("train", int(row))), View(size=32, resize="pad"), 1) for row in rows])
    latents = load_vae(index.parent, 32).encode(images).numpy()
    found = run(tmp_path, index, latents.astype(np.float16), np.full(150, 5, np.int32), inversion_step=31, steps=50)
    for name in ("rejected", "mean_skewness", "mean_kurtosis"):
        curve = found[name][0, [0, 10, 20, 31]]
        assert curve[0] > curve[1] > curve[2] > 0.9 * curve[3], (name, curve)
        assert curve[3] < curve[0] / 2, (name, curve)
    assert found["round_trip"][0] < 0.1


# What names the artifact, and what is refused before any job starts.


def names(**variants: dict[str, object]) -> dict[str, str | None]:
    config = Config(methods={name: {"base": "d3hr", **change} for name, change in variants.items()})
    return {name: resolve(config, name, 10, "fashion-dit", "d").inversion_name for name in variants}


def test_statistics_are_named_by_what_they_depend_on_alone():
    found = names(
        plain={},
        same={"candidates": 10, "l_skew": 0.0, "cfg_scale": 7.0, "cfg_channels": 3, "batch_size": 8},
        steps={"steps": 40},
        step={"inversion_step": 20},
        scale={"inversion_scale": 2.0},
        channels={"inversion_scale": 2.0, "cfg_channels": 3},
        ddpm={"inversion": "ddpm"},
        kept={"keep_latents": True},
    )
    assert found.pop("same") == found["plain"]
    assert len(set(found.values())) == len(found) == 7
    assert names(dit={"base": "dit"})["dit"] is None
    made = plan(methods__own={"base": "d3hr", "inversion_step": {10: 20, 37: 30}})
    for ipc in (10, 37):  # one of them is not in the run
        method = made.method("own", ipc, "fashion-mini")
        assert made.inversion_of(method.inversion_name, "fashion-mini") == method.inversion


def test_the_spec_holds_prior_and_inversion_alone():
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "shard": "0"}
    specs = []
    for change in ({}, {"run__ipc": [1, 50]}, {"priors__fashion-dit__cfg_scale": 3.0}):
        made = plan(methods__own={"base": "d3hr", "inversion_step": 20}, **change)
        w["inversion"] = made.method("own", 10, "fashion-mini").inversion_name
        specs.append(made.spec("invert", w))
    assert specs[0] == specs[1] == specs[2]
    assert set(json.loads(specs[0])) == {"inversion", "family", "prior", "code"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inversion_step": 51}, r"methods\.own\.inversion_step: 51 is beyond the .*50 steps"),
        ({"inversion_step": 31, "steps": 30}, r"methods\.own\.inversion_step: 31 is beyond the .*30 steps"),
        ({"inversion_step": -1}, r"methods\.own\.inversion_step: .*greater than or equal to 0"),
        ({"inversion_scale": -1}, r"methods\.own\.inversion_scale: .*greater than or equal to 0"),
        ({"inversion": "ddimm"}, r"methods\.own\.inversion: .*'ddim' or 'ddpm'"),
        ({"solver": "dpm++"}, r"methods\.own\.solver: 'dpm\+\+' .*ddim"),
    ],
)
def test_what_cannot_be_inverted_is_one_line_before_any_job(change, message):
    with pytest.raises(LimbeckError, match=message) as caught:
        plan(run__methods=["own"], methods__own={"base": "d3hr", **change})
    assert "\n" not in str(caught.value)


def test_latents_of_another_view_are_refused_in_the_run_and_as_a_target_outside_it():
    views = {"v32": {"size": 32, "resize": "pad"}, "v28": {"size": 28, "resize": "crop"}}
    other = {"datasets__fashion-mini__views": views, "priors__fashion-dit__discovery_view": "v28", "methods__own": {"base": "d3hr"}}
    message = r"^priors\.fashion-dit\.discovery_view: (own|d3hr) inverts latents of 'view'; drop discovery_view$"
    with pytest.raises(LimbeckError, match=message):
        plan(run__methods=["own"], **other)
    made = plan(run__methods=["random"], **other)
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "shard": "0"}
    with pytest.raises(LimbeckError, match=message):
        made.spec("invert", {**w, "inversion": made.method("own", 10, "fashion-mini").inversion_name})
