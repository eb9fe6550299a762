"""Where networks compute, and batches that do not fit there. A fake error stands for a GPU's memory: none is needed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from limbeck.cli import app
from limbeck.devices import VARIABLE, Fitting, device
from limbeck.diffusion.hidden import hidden
from limbeck.diffusion.inversion import inverted
from limbeck.diffusion.sampling import sample
from limbeck.errors import LimbeckError
from limbeck.guidance import alignment, mode
from limbeck.guidance.base import Targets
from limbeck.metrics.teacher import TeacherExtractor
from limbeck.priors import schedulers
from limbeck.priors.dit import DitPrior
from limbeck.students.evaluation import predict
from tests import tiny_priors


class Small:
    """A device of so little memory that a call takes ``most`` images; counts its calls."""

    def __init__(self, function, most: int):
        self.function, self.most, self.asked = function, most, []

    def __call__(self, x, *rest):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return self.function(x, *rest)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("auto", "cpu", ""):
        monkeypatch.setenv(VARIABLE, name)
        assert device() == torch.device("cpu")
    monkeypatch.delenv(VARIABLE)
    assert device() == torch.device("cpu")
    for name, said in (("cuda", "finds no cuda here, but cpu"), ("gpu", "unknown device 'gpu'; choose one of")):
        monkeypatch.setenv(VARIABLE, name)
        with pytest.raises(LimbeckError, match=said) as caught:
            device()
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("limbeck.devices.repeatable", lambda: None)  # it is for the whole process
    for name in ("auto", "cuda"):
        monkeypatch.setenv(VARIABLE, name)
        assert device() == torch.device("cuda")
    monkeypatch.setenv(VARIABLE, "cpu")
    assert device() == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_adds_up_in_one_order(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LIMBECK_DEVICE", "auto")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    try:
        assert device() == torch.device("cuda")
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_device_that_is_not_there_ends_the_command_in_one_line(tiny_prior, tmp_path):
    def run(*before: str, **env: str) -> subprocess.CompletedProcess[str]:
        from limbeck.artifacts import IMAGES
        from limbeck.store import create

        images = tmp_path / "images.zarr.zip"
        if not images.exists():
            shapes = {"images": (1, 32, 32, 1), "labels": (1,), "source_ids": (1, 1)}
            with create(images, IMAGES, shapes, {}, {}, classes=["Bag"], class_range=[0, 1]) as out:
                out.append("images", np.zeros((1, 32, 32, 1), np.uint8))
                out.append("labels", np.zeros(1))
                out.append("source_ids", np.full((1, 1), 48, np.uint8))
        files = ["--images", images, "--prior", tiny_prior / "model_index.json", "--latents", tmp_path / "l.zarr.zip"]
        stage = ["encode", "--spec", '{"size": 32, "batch": 4, "code": "x"}', "--prov", tmp_path / "p.json", *files]
        environment = {**os.environ, **env}
        command = [sys.executable, "-m", "limbeck", *before, *map(str, stage)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    found = run("--device", "cuda", **{VARIABLE: "cpu"})  # the option wins
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith("limbeck: error: --device (LIMBECK_DEVICE): torch")
    assert not (tmp_path / "l.zarr.zip").exists()


def test_the_command_line_knows_the_devices():
    from typer.testing import CliRunner

    found = CliRunner().invoke(app, ["--device", "gpu", "show", "x"])
    assert found.exit_code == 2
    assert "'auto', 'cpu', 'cuda', 'mps'" in found.output


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("most", [1, 3, 16])
def test_a_batch_is_halved_until_it_fits_and_nothing_is_lost(n, most):
    fitting, work = Fitting(), Small(lambda x, y: x + y, most)
    x, y = torch.arange(n), 100 * torch.arange(n)
    assert torch.equal(torch.cat(fitting(work, x, y)), x + y)
    tried = len(work.asked)
    assert torch.equal(torch.cat(fitting(work, x, y)), x + y)
    assert all(size <= most for size in work.asked[tried:])  # what fits is remembered
    assert max(work.asked[tried:]) >= min(n, most) / 2  # and is not cut further than needed


def test_one_image_that_does_not_fit_is_said():
    with pytest.raises(LimbeckError, match=r"not even one image fits.*Tried to allocate 9 GiB"):
        Fitting()(Small(lambda x: x, 0), torch.zeros(4))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(_):
        raise RuntimeError("CUDA error: an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        Fitting()(broken, torch.zeros(4))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> DitPrior:
    return DitPrior(tiny_priors.numbered_dit(tmp_path_factory.mktemp("dit"), classes=10))


def test_a_prior_that_does_not_fit_computes_the_same(learned):
    """Outputs, learned variances, latents, images, hidden features and whole samples, halved or not."""
    small = DitPrior(learned.name)
    for name in ("encode", "decode"):
        setattr(small.vae, name, Small(getattr(small.vae, name), 3))
    noise = torch.randn(8, *learned.latent_shape, generator=torch.Generator().manual_seed(0))
    small.transformer.forward = _limited(small.transformer.forward, 3)
    labels, t = torch.arange(8), torch.arange(8) * 100
    with torch.inference_mode():
        for times in (500.0, t):
            for ours, theirs in zip(small.denoise(noise, times, labels), learned.denoise(noise, times, labels), strict=True):
                torch.testing.assert_close(ours, theirs)
        assert small.fitting.most == 2
        torch.testing.assert_close(hidden(small, noise, t, labels, 1), hidden(learned, noise, t, labels, 1))
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 1), dtype=np.uint8)
    torch.testing.assert_close(small.encode(images), learned.encode(images))
    assert np.abs(small.decode(noise, 1).astype(int) - learned.decode(noise, 1)).max() <= 1
    found = [sample(p.denoise, p.scheduler("ddim", 4), noise, labels, null=p.null, cfg_scale=4.0).latents for p in (small, learned)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def _limited(forward, most: int):
    """A transformer's forward pass, which takes keywords, on a small device."""
    small = Small(lambda x, options: forward(x, **options), most)
    return lambda x, **options: small(x, options)


def test_a_gradient_is_never_cut_into_pieces(learned):
    """Pieces would not save what is kept for it; and their sum of errors would hide the lack of memory."""
    small = DitPrior(learned.name)
    small.transformer.forward = _limited(small.transformer.forward, 3)
    noise = torch.randn(4, *learned.latent_shape).requires_grad_()
    with pytest.raises(torch.OutOfMemoryError):
        small.denoise(noise, 10.0, torch.zeros(4, dtype=torch.long))
    output, _ = small.denoise(noise[:3], 10.0, torch.zeros(3, dtype=torch.long))
    output.sum().backward()
    assert noise.grad.abs().sum() > 0


def test_teachers_and_predictions_fit_too(tmp_path):
    from safetensors.torch import save_file

    from limbeck.records import write_json
    from limbeck.students.construct import construct
    from limbeck.students.registry import architecture

    about = architecture("convnet3-w32")
    model = construct(about, 1, 3, 32).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    results = {"input": {"channels": 1, "size": 32, "normalise": "half"}, "classes": list("abc"), "architecture": about}
    results |= {"accuracy": 1.0, "per_class": [], "test_images": 1, "sha256": {}, "parameters": 1}
    write_json(tmp_path / "teacher.json", "teacher", {}, results)
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), dtype=np.uint8)
    whole, small = (TeacherExtractor(tmp_path / "w.safetensors", tmp_path / "teacher.json") for _ in range(2))
    small.model.features = Small(whole.model.features, 7)
    expected = [np.concatenate(column) for column in zip(*whole.batches(images), strict=True)]
    found = [np.concatenate(column) for column in zip(*small.batches(images), strict=True)]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    assert np.array_equal(found[1], expected[1])
    classes = predict(whole.model, images, "half")
    whole.model.forward = Small(whole.model.forward, 9)
    assert np.array_equal(predict(whole.model, images, "half"), classes)


# The loop and its guidances on a device of their own: fake tensors say where they are and compute nothing, so they notice every
# operation that mixes devices.


@pytest.fixture
def fake() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


def fakes(mode: FakeTensorMode, *shapes: tuple[int, ...], where: str = "cuda") -> list[torch.Tensor]:
    with mode:
        return [torch.empty(shape, device=where) for shape in shapes]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++", "flow"])
def test_sampling_stays_where_the_noise_is(fake, solver, learned, monkeypatch):
    x, members, centroids = fakes(fake, *[(3, 4, 8, 8)] * 3)
    spread, labels = fakes(fake, (3,), (3,))
    config = {"num_train_timesteps": 1000}
    made = schedulers.build(config, solver, 4, learned and solver == "ddpm")
    # its draws are on the CPU and moved, which takes a real device
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: fakes(fake, (3, 4, 8, 8))[0])
    targets = Targets(members, centroids, spread, spread)
    options = {"target": "centroid", "weight": 0.1, "t_stop": 2, "noise": "recompute", "kernel": "imq", "bandwidth": None}
    aligned = {"target": "member", "gamma": 0.5, "prior_injection_steps": 1, "alignment": "released"}
    guidance = [mode.build(options, targets, solver), alignment.build(aligned, targets, solver)]

    def denoise(x, t, labels):  # noqa: ARG001
        return x * 0.5, x * 0.1 if learned else None

    found = sample(denoise, made, x, labels, null=9, cfg_scale=2.0, guidance=guidance)
    assert {t.device.type for t in (found.latents, found.step_norms, found.x0_norms)} == {"cuda"}
    assert found.step_norms.shape == (3, 4)
    if solver == "ddim":
        assert {z.device.type for z in inverted(denoise, made, x, labels, 2, null=9, cfg_scale=2.0)} == {"cuda"}
    stray = Targets(torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 8, 8), torch.ones(3))
    with pytest.raises(RuntimeError, match="same device"):
        sample(denoise, made, x, labels, null=9, cfg_scale=2.0, guidance=[mode.build(options, stray, solver)])


def test_targets_move_as_a_whole():
    tangents = object()
    targets = Targets(torch.zeros(2, 1, 2, 2), None, None, torch.ones(2), tangents)
    moved = targets.to(torch.device("meta"))
    assert moved.members.device.type == moved.member_spread.device.type == "meta"
    assert moved.centroids is moved.centroid_spread is None
    assert moved.tangents is tangents
