"""What is no number ends its stage with the class and the step named; what grows beyond reason is said aloud, and only that."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from limbeck import terminal
from limbeck.artifacts import DISTILLED, IMAGES, LATENTS
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.diffusion.sampling import NotNumbersError, sample
from limbeck.errors import LimbeckError
from limbeck.priors import schedulers
from limbeck.priors.dit import DitPrior
from limbeck.records import SUFFIX
from limbeck.settings import Settings
from limbeck.stages import encode, features, finetune, score, soft_labels, teacher
from limbeck.stages import prior as prior_stage
from limbeck.stages import sample as sample_stage
from limbeck.stages.numbers import DIVERGED, Watch
from limbeck.stages.prior import SCHEDULER
from limbeck.store import Artifact, create
from limbeck.students.labels import pack
from limbeck.students.training import train
from tests.unit.test_invert import stored

STEPS, IPC, NAN = 6, 2, float("nan")
FIRST, STOP = 3, 6  # Dress, Coat, Sandal
COAT = 4


@pytest.fixture(scope="module")
def prior(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a stored prior."""
    return stored(tiny_prior, tmp_path_factory.mktemp("stored") / "tiny")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four random images of each of three classes."""
    labels = np.repeat(np.arange(FIRST, STOP), 4)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 1), np.uint8)
    arrays = {"images": pixels, "labels": labels, "source_ids": np.zeros((len(labels), 1), np.uint8)}
    return write(tmp_path / f"images{SUFFIX}", IMAGES, arrays)


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    labels = np.repeat(np.arange(FIRST, STOP), 4)
    values = np.random.default_rng(1).normal(size=(len(labels), 4, 8, 8))
    return write(tmp_path / f"latents{SUFFIX}", LATENTS, {"latents": values, "labels": labels})


def write(path: Path, schema: object, arrays: dict[str, np.ndarray]) -> Path:
    shapes = {name: values.shape for name, values in arrays.items()}
    with create(path, schema, shapes, {}, {}, classes=list(FASHION_CLASSES), class_range=[FIRST, STOP]) as out:
        for name, values in arrays.items():
            out.append(name, values)
    return path


def sampled(prior: Path, images: Path, **sampler: object) -> Path:
    """The artifact of a run of the stage."""
    settings = {"solver": "ddim", "steps": STEPS, "cfg_scale": 1.5, "cfg_channels": "all", "batch_size": 1, **sampler}
    spec = {"guidance": [], "tangents": None, "start": None, "sampler": settings, "family": "dit", "prior": {"size": 32}}
    out = images.with_name(f"distilled{SUFFIX}")
    sample_stage.run({**spec, "size": 32, "channels": 1, "ipc": IPC, "seed": 0, "code": "x"}, images, prior, out)
    return out


def spoil(monkeypatch: pytest.MonkeyPatch, of: int, step: int) -> None:
    """The network answers class ``of`` at its ``step``-th step with a value that is no number."""
    whole, asked = DitPrior.forward, {of: 0}

    def forward(self: DitPrior, x: torch.Tensor, t: object, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        output, variance = whole(self, x, t, labels)
        if int(labels[0]) == of:
            asked[of] += 1
            output = torch.where(torch.tensor(asked[of] == step), NAN, output)
        return output, variance

    monkeypatch.setattr(DitPrior, "forward", forward)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++"])
@pytest.mark.parametrize("broken", [1, 4, 9])
@pytest.mark.parametrize("value", [NAN, float("inf"), 1e30])
def test_the_first_step_that_is_not_a_number_is_named(solver: str, broken: int, value: float):
    asked = 0

    def denoise(x: torch.Tensor, t: float, labels: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ARG001
        nonlocal asked
        asked += 1
        out = torch.zeros_like(x)
        if asked == broken:
            out[1, 2, 0, 1] = value
        return out, None

    noise = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    scheduler = schedulers.build(SCHEDULER, solver, 9)
    generators = lambda step: [torch.Generator().manual_seed(step)] * 3  # noqa: E731
    found = sample(denoise, scheduler, noise, torch.zeros(3, dtype=torch.long), null=1, cfg_scale=1.0, generators=generators)
    with pytest.raises(NotNumbersError, match=rf"not numbers from step {broken} of 9 on"):
        found.checked()


def test_sampling_ends_with_the_class_and_the_step(prior, images, monkeypatch):
    spoil(monkeypatch, COAT, 3)
    with pytest.raises(LimbeckError, match=rf"^class 'Coat': the latents are not numbers from step 3 of {STEPS} on; lower"):
        sampled(prior, images)
    assert not images.with_name(f"distilled{SUFFIX}").exists()
    assert not list(images.parent.glob("*.part"))


def test_latents_beyond_what_an_artifact_holds_are_an_error_of_their_class(prior, images):
    with pytest.raises(LimbeckError, match=r"^class 'Dress': distilled.latents: values outside .*; lower the guidance weight"):
        sampled(prior, images, cfg_scale=1e7)


def test_a_vae_that_makes_no_numbers_is_an_error_and_not_a_black_image(prior, images, monkeypatch):
    whole = AutoencoderKL.decode

    def decode(self: AutoencoderKL, z: torch.Tensor) -> object:
        found = whole(self, z)
        found.sample[:, :, 3, 3] = torch.inf
        return found

    monkeypatch.setattr(AutoencoderKL, "decode", decode)
    with pytest.raises(LimbeckError, match=r"^class 'Dress': the VAE makes pixels that are not numbers"):
        sampled(prior, images)


@pytest.mark.parametrize("value", [NAN, float("inf"), 1e6])
def test_latents_that_are_no_numbers_are_not_encoded(prior, images, monkeypatch, value):
    whole, asked = AutoencoderKL.encode, [0]

    def vae_encode(self: AutoencoderKL, x: torch.Tensor) -> object:
        found = whole(self, x)
        asked[0] += 1
        if asked[0] == 2:  # the second class
            found.latent_dist.mean[1, 0, 0, 0] = value
        return found

    monkeypatch.setattr(AutoencoderKL, "encode", vae_encode)
    with pytest.raises(LimbeckError, match=r"^class 'Coat': latents.latents: values outside .* are the prior's weights whole"):
        encode.run({"size": 32, "batch": 4, "code": "x"}, images, prior, images.with_name(f"out{SUFFIX}"))


def test_scores_that_are_no_numbers_are_an_error_of_their_class(prior, images, latents, monkeypatch):
    spoil(monkeypatch, COAT, 2)
    options = {"n_draws": 3, "t_range": [0.1, 0.9], "t_draws": "stratified", "score_batch": 2, "real_images_per_class": None}
    spec = {"family": "dit", "prior": {"size": 32}, "scoring": options, "code": "x"}
    with pytest.raises(LimbeckError, match=r"^class 'Coat': scores.maps: values outside"):
        score.run(spec, images, latents, prior, images.with_name(f"scores{SUFFIX}"))


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_prior_with_a_weight_that_is_no_number_is_not_stored(tiny_prior, tmp_path, part):
    given, index = shutil.copytree(tiny_prior, tmp_path / "given"), tmp_path / "priors/mine/model_index.json"
    file = given / part / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[1]
    weights[name].view(-1)[-1] = NAN
    save_file(weights, file)
    with pytest.raises(LimbeckError, match=rf"^priors.mine: {re.escape(name)} in {part}/.* not numbers; fetch them again$"):
        stored(given, index.parent)
    assert not list(index.parent.parent.iterdir())


@pytest.mark.parametrize("network", ["vae", "dit"])
def test_a_prior_whose_training_explodes_is_not_stored(images, tmp_path, network):
    rates = {"vae": 1e-3, "dit": 1e-3, network: 1e30}
    train_options = {
        "dataset": "x",
        "vae": {"steps": 4, "batch_size": 4, "warmup": 0, "block_out_channels": (8, 8), "lr": rates["vae"]},
        "dit": {"steps": 4, "batch_size": 4, "warmup": 0, "layers": 1, "heads": 1, "head_dim": 8, "lr": rates["dit"]},
    }
    index = tmp_path / "priors/own/model_index.json"
    with pytest.raises(LimbeckError, match=rf"^priors.own.train.{network}.lr: the loss is (nan|inf) at step [2-4] of 4 "):
        prior_stage.run({"family": "dit", "weights": None, "train": train_options, "load": {}, "code": "x"}, [images], index)
    assert not index.exists()


@pytest.mark.parametrize("epochs", [1, 3])
def test_tuning_that_explodes_names_a_class_or_the_weights(prior, latents, tmp_path, epochs):
    options = {"dataset": "x", "mode": "full", "epochs": epochs, "batch_size": 12, "lr": 1e30}
    spec = {"family": "dit", "prior": {"size": 32}, "dtype": "float16", "finetune": options, "code": "x"}
    index = tmp_path / "priors/tuned/model_index.json"
    # one step leaves weights that no half can hold, and the loss was asked before it
    said = r"\S+ in transformer/\S+ has weights" if epochs == 1 else r"the loss is \S+ at step 2 of 3, first of class '"
    with pytest.raises(LimbeckError, match=rf"^priors.tuned: {said}.*lower finetune.lr"):
        finetune.run(spec, [latents], prior, index)
    assert not index.exists()


class Loud(torch.nn.Module):
    """Its loss is log 2 whatever it sees, and its first step is too large for a float."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(64, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e6 * x.flatten(1) @ self.weight


def test_a_student_whose_last_step_explodes_has_failed():
    settings = Settings(batch_size=8, lr=3e38, weight_decay=0.0, steps=1, evaluations=1)
    pixels, labels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8), np.arange(8) % 2
    with pytest.raises(FloatingPointError, match=r"^the weights are not numbers after epoch 1 of 1 \(learning rate 3.0e\+38\)$"):
        train(Loud, pixels, labels, settings, 0, 0, lambda *_: None)


def test_a_divergence_is_said_once_per_class_in_the_log_and_on_the_terminal(images, tmp_path, monkeypatch, capsys):
    prior = stored("package:fashion-dit", tmp_path / "fashion-dit")  # one that was trained
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "stream", shown)
    with Artifact(sampled(prior, images), DISTILLED) as found:
        calm = found["x0_norms"].max()
    assert calm < DIVERGED * 16
    assert "warning" not in capsys.readouterr().err + shown.getvalue()
    out = sampled(prior, images, cfg_scale=1e3)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert lines == shown.getvalue().splitlines()
    with Artifact(out, DISTILLED) as found:
        norms, labels = found["x0_norms"], found["labels"]
    wild = {int(label) for label in labels[(norms > DIVERGED * 16).any(axis=1)]}
    assert wild == set(range(FIRST, STOP))
    assert len(lines) == len(wild) + 1
    assert lines[-1] == f"warning: {out}: |x0_hat| diverged in 3 of 3 classes"
    for line, label in zip(lines, sorted(wild), strict=False):
        own = norms[labels == label]
        first = own[int(np.argmax((own > DIVERGED * 16).any(axis=1)))]  # batches are of one image
        step = int(first.argmax())
        assert f"class {FASHION_CLASSES[label]!r}: |x0_hat| is {first[step]:.4g} at step {step + 1} of {STEPS}, where 16 is" in line


def test_what_stays_below_the_threshold_is_not_said(capsys):
    watch = Watch(Path("x"), 64, 2)
    watch("a", np.full((3, 2), DIVERGED * 8))
    watch.close(1)
    assert not capsys.readouterr().err


def test_weights_of_a_teacher_that_are_no_numbers_are_refused(tmp_path):
    model = torch.nn.BatchNorm2d(3)
    assert model.running_var is not None
    model.running_var[1] = torch.inf  # of which no test accuracy need tell
    save_file(model.state_dict(), tmp_path / "given.safetensors")
    with pytest.raises(LimbeckError, match=r"^teachers\.mine\.weights: .*given\.safetensors has weights that are not numbers"):
        teacher._loaded(torch.nn.BatchNorm2d(3), tmp_path / "given.safetensors", {"teacher": "mine"})


def test_features_that_are_no_numbers_are_an_error_of_their_class(images, tmp_path, monkeypatch):
    class Broken:
        dim, size, classifies, files = 5, None, False, {}

        def batches(self, pixels: np.ndarray) -> Iterator[tuple[np.ndarray, None]]:
            values = np.ones((len(pixels), 5), np.float32)
            values[-1, 2] = NAN if (pixels == coats).all() else 1
            yield values, None

    with Artifact(images) as source:
        coats = source["images"][4:8]
    extractor = SimpleNamespace(load=lambda *_: Broken())
    monkeypatch.setattr(features, "import_module", lambda _: extractor)
    with pytest.raises(
        LimbeckError, match=r"^class 'Coat': features\.features: values outside .*; are the extractor's weights whole\?"
    ):
        features.run({"extractor": "x", "kind": "clip", "code": "x"}, images, tmp_path / f"out{SUFFIX}")


def test_soft_labels_that_are_no_numbers_are_an_error_of_their_epoch(tmp_path, monkeypatch):
    asked = 0

    class Broken:
        classes = 10

        def packed(self, x: torch.Tensor) -> dict[str, np.ndarray]:
            nonlocal asked
            asked += 1
            logits = torch.zeros(len(x), 10)
            logits[0, 3] = NAN if asked == 2 else 0
            return pack(logits, None, 20.0)

    labels = np.repeat(np.arange(FIRST, STOP), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    distilled = write(tmp_path / f"distilled{SUFFIX}", DISTILLED, {"images": pixels, "labels": labels})
    monkeypatch.setattr(soft_labels, "online", lambda *_: Broken())
    settings = Settings(batch_size=6, lr=0.1, weight_decay=0.0, epochs=3, labels="soft").model_dump(mode="json")
    spec = {"settings": settings, "teacher": "convnet3", "teachers": [], "seed": 0, "repeat": 0, "code": "x"}
    with pytest.raises(
        LimbeckError, match=r"^teacher convnet3, epoch 2 of 3: soft_labels\.logits: values outside .* weights whole\?$"
    ):
        soft_labels.run(spec, [distilled], [], tmp_path / f"labels{SUFFIX}")
