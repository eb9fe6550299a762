import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from limbeck.config import DitTraining, VaeTraining
from limbeck.data.paths import package_path
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.errors import LimbeckError
from limbeck.priors.dit import DitPrior
from limbeck.priors.files import FILES, class_table, match_classes
from limbeck.priors.training import Diverged, build_dit, cosine_rate, drop_labels, min_snr_weight, train_dit, train_vae
from limbeck.stages import prior as prior_stage

PACKAGED = package_path("package:fashion-dit")


def silent(*_: object) -> None:
    """No progress."""


def test_the_packaged_prior_is_small_and_complete():
    assert all((PACKAGED / name).is_file() for name in FILES["dit"])
    assert sum(p.stat().st_size for p in PACKAGED.rglob("*") if p.is_file()) <= 12e6
    prior = DitPrior(PACKAGED)
    assert prior.latent_shape == (4, 8, 8)
    assert prior.class_ids(FASHION_CLASSES) == list(range(10))


def test_the_packaged_vae_reconstructs_test_images():
    prior = DitPrior(PACKAGED)
    with np.load(package_path("package:fashion_mini.npz")) as file:
        images = np.pad(file["test_images"][::40], ((0, 0), (2, 2), (2, 2)))[..., None]
    latents = prior.encode(images)
    assert 0.7 < latents.std() < 1.3
    error = ((prior.decode(latents, 1).astype(float) - images) / 127.5) ** 2
    assert error.mean() < 0.01


def test_the_packaged_dit_generates_the_class_it_is_asked_for():
    """Samples are nearer to their own class's mean image than to most others': untrained weights fail this."""
    from limbeck.diffusion.sampling import sample

    prior = DitPrior(PACKAGED)
    with np.load(package_path("package:fashion_mini.npz")) as file:
        images, labels = np.pad(file["train_images"], ((0, 0), (2, 2), (2, 2))), file["train_labels"]
    means = np.stack([images[labels == c].mean(0) for c in range(10)]).reshape(10, -1)
    wanted = torch.arange(10).repeat_interleave(3)
    noise = torch.randn(30, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    found = sample(prior.denoise, prior.scheduler("ddim", 20), noise, wanted, null=prior.null, cfg_scale=1.5)
    pixels = prior.decode(found.latents, 1).reshape(30, -1).astype(float)
    guess = ((pixels[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == wanted.numpy()).mean() > 0.5


def test_rgb_and_grayscale_are_brought_together(tiny_prior):
    prior = DitPrior(tiny_prior)
    with pytest.raises(LimbeckError, match="takes 1 channels, the images have 3"):
        prior.encode(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(LimbeckError, match="choose a view of another size"):
        DitPrior(tiny_prior, 64)


@pytest.mark.parametrize("damage", ["missing weights", "cut weights", "no folder", "another architecture"])
def test_a_prior_that_cannot_be_used_is_one_line(tiny_prior, tmp_path, damage, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "p"
    shutil.copytree(tiny_prior, folder)
    weights = folder / "transformer/diffusion_pytorch_model.safetensors"
    if damage == "missing weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no folder":
        shutil.rmtree(folder)
    else:
        config = json.loads((folder / "transformer/config.json").read_text())
        (folder / "transformer/config.json").write_text(json.dumps({**config, "num_attention_heads": 3}))
    with pytest.raises(LimbeckError, match="not a DiT in diffusers' layout") as caught:
        DitPrior.load(str(folder))
    assert "\n" not in str(caught.value)


def test_class_names_and_their_synonyms_find_their_label(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"id2label": {"0": "tench, Tinca tinca", "1": "goldfish"}}))
    table = class_table(tmp_path)
    assert match_classes(table, ["goldfish", "tench", "tench, Tinca tinca"], "p") == [1, 0, 0]
    with pytest.raises(LimbeckError, match="knows 2 classes but not 'shark'"):
        match_classes(table, ["goldfish", "shark"], "p")


def test_rates_weights_and_dropped_labels():
    assert [cosine_rate(s, 100, 2.0, 10) for s in (0, 9, 10, 55)] == pytest.approx([0.2, 2.0, 2.0, 1.0])
    abar = torch.tensor([0.99, 0.5, 0.01])
    assert torch.allclose(min_snr_weight(abar, 5.0), torch.tensor([5 / 99, 1.0, 1.0]))
    labels = torch.arange(10).repeat(400)
    dropped = drop_labels(labels, 10, 0.1, torch.Generator().manual_seed(0))
    assert 0.08 < (dropped == 10).float().mean() < 0.12
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])


def test_a_fresh_dit_predicts_zero_and_carries_the_null_class():
    model = build_dit(4, 8, 10, DitTraining(layers=2, heads=2, head_dim=8)).eval()
    out = model(torch.randn(2, 4, 8, 8), timestep=torch.tensor([5, 900]), class_labels=torch.tensor([3, 10])).sample
    assert torch.equal(out, torch.zeros_like(out))


def test_training_learns_and_is_reproducible():
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(128, 8, (64, 1, 1, 1)) + np.linspace(-90, 90, 16)[:, None, None], 0, 255).astype(np.uint8)
    images = np.broadcast_to(images, (64, 16, 16, 1)).copy()
    cfg = VaeTraining(steps=60, batch_size=16, lr=3e-3, warmup=5, block_out_channels=(8, 8))
    vae, history = train_vae(images, cfg, silent)
    assert history[-1]["loss"] < 0.4 * history[0]["loss"]
    again, _ = train_vae(images, cfg, silent)
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), again.parameters(), strict=True))
    latents = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    dit_cfg = DitTraining(steps=80, batch_size=16, lr=3e-3, warmup=5, layers=1, heads=2, head_dim=16, ema=0.9)
    scheduler = DDPMScheduler()
    _, losses = train_dit(latents, torch.arange(64) % 2, 2, dit_cfg, scheduler, silent)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]


def test_a_diverging_loss_names_step_and_rate():
    images = np.zeros((8, 16, 16, 1), np.uint8)
    with pytest.raises(Diverged, match=r"at step \d+ of \d+ \(learning rate"):
        train_vae(images, VaeTraining(steps=50, batch_size=8, lr=1e30, warmup=0, block_out_channels=(8, 8)), silent)


def test_leftovers_of_a_killed_job_go_but_not_those_of_a_prior_of_a_longer_name(tmp_path, tiny_prior):
    index = tmp_path / "a/model_index.json"
    ours, theirs = tmp_path / ".a.x_1abcde.part", tmp_path / ".a.b.x_1abcde.part"
    for folder in (ours, theirs):
        (folder / "vae").mkdir(parents=True)
    copied = {"family": "dit", "weights": str(tiny_prior), "train": None, "load": {"dtype": "float32"}, "code": ""}
    (tmp_path / "a").mkdir()
    for name in ("delta.safetensors", "loss.png"):
        (tmp_path / "a" / name).write_text("of a tuned prior that stood here")
    prior_stage.run(copied, [], index)
    assert sorted(path.name for path in tmp_path.iterdir()) == [theirs.name, "a"]
    assert not {"delta.safetensors", "loss.png"} & {path.name for path in index.parent.iterdir()}
