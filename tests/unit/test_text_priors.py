"""Text-to-image priors against diffusers' own pipelines, and CoDA's alignment under every solver, on small models saved locally."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from limbeck.diffusion.hidden import block_of, hidden
from limbeck.diffusion.levels import levels
from limbeck.diffusion.sampling import sample
from limbeck.errors import LimbeckError
from limbeck.guidance.alignment import AlignmentGuidance
from limbeck.priors import schedulers
from limbeck.priors.files import FILES, MANIFEST
from limbeck.priors.prompts import prompts
from limbeck.priors.registry import load_prior
from limbeck.priors.weights import missing_files
from limbeck.records import read_json
from limbeck.selection.typicality import typicality
from limbeck.stages.prior import run as store_prior
from tests import tiny_priors
from tests.tiny_priors import BETAS

CLASSES = ["sneaker, gym shoe", "bag", "coat"]
FLOW = {"num_train_timesteps": 1000, "shift": 3.0}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small prior of every family."""
    folder = tmp_path_factory.mktemp("text-priors")
    found = {"sd": tiny_priors.sd(folder), "sdxl": tiny_priors.sdxl(folder), "sd3": tiny_priors.sd3(folder)}
    return found | {"sd3-no-t5": tiny_priors.sd3(folder, t5=False), "sdxl_refiner": tiny_priors.refiner(folder, found["sdxl"])}


# Prompts.


def test_a_prompt_is_the_first_synonym():
    assert prompts(["tench, Tinca tinca", "bag"]) == ["tench", "bag"]
    assert prompts(["tench, Tinca tinca"], "a photo of a {name}") == ["a photo of a tench"]


def test_classes_that_share_a_synonym_take_as_many_as_tell_them_apart():
    names = ["crane", "crane, tower", "maillot", "maillot, tank suit", "maillot, tank suit, one piece"]
    assert prompts(names) == ["crane", "crane, tower", "maillot", "maillot, tank suit", "maillot, tank suit, one piece"]
    with pytest.raises(LimbeckError, match="'a, b' and 'a, b' would have the same prompt"):
        prompts(["a, b", "c", "a, b"])


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(", ".join), min_size=1, max_size=8, unique=True))
@settings(max_examples=200, deadline=None)
def test_distinct_names_give_distinct_prompts_made_of_their_first_synonyms(names):
    found = prompts(names)
    assert len(set(found)) == len(names)
    assert all(name.startswith(text) for name, text in zip(names, found, strict=True))


# Sampling against diffusers' own pipelines.


def sampled(prior, solver: str, noise: torch.Tensor, steps: int = 6, scale: float = 5.0, guidance=()) -> torch.Tensor:
    labels = torch.tensor(prior.class_ids(CLASSES))[: len(noise)]
    made = prior.scheduler(solver, steps)
    return sample(prior.denoise, made, noise, labels, null=prior.null, cfg_scale=scale, guidance=guidance).latents


def noise_for(prior, n: int = 3) -> torch.Tensor:
    return torch.randn(n, *prior.latent_shape, generator=torch.Generator().manual_seed(5))


def reference(pipe, noise: torch.Tensor, steps: int = 6, scale: float = 5.0, **more) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    text = [name.split(",")[0] for name in CLASSES][: len(noise)]
    out = pipe(text, num_inference_steps=steps, guidance_scale=scale, output_type="latent", latents=noise, **more)
    return out.images


def karras(pipe):
    """Its scheduler as CoDA sets it."""
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    return pipe


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stable_diffusion_is_diffusers_pipeline(tmp_path, prediction):
    folder = tiny_priors.sd(tmp_path, prediction)
    prior = load_prior("sd", folder, 32)
    noise = noise_for(prior)
    pipe = karras(StableDiffusionPipeline.from_pretrained(folder, safety_checker=None))
    assert torch.allclose(sampled(prior, "dpm++", noise), reference(pipe, noise), atol=2e-4)


def test_sdxl_is_diffusers_pipeline(stored):
    prior = load_prior("sdxl", stored["sdxl"], 32)
    noise = noise_for(prior)
    pipe = karras(StableDiffusionXLPipeline.from_pretrained(stored["sdxl"]))
    found = sampled(prior, "dpm++", noise)
    assert torch.allclose(found, reference(pipe, noise, height=32, width=32), atol=2e-4)
    pixels = prior.decode(found, 3)
    with torch.no_grad():
        expected = pipe.image_processor.postprocess(pipe.vae.decode(found / pipe.vae.config.scaling_factor).sample, "np")
    assert np.abs(pixels / 255 - expected).max() < 1.01 / 255


def test_the_refiner_takes_over_where_diffusers_hands_over(stored):
    """Under DDIM, which has no memory: diffusers starts the refiner with a scheduler of its own."""
    prior = load_prior("sdxl", stored["sdxl"], 32, refiner=stored["sdxl_refiner"], refiner_start=0.6)
    noise = noise_for(prior, 1)
    base, refiner = (
        kind.from_pretrained(stored[name])
        for kind, name in ((StableDiffusionXLPipeline, "sdxl"), (StableDiffusionXLImg2ImgPipeline, "sdxl_refiner"))
    )
    for pipe in (base, refiner):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    half = reference(base, noise, 10, height=32, width=32, denoising_end=0.6)
    refiner.set_progress_bar_config(disable=True)
    # diffusers takes the size from the latents by its own factor, which a VAE of two blocks makes 32 as well
    whole = refiner(
        ["sneaker"], image=half, num_inference_steps=10, denoising_start=0.6, guidance_scale=5.0, output_type="latent"
    ).images
    found = sampled(prior, "ddim", noise, 10)
    assert torch.allclose(found, whole, atol=2e-4)
    alone = sampled(load_prior("sdxl", stored["sdxl"], 32), "ddim", noise, 10)
    assert not torch.allclose(found, alone, atol=1e-2)


@pytest.mark.parametrize("name", ["sd3", "sd3-no-t5"])
def test_sd3_is_diffusers_pipeline(stored, name):
    prior = load_prior("sd3", stored[name], 32)
    noise = noise_for(prior)
    without = {} if name == "sd3" else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(stored[name], **without)
    assert torch.allclose(sampled(prior, "flow", noise), reference(pipe, noise, height=32, width=32), atol=2e-4)


def test_classes_differ_and_one_image_does_not_depend_on_its_batch(stored):
    prior = load_prior("sdxl", stored["sdxl"], 32)
    noise = noise_for(prior, 1).expand(3, -1, -1, -1)
    found = sampled(prior, "dpm++", noise)
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert torch.allclose(sampled(prior, "dpm++", noise[:1]), found[:1], atol=2e-4)


def test_gray_images_go_through_a_vae_of_three_channels(stored):
    prior = load_prior("sd3", stored["sd3"], 64)
    gray = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)
    latents = prior.encode(gray)
    assert latents.shape == (2, *prior.latent_shape) == (2, 16, 32, 32)
    assert torch.allclose(latents, prior.encode(np.repeat(gray, 3, axis=-1)), atol=1e-5)
    assert prior.decode(latents, 1).shape == (2, 64, 64, 1)
    config = prior.vae.config
    raw = prior.vae.encode(torch.from_numpy(gray).permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 127.5 - 1).latent_dist.mean
    assert torch.allclose(latents, (raw - config.shift_factor) * config.scaling_factor, atol=1e-5)


# Levels and alignment under every solver.

SOLVERS = [("ddim", "epsilon"), ("ddim", "v_prediction"), ("dpm++", "epsilon"), ("dpm++", "v_prediction"), ("flow", "velocity")]


def scheduler(solver: str, prediction: str, steps: int):
    return schedulers.build(FLOW if solver == "flow" else {**BETAS, "prediction_type": prediction}, solver, steps)


@pytest.mark.parametrize(("solver", "prediction"), SOLVERS)
@given(steps=st.integers(2, 60), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=25, deadline=None)
def test_levels_are_the_schedulers_own(solver, prediction, steps, seed, data):
    """From a clean latent and a noise: x_t and the output they imply give the latent back, as the scheduler's own step does."""
    made = scheduler(solver, prediction, steps)
    index = data.draw(st.integers(0, steps - 1))
    level = levels(made)[index]
    z0, eps = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = level.alpha * z0 + level.sigma * eps
    output = {"epsilon": eps, "v_prediction": level.alpha * eps - level.sigma * z0, "velocity": eps - z0}[prediction]
    assert torch.allclose(level.from_x * x + level.from_output * output, z0, atol=1e-6)
    assert abs(level.alpha**2 + level.sigma**2 - 1) < 1e-9 or solver == "flow"
    if solver == "ddim":
        own = made.step(output, made.timesteps[index], x).pred_original_sample
    else:
        made._step_index = index
        own = made.convert_model_output(output, sample=x) if solver == "dpm++" else x - made.sigmas[index].double() * output
    assert torch.allclose(own.double(), z0, atol=2e-4)


def test_karras_steps_start_at_the_first_sigma_though_timesteps_repeat():
    made = scheduler("dpm++", "epsilon", 200)
    assert len(set(made.timesteps.tolist())) < 200
    made.step(torch.zeros(1, 4, 4, 4), made.timesteps[0], torch.ones(1, 4, 4, 4))
    assert made.step_index == 1


class Recorder:
    """A stand-in for a network that records what it is asked, and on request what its branches answered."""

    def __init__(self):
        self.inputs: list[torch.Tensor] = []

    def __call__(self, x, t, labels):
        self.inputs.append(x)
        return torch.tanh(x * 0.7 + 0.1 * labels.view(-1, 1, 1, 1) + float(t) / 1000), None


def aligned(solver: str, prediction: str, gamma: float, pis: int, steps: int = 8, scale: float = 3.0, **more):
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    guide = AlignmentGuidance(torch.full((2, 4, 4, 4), 0.4), gamma, pis, **more)
    network = Recorder()
    found = sample(
        network, scheduler(solver, prediction, steps), noise, torch.tensor([1, 2]), null=0, cfg_scale=scale, guidance=[guide]
    )
    return found.latents, network.inputs


@pytest.mark.parametrize(("solver", "prediction"), SOLVERS)
def test_without_strength_or_steps_alignment_is_unguided_bit_for_bit(solver, prediction):
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    plain = sample(Recorder(), scheduler(solver, prediction, 8), noise, torch.tensor([1, 2]), null=0, cfg_scale=3.0).latents
    assert torch.equal(aligned(solver, prediction, 0.0, 2)[0], plain)
    assert torch.equal(aligned(solver, prediction, 0.7, 8)[0], plain)
    assert not torch.equal(aligned(solver, prediction, 0.7, 2)[0], plain)


@pytest.mark.parametrize(("solver", "prediction"), SOLVERS)
@given(gamma=st.floats(0.01, 1.0), index=st.integers(0, 7), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_corrected_output_is_equation_6s_interpolation(solver, prediction, gamma, index, seed):
    """x0_new = (1 - gamma) x0 + gamma s, from the corrected output; flow matching: v += -(gamma / sigma) (s - x0)."""
    level = levels(scheduler(solver, prediction, 8))[index]
    x, output, s = torch.randn(3, 1, 4, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x0 = level.from_x * x + level.from_output * output
    corrected = output + gamma * (s - x0) / level.from_output
    wanted = (1 - gamma) * x0 + gamma * s
    assert torch.allclose(level.from_x * x + level.from_output * corrected, wanted, atol=1e-6, rtol=1e-6)
    if solver == "flow":
        assert torch.allclose(corrected, output - gamma / level.sigma * (s - x0), atol=1e-9)
    elif prediction == "epsilon":
        ratio = level.alpha / level.sigma  # Eq. 7
        assert torch.allclose(corrected, output + gamma * (s - x0) * -ratio, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("solver", "prediction"), SOLVERS)
def test_the_null_branch_is_untouched(solver, prediction):
    """One step written out with guidance on the conditional branch alone; the loop's next input must be the scheduler's."""
    _, inputs = aligned(solver, prediction, 0.5, 0)
    made = scheduler(solver, prediction, 8)
    x, level = inputs[0][:2], levels(made)[0]
    cond, null = Recorder()(inputs[0], made.timesteps[0].item(), torch.tensor([1, 2, 0, 0]))[0].chunk(2)
    x0 = level.from_x * x + level.from_output * cond
    cond = cond + 0.5 * (0.4 - x0) / level.from_output
    following = made.step(null + 3.0 * (cond - null), made.timesteps[0], x).prev_sample
    assert torch.allclose(inputs[1][:2], following, atol=1e-5)


def test_full_strength_to_the_end_lands_on_the_target_under_every_solver():
    for solver, prediction in SOLVERS:
        found = aligned(solver, prediction, 1.0, 0, scale=1.0)[0]
        assert torch.allclose(found, torch.full_like(found, 0.4), atol=1e-3), solver


def test_the_released_strength_follows_the_solvers_sigma():
    made = scheduler("dpm++", "epsilon", 8)
    sigmas = [level.solver_sigma for level in levels(made)]
    assert sigmas == pytest.approx(made.sigmas.tolist(), rel=1e-5)
    assert sigmas[0] == pytest.approx(14.6, abs=0.1)
    assert levels(scheduler("flow", "velocity", 8))[0].solver_sigma == 1.0


# What is stored, and what is missing.


def store(family: str, weights: Path | str, out: Path, dtype: str = "float32", **load) -> Path:
    spec = {"family": family, "weights": str(weights), "train": None, "load": {"dtype": dtype, **load}, "code": "x"}
    store_prior(spec, [], out / "model_index.json")
    return out


def test_a_folder_in_the_stored_layout_is_copied_as_it_is(stored, tmp_path):
    for family in ("sd", "sdxl", "sdxl_refiner", "sd3"):
        out = store(family, stored[family], tmp_path / family)
        hashes = read_json(out / MANIFEST, "prior")["sha256"]
        assert set(FILES[family]) < set(hashes)
        assert ("text_encoder_3/model.safetensors" in hashes) == (family == "sd3")
        for name in hashes:
            if name != "training.json":
                assert (out / name).read_bytes() == (stored[family] / name).read_bytes()


def test_variants_and_shards_are_brought_into_the_stored_layout(stored, tmp_path):
    pipe = StableDiffusionXLPipeline.from_pretrained(stored["sdxl"], dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "fp16", variant="fp16", max_shard_size="20KB")
    assert not (tmp_path / "fp16/unet/diffusion_pytorch_model.safetensors").exists()
    assert missing_files(tmp_path / "fp16", "sdxl", "fp16") == []
    assert missing_files(tmp_path / "fp16", "sdxl")[0] == "unet/diffusion_pytorch_model.safetensors"
    out = store("sdxl", tmp_path / "fp16", tmp_path / "out", variant="fp16", dtype="float16")
    assert all((out / name).is_file() for name in FILES["sdxl"])
    for name in ("unet/diffusion_pytorch_model.safetensors", "text_encoder_2/model.safetensors"):
        assert {str(tensor.dtype) for tensor in load_file(out / name).values()} <= {"torch.float16", "torch.int64"}
    a, b = (load_prior("sdxl", folder, 32) for folder in (stored["sdxl"], out))
    noise = noise_for(a, 1)
    assert torch.allclose(sampled(a, "dpm++", noise, 3), sampled(b, "dpm++", noise, 3), atol=0.05)


def test_sd3_may_be_stored_without_t5(stored, tmp_path):
    out = store("sd3", stored["sd3"], tmp_path / "out", t5=False)
    assert not (out / "text_encoder_3").exists()
    prior, whole = load_prior("sd3", out, 32), load_prior("sd3", stored["sd3"], 32)
    hidden = prior.embed("bag")["hidden"]
    assert torch.equal(hidden[77:], torch.zeros_like(hidden[77:]))
    assert torch.allclose(hidden[:77], whole.embed("bag")["hidden"][:77], atol=1e-6)


def test_missing_files_of_a_folder_are_listed(stored, tmp_path):
    folder = tmp_path / "sdxl"
    shutil.copytree(stored["sdxl"], folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(folder / "tokenizer_2")
    assert missing_files(folder, "sdxl") == ["unet/diffusion_pytorch_model.safetensors", "tokenizer_2/tokenizer_config.json"]
    with pytest.raises(LimbeckError, match=r"in that folder: missing .*tokenizer_2") as caught:
        store("sdxl", folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert missing_files(tmp_path / "nothing", "sd")[:2] == ["model_index.json", "scheduler/scheduler_config.json"]


def test_a_hub_name_offline_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        LimbeckError, match=r"offline \(the config's key, or HF_HUB_OFFLINE\).*models--stabilityai--sdxl: no model_index"
    ) as caught:
        store("sdxl", "stabilityai/sdxl", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_another_family_is_refused(stored, tmp_path):
    with pytest.raises(LimbeckError, match="not a refiner of SDXL"):
        load_prior("sdxl", stored["sdxl"], 32, refiner=stored["sdxl"])
    with pytest.raises(LimbeckError, match="not a StableDiffusion3 in diffusers' layout"):
        store("sd3", stored["sdxl"], tmp_path / "out")
    with pytest.raises(LimbeckError, match="no multiple of its VAE's 2"):
        load_prior("sdxl", stored["sdxl"], 31)


def test_a_stored_index_names_no_place(stored):
    """What is stored must not depend on where it came from."""
    index = json.loads((stored["sdxl"] / "model_index.json").read_text())
    assert "_name_or_path" not in index


# Patch selection.


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_typicality_and_diffusion_features_of_a_prompted_prior(stored, family):
    """Image by image, each at a timestep of its own, as in one batch."""
    prior, rng = load_prior(family, stored[family], 32), np.random.default_rng()
    labels, n = torch.tensor(prior.class_ids(CLASSES))[:3], 3
    z, eps = (torch.from_numpy(rng.normal(size=(2, n, *prior.latent_shape))[i]).float() for i in range(2))
    t, maps = torch.from_numpy(rng.integers(100, 700, (n, 1))), []
    found = typicality(prior.denoise, prior.schedule, z, labels, prior.null, t, lambda _: eps)
    block = block_of(prior, None)
    features = hidden(prior, z, t[:, 0], labels, block)
    for i in range(n):
        step = t[i]
        # flow matching: x = (1 - s) z + s eps, v = eps - z; else x = sqrt(abar) z + sqrt(1 - abar) eps
        if family == "sd3":
            alpha = 1 - step / 1000
            sigma = step / 1000
        else:
            abar = prior.scheduler("ddim", 1).alphas_cumprod[step]
            alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
        x = alpha.view(1, 1, 1, 1) * z[i : i + 1] + sigma.view(1, 1, 1, 1) * eps[i : i + 1]
        errors = []
        for label in (prior.null, int(labels[i])):
            with torch.inference_mode():
                out = prior.denoise(x, step, torch.tensor([label]))[0]
            noise = x + alpha.view(1, 1, 1, 1) * out if family == "sd3" else out
            errors.append(((noise - eps[i]) ** 2).sum(dim=1)[0])
        maps.append(errors[0] - errors[1])
        alone = hidden(prior, z[i : i + 1], step, labels[i : i + 1], block)
        torch.testing.assert_close(features[i : i + 1], alone, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found, torch.stack(maps), rtol=1e-3, atol=1e-4)
    assert found.abs().max() > 1e-6
    assert features.ndim == 2
