"""Extractors of kind hf, torchscript and inception: tiny models, saved as real ones are."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.artifacts import FEATURES
from limbeck.commit import digest
from limbeck.errors import LimbeckError
from limbeck.metrics.hf import HfExtractor
from limbeck.metrics.inception import InceptionExtractor, clean_resized
from limbeck.metrics.torchscript import ScriptExtractor
from limbeck.stages import features
from limbeck.store import Artifact
from tests.unit.test_features import write_images
from tests.unit.test_methods import plan

KEY = "extractors.c.weights"
PICTURES = np.random.default_rng(0).integers(0, 256, (7, 40, 28, 3), dtype=np.uint8)


def rows(extractor, images: np.ndarray = PICTURES, size: int = 3) -> np.ndarray:
    return np.concatenate([values for values, _ in extractor.batches(images, size)])


# Kind hf.


def save_resnet(folder: Path) -> nn.Module:
    """A tiny ResNet with its classifier, and the processor that the hub's have: edges are cropped, another resize, its own name."""
    from transformers import ResNetConfig, ResNetForImageClassification

    options = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic", "num_labels": 5}
    model = ResNetForImageClassification(ResNetConfig(**options))
    model.save_pretrained(folder)
    processor = {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "do_resize": True,
        "size": 32,
        "crop_pct": 0.875,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model.eval()


def save_vit(folder: Path) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}
    model = ViTForImageClassification(ViTConfig(**options, patch_size=8, num_labels=16))  # as many labels as features
    model.save_pretrained(folder)
    save_processor(folder)
    return model.eval()


def save_dino(folder: Path) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = Dinov2Model(Dinov2Config(**options))
    model.save_pretrained(folder)
    save_processor(folder)
    return model.eval()


def save_processor(folder: Path) -> None:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


MODELS: dict[str, tuple[Callable[[Path], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "resnet": (save_resnet, lambda model, x: model.resnet(x).last_hidden_state.mean((2, 3))),
    "vit": (save_vit, lambda model, x: model.vit(x).last_hidden_state[:, 0]),
    "dinov2": (save_dino, lambda model, x: model(x).last_hidden_state[:, 0]),
}


@pytest.fixture(params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, nn.Module]:
    folder = tmp_path / request.param
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return request.param, folder, MODELS[request.param][0](folder)


def test_hf_features_are_what_the_classifier_would_read(saved):
    from transformers import AutoImageProcessor

    name, folder, model = saved
    extractor = HfExtractor(str(folder), KEY)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=[Image.fromarray(i) for i in PICTURES], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = MODELS[name][1](model, pixels).numpy()
    found = rows(extractor)
    assert pixels.shape[2:] == (32, 32)
    assert found.dtype == np.float32
    assert found.shape == (7, extractor.dim) == (7, {"resnet": 12}.get(name, 16))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # it does look at the image
    gray = PICTURES[..., :1]
    np.testing.assert_array_equal(rows(extractor, gray), rows(extractor, np.repeat(gray, 3, axis=-1)))


def test_a_trunk_without_the_weights_of_its_pooling_is_refused(tmp_path):
    from transformers import ViTConfig, ViTModel

    save_vit(tmp_path)
    config = ViTConfig.from_pretrained(tmp_path)
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(LimbeckError, match=rf"^{KEY}: the weights in .* are incomplete: no pooler") as caught:
        HfExtractor(str(tmp_path), KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["cut short", "tensor missing", "no processor", "no image model"])
def test_hf_weights_that_are_not_whole_are_one_line(tmp_path, tiny_clip, case):
    save_resnet(tmp_path)
    path, folder = tmp_path / "model.safetensors", tmp_path
    if case == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif case == "tensor missing":
        tensors = load_file(path)
        save_file({k: v for k, v in tensors.items() if k != "classifier.1.weight"}, path, {"format": "pt"})
    elif case == "no processor":
        (tmp_path / "preprocessor_config.json").unlink()
    else:
        folder = tiny_clip  # which wants a text beside the image
    with pytest.raises(LimbeckError, match=f"^{KEY}: ") as caught:
        HfExtractor(str(folder), KEY)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


# Kinds torchscript and inception.


class Pooled(nn.Module):
    """Features (n, 6): the channels' means and their squares' means, of images of 16 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != 16 or x.shape[3] != 16:
            raise RuntimeError("images of 16 pixels")
        return torch.cat([x.mean((2, 3)), (x * x).mean((2, 3))], 1)


class Flat(nn.Module):
    """No features: one number an image, without its axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))


class Inception(nn.Module):
    """In the place of Inception: with ``return_features`` 2048 averages of an image, else two probabilities."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        if x.shape[2] != 299 or x.shape[3] != 299:
            raise RuntimeError("images of 299 pixels")
        if return_features:
            return F.adaptive_avg_pool2d(x.mean(1), (32, 64)).flatten(1)
        return x.mean((2, 3))


def save_script(path: Path, module: nn.Module) -> str:
    torch.jit.script(module.eval()).save(str(path))
    return str(path)


def script_spec(path: Path, **options) -> dict:
    made = plan(extractors={"c": {"kind": "torchscript", "weights": str(path), "size": 16, **options}})
    return {"extractor": "c", **made.config.extractors["c"].read()}


@pytest.mark.parametrize(
    ("options", "normalised"),
    [
        ({}, lambda x: x / 255),
        ({"range": [0, 255]}, lambda x: x),
        ({"range": [-1, 1]}, lambda x: x / 127.5 - 1),
        (
            {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
    ],
    ids=["unit", "bytes", "signed", "imagenet"],
)
def test_a_script_gets_float_images_as_its_options_say(tmp_path, options, normalised):
    spec = script_spec(Path(save_script(tmp_path / "m.pt", Pooled())), **options)
    extractor = ScriptExtractor(spec, KEY)
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    x = normalised(images.astype(np.float64))
    expected = np.concatenate([x.mean((1, 2)), (x * x).mean((1, 2))], axis=1)
    assert (extractor.dim, extractor.size, extractor.classifies) == (6, 16, False)
    np.testing.assert_allclose(rows(extractor, images, 2), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows(extractor, images[..., :1]), rows(extractor, np.repeat(images[..., :1], 3, axis=-1)))


def test_a_script_gives_the_same_bytes_at_every_call(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    spec = script_spec(Path(save_script(tmp_path / "m.pt", layers)))
    extractor = ScriptExtractor(spec, KEY)
    images = np.random.default_rng(2).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    calls = [rows(extractor, images) for _ in range(4)]
    assert all(np.array_equal(calls[0], again) for again in calls[1:])
    assert np.array_equal(calls[0], rows(ScriptExtractor(spec, KEY), images))


def written_out(image: np.ndarray) -> np.ndarray:
    """What clean-fid does to an image (H, W, 3): each channel in PIL's mode F, bicubic, clipped, not rounded."""
    out = np.empty((299, 299, 3), np.float32)
    for channel in range(3):
        plane = Image.new("F", (image.shape[1], image.shape[0]))
        plane.putdata([float(v) for v in image[..., channel].ravel()])
        out[..., channel] = np.clip(np.asarray(plane.resize((299, 299), resample=Image.BICUBIC)), 0, 255)
    return out


@pytest.mark.parametrize("shape", [(32, 32, 3), (40, 28, 3), (299, 299, 3), (512, 330, 3)])
def test_inceptions_images_are_resized_as_clean_fid_does(shape):
    image = np.random.default_rng(shape[0]).integers(0, 2, shape, dtype=np.uint8) * 255  # edges, where bicubic overshoots
    found = clean_resized(image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, written_out(image))
    if shape[0] == 299:
        np.testing.assert_array_equal(found, image)
    else:
        assert (found != np.round(found)).any()  # never quantised


def test_inception_is_called_for_its_features_of_0_to_255(tmp_path):
    spec = {"kind": "inception", "weights": save_script(tmp_path / "i.pt", Inception())}
    extractor = InceptionExtractor(spec, KEY)
    pixels = np.stack([written_out(image) for image in PICTURES[:3]])
    expected = F.adaptive_avg_pool2d(torch.from_numpy(pixels).permute(0, 3, 1, 2).mean(1), (32, 64)).flatten(1)
    found = rows(extractor, PICTURES[:3], 2)
    assert (extractor.dim, extractor.size) == (2048, None)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert 100 < found.mean() < 150


@pytest.mark.parametrize(
    ("kind", "module", "message"),
    [
        ("torchscript", None, "cannot read .* as TorchScript"),
        ("torchscript", Flat(), r"of shape \(1,\), expected \(1, dim\)"),
        ("torchscript", Inception(), "images of 299 pixels"),
        ("inception", Pooled(), "gives no features"),
        ("inception", nn.Identity(), "gives no features"),
    ],
    ids=["no script", "no features", "another size", "no return_features", "another network"],
)
def test_a_script_that_does_not_fit_is_one_line(tmp_path, kind, module, message):
    path = tmp_path / "m.pt"
    path.write_bytes(b"not a script") if module is None else save_script(path, module)
    spec = script_spec(path) if kind == "torchscript" else {"kind": kind, "weights": str(path)}
    with pytest.raises(LimbeckError, match=f"^{KEY}: .*{message}") as caught:
        {"torchscript": ScriptExtractor, "inception": InceptionExtractor}[kind](spec, KEY)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["torchscript", "inception"])
def test_a_missing_script_is_named_before_any_job(tmp_path, kind):
    extractor = {"kind": kind, "weights": str(tmp_path / "no.pt"), **({"size": 16} if kind == "torchscript" else {})}
    plan(extractors={"c": extractor})  # nobody asks for it
    for asked in ({"run__extractors": ["teacher", "c"]}, {"methods__coda_real__features": "c"}):
        with pytest.raises(LimbeckError, match=rf"^{KEY}: no file .*no\.pt; a TorchScript is a local \.pt file$"):
            plan(extractors={"c": extractor}, **asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "torchscript"}, r"extractors\.c: .*needs 'size'"),
        ({"kind": "inception", "size": 299}, r"extractors\.c: .*'size' belongs to kind torchscript, not to inception"),
        ({"kind": "hf", "mean": [0.5]}, r"extractors\.c: .*'mean' belongs to kind torchscript, not to hf"),
        ({"kind": "torchscript", "size": 8, "std": [1, 0, 1]}, r"extractors\.c: .*no 'std' is 0"),
        ({"kind": "torchscript", "size": 8, "mean": [1, 2]}, r"extractors\.c: .*one value or three"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    with pytest.raises(LimbeckError, match=message):
        plan(extractors={"c": {"weights": "x", **options}})


def test_an_unknown_extractor_of_the_metrics_is_named():
    with pytest.raises(LimbeckError, match=r"^run\.extractors: unknown name 'clp'; known: \['resnet18', 'teacher'\]$"):
        plan(run__extractors=["teacher", "clp"])


def test_the_stage_records_what_a_script_read(tmp_path):
    path = save_script(tmp_path / "m.pt", Pooled())
    pixels = write_images(tmp_path / "i.zarr.zip", [0] * 4 + [1] * 3)
    spec = {**script_spec(Path(path)), "code": "x"}
    features.run(spec, tmp_path / "i.zarr.zip", tmp_path / "f.zarr.zip")
    with Artifact(tmp_path / "f.zarr.zip", FEATURES) as found:
        assert found.shape("features") == (7, 6)
        assert found.attrs["inputs"]["weights"] == digest(path)
        assert found.attrs["params"]["size"] == 16
        assert "weights" not in found.attrs["params"]
        halves = np.stack([np.asarray(Image.fromarray(p[..., 0]).resize((16, 16), Image.Resampling.LANCZOS)) for p in pixels])
        np.testing.assert_allclose(found["features"][:, 0], halves.mean((1, 2)) / 255, rtol=1e-5)
