"""What is wrong with a prior's files is said in one line before any job, and sound priors of every layout pass."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DiTTransformer2DModel, StableDiffusionXLPipeline
from safetensors.torch import load_file

from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.priors.weights import complaint, damage, hub_folder, native_size
from limbeck.stages.prior import run as store_prior
from tests import tiny_priors
from tests.conftest import ROOT

DENOISER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_prior, tmp_path) -> Path:
    """A copy of the tiny DiT to damage."""
    shutil.copytree(tiny_prior, tmp_path / "dit")
    return tmp_path / "dit"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small text priors; not to be changed."""
    at = tmp_path_factory.mktemp("text")
    found = {"sd": tiny_priors.sd(at), "sdxl": tiny_priors.sdxl(at), "sd3": tiny_priors.sd3(at)}
    return found | {"sdxl_refiner": tiny_priors.refiner(at, found["sdxl"])}


def config(weights: Path | str, **prior: object) -> dict:
    made = yaml.safe_load((ROOT / "config.yaml").read_text())
    made["priors"]["given"] = {"weights": str(weights), "view": "v32", **prior}
    made["run"] |= {"prior": "given", "methods": ["dit"]}
    made["offline"] = False  # the environment says it in these tests
    return made


def refusal(*args: object, **prior: object) -> str:
    """The one line that planning ends with."""
    with pytest.raises(LimbeckError) as caught:
        Plan(config(*args, **prior))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, **keys: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_sound_priors_of_every_family_pass(tiny_prior, text):
    assert complaint(tiny_prior, "dit") is None
    assert {family: complaint(folder, family) for family, folder in text.items()} == dict.fromkeys(text)
    Plan(config(tiny_prior))
    assert native_size(tiny_prior, tiny_prior / "vae") == 32


def test_every_cut_of_a_file_of_weights_is_noticed(folder):
    path = folder / DENOISER
    whole = path.read_bytes()
    assert damage(path) is None
    header = int.from_bytes(whole[:8], "little")
    for length in (0, 5, 8, 100, 8 + header - 1, 8 + header, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "half-downloaded?" in damage(path), length
    path.write_bytes(whole + b"x")
    assert f"has {len(whole) + 1} of its {len(whole)} bytes" in damage(path)
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(folder).startswith(f"priors.given.weights: {path} has {len(whole) // 2} of its {len(whole)} bytes")


@pytest.mark.parametrize(
    ("remove", "named"),
    [
        ("model_index.json", "model_index.json"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
        ("transformer/config.json", "transformer/config.json"),
        (DENOISER, DENOISER),
        ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"),
    ],
)
def test_what_is_missing_is_named(folder, remove, named):
    (folder / remove).unlink()
    assert refusal(folder) == f"priors.given.weights: missing in {folder}: {named}"


def test_all_shards_must_be_there_and_whole(text, tmp_path):
    pipe = StableDiffusionXLPipeline.from_pretrained(text["sdxl"])
    pipe.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted((tmp_path / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    assert complaint(tmp_path, "sdxl") is None
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1])
    assert f"{shards[1]} has {len(content) - 1} of its {len(content)} bytes" in complaint(tmp_path, "sdxl")
    shards[1].unlink()
    assert complaint(tmp_path, "sdxl") == f"missing in {tmp_path}: unet/{shards[1].name}"
    next((tmp_path / "unet").glob("*.index.json")).write_text("{")
    assert "lists no weights" in complaint(tmp_path, "sdxl")


def test_torchs_own_files_will_do_and_are_looked_at_too(folder, tmp_path):
    """As facebook/DiT-XL-2-256 has them."""
    whole = load_file(folder / DENOISER)
    path = (folder / DENOISER).with_suffix(".bin")
    torch.save(whole, path)
    (folder / DENOISER).unlink()
    assert complaint(folder, "dit") is None
    spec = {"family": "dit", "weights": str(folder), "train": None, "load": {"dtype": "float32"}, "code": ""}
    store_prior(spec, [], tmp_path / "stored/model_index.json")
    stored = load_file(tmp_path / "stored" / DENOISER)
    assert set(stored) == set(whole)
    assert all(torch.equal(stored[name], whole[name]) for name in whole)
    path.write_bytes(path.read_bytes()[:-200])
    assert "half-downloaded?" in complaint(folder, "dit")


@pytest.mark.parametrize(
    ("given", "family", "said"),
    [
        ("sdxl", "sd", "unet is one of SDXL's; family is sd"),
        ("sd", "sdxl", "missing in"),
        ("sdxl", "sdxl_refiner", "is no refiner of SDXL"),
        ("sd", "dit", "missing in"),
        ("sdxl", "sd3", "missing in"),
    ],
)
def test_another_family_is_said(text, given, family, said):
    assert said in complaint(text[given], family)


def test_another_architecture_is_said(folder):
    rewrite(folder / "transformer/config.json", _class_name="PixArtTransformer2DModel")
    assert "transformer/config.json is of a PixArtTransformer2DModel, family dit has a DiTTransformer2DModel" in refusal(folder)
    rewrite(folder / "transformer/config.json", _class_name="Transformer2DModel")  # what DiT-XL/2 says of itself
    assert complaint(folder, "dit") is None
    rewrite(folder / "transformer/config.json", num_attention_heads=3)
    assert "its configuration is of 1 blocks of width 24, its weights are 1 of width 16" in refusal(folder)
    rewrite(folder / "transformer/config.json", num_attention_heads=2, num_layers=2)
    assert "of 2 blocks of width 16, its weights are 1 of width 16" in refusal(folder)
    rewrite(folder / "transformer/config.json", num_layers=1, in_channels=3)
    assert "takes latents of 3 channels, its vae has 4" in refusal(folder)
    (folder / "vae/config.json").write_text("{")
    assert "vae/config.json is no configuration" in refusal(folder)


def test_fewer_classes_than_the_dataset_has_are_said(folder):
    index = json.loads((folder / "model_index.json").read_text())
    rewrite(folder / "model_index.json", id2label={key: value for key, value in index["id2label"].items() if int(key) < 8})
    assert "prior given: knows 8 classes but not 'Bag' (2 of the dataset's 10 are unknown)" in refusal(folder)
    rewrite(folder / "model_index.json", id2label={**index["id2label"], "10": "hat"})
    assert "names class 10 in id2label, its transformer has 10" in refusal(folder)


def test_weights_of_fewer_classes_than_configured_are_said(folder):
    rewrite(folder / "transformer/config.json", num_embeds_ada_norm=1000)
    assert "its configuration has 1000 classes and the null class, its weights have 11" in refusal(folder)


def test_a_view_of_another_size_is_said(tiny_prior, text):
    made = config(tiny_prior)
    made["datasets"]["fashion-mini"]["views"]["v33"] = {"size": 33}
    made["priors"]["given"]["view"] = "v33"
    with pytest.raises(LimbeckError, match=r"priors.given.view: 'v33' is not of the 32 pixels"):
        Plan(made)
    made["priors"]["given"] |= {"weights": str(text["sd"]), "family": "sd"}
    with pytest.raises(LimbeckError, match=r"priors.given.view: 'v33' of 33 pixels is no multiple of the 2"):
        Plan(made)


# Hub names.


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub: Path, name: str, folder: Path) -> Path:
    """A model in the cache, as the hub's own client lays it out."""
    model = hub / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text("abc123")
    shutil.copytree(folder, model / "snapshots/abc123")
    return model / "snapshots/abc123"


def test_a_hub_name_that_cannot_be_fetched_is_refused(hub, monkeypatch, tmp_path):
    said = refusal("some/dit")
    assert (
        f"priors.given.weights: some/dit is no folder, nor in the hub's cache {hub}, and is not fetched offline: set offline: false"
        in said
    )
    stored = tmp_path / "results/priors/given/model_index.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    Plan({**config("some/dit"), "results": str(tmp_path / "results")})  # nothing is fetched any more
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Plan(config("some/dit"))
    with pytest.raises(LimbeckError, match="some/dit is no folder"):
        Plan({**config("some/dit"), "offline": True})


def test_what_the_hubs_cache_has_is_looked_at(hub, tiny_prior, monkeypatch):
    folder = cached(hub, "some/dit", tiny_prior)
    assert hub_folder("some/dit") == folder
    Plan(config("some/dit"))
    rewrite(folder / "model_index.json", id2label={"0": "Bag"})
    assert "knows 1 classes" in refusal("some/dit")
    (folder / DENOISER).unlink()
    assert f"missing in {folder}: {DENOISER}" in refusal("some/dit")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert "knows 1 classes" in refusal("some/dit")  # the file will be fetched, the classes will not change
    (folder / "model_index.json").unlink()
    Plan(config("some/dit"))


def test_the_shape_of_dit_xl_is_that_of_its_published_configuration(tmp_path):
    """28 blocks of width 1152 and 1000 classes, checked by its header alone: 2.7 GB of weights would be too many."""
    with torch.device("meta"):
        model = DiTTransformer2DModel(out_channels=8)
    header, at = {}, 0
    for name, value in model.state_dict().items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + 4 * value.numel()]}
        at += 4 * value.numel()
    (tmp_path / "transformer").mkdir()
    path = tmp_path / DENOISER
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)  # sparse
    assert damage(path) is None
    from limbeck.priors.weights import _misshapen

    (tmp_path / "transformer/config.json").write_text(json.dumps({"_class_name": "Transformer2DModel", "sample_size": 32}))
    (tmp_path / "model_index.json").write_text(json.dumps({"id2label": {str(i): str(i) for i in range(1000)}}))
    assert _misshapen(tmp_path, None) is None
    with open(path, "r+b") as file:
        file.truncate(8 + len(text) + at // 2)
    assert "half-downloaded?" in damage(path)
