"""How a prior computes: learned variances and guided channels against DiT's own equations, precision, kernels, other VAEs."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDPMScheduler, DiTPipeline
from safetensors.torch import load_file

from limbeck.diffusion.sampling import sample
from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.priors.base import load_vae
from limbeck.priors.dit import DitPrior
from limbeck.priors.registry import load_prior
from limbeck.records import read_json
from limbeck.stages.prior import run as store_prior
from tests import tiny_priors
from tests.conftest import ROOT

VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DiT with a learned variance, of 1000 classes as DiT-XL/2's pipeline assumes; not to be changed."""
    return tiny_priors.numbered_dit(tmp_path_factory.mktemp("dit"))


@pytest.fixture(scope="module")
def prior(folder) -> DitPrior:
    return DitPrior(folder)


def noise_for(prior, n: int = 3) -> torch.Tensor:
    return torch.randn(n, *prior.latent_shape, generator=torch.Generator().manual_seed(1))


def sampled(prior, solver: str = "ddim", steps: int = 6, n: int = 3, **options) -> torch.Tensor:
    generators = lambda step: [torch.Generator().manual_seed(100 * step + i) for i in range(n)]  # noqa: E731
    labels, options = torch.arange(n), {"cfg_scale": 4.0, **options}
    made = prior.scheduler(solver, steps)
    return sample(prior.denoise, made, noise_for(prior, n), labels, null=prior.null, generators=generators, **options).latents


# Learned variance, and the channels that are guided.


def test_all_channels_guided_is_diffusers_pipeline(folder, prior):
    """Which guides all of them and drops the learned variance."""
    pipe = DiTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    images = pipe([0, 1, 2], guidance_scale=4.0, num_inference_steps=6, generator=generator, output_type="np").images
    assert np.abs(prior.decode(sampled(prior), 1).astype(float) - images.reshape(3, 32, 32, 1) * 255).max() <= 1


def forward_with_cfg(model, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
    """DiT's own (Peebles & Xie 2023, released ``models.py``): ``x`` and ``y`` are doubled, three channels are guided."""
    half = x[: len(x) // 2]
    out = model(torch.cat([half, half]), timestep=t, class_labels=y).sample
    eps, rest = out[:, :3], out[:, 3:]
    cond, uncond = eps.chunk(2)
    guided = uncond + scale * (cond - uncond)
    return torch.cat([torch.cat([guided, guided]), rest], dim=1)


def beta_and_posterior(t: int, before: int) -> tuple[float, float, float, float]:
    """Of a step of a respaced schedule, from the linear betas: beta, the posterior's variance, abar now and before."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    now, last = abar[t], abar[before] if before >= 0 else 1.0
    beta = 1 - now / last
    return beta, beta * (1 - last) / (1 - now), now, last


@torch.inference_mode()
def released(prior, steps: int, scale: float, guided: int) -> torch.Tensor:
    """Ancestral sampling as DiT's repository does it, with the variance of Improved DDPM (Nichol & Dhariwal 2021, Eq. 15)."""
    n = 3
    x, y = noise_for(prior, n), torch.cat([torch.arange(n), torch.full((n,), prior.null)])
    times = [int(t) for t in DDPMScheduler(num_train_timesteps=1000).timesteps[:: 1000 // steps]]
    times = [t - times[-1] for t in times]  # leading, as diffusers: … 332, 166, 0
    for index, t in enumerate(times):
        before = times[index + 1] if index + 1 < steps else -1
        beta, posterior, now, last = beta_and_posterior(t, before)
        both = torch.full((2 * n,), t)
        if guided == 3:
            out = forward_with_cfg(prior.transformer, torch.cat([x, x]), both, y, scale)[:n]
        else:
            cond, uncond = prior.transformer(torch.cat([x, x]), timestep=both, class_labels=y).sample.chunk(2)
            out = torch.cat([uncond[:, :4] + scale * (cond[:, :4] - uncond[:, :4]), cond[:, 4:]], dim=1)
        eps, raw = out.double().chunk(2, dim=1)
        x0 = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
        mean = math.sqrt(last) * beta / (1 - now) * x0 + math.sqrt(1 - beta) * (1 - last) / (1 - now) * x
        share = (raw + 1) / 2
        deviation = torch.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(max(posterior, 1e-20))))
        fresh = torch.stack([torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(100 * index + i)) for i in range(n)])
        x = (mean + (deviation * fresh if t else 0.0)).float()
    return x


@pytest.mark.parametrize("guided", [3, 4])
@pytest.mark.parametrize("steps", [2, 5])
def test_learned_variances_are_improved_ddpms_under_either_guidance(prior, guided, steps):
    expected = released(prior, steps, 4.0, guided)
    torch.testing.assert_close(sampled(prior, "ddpm", steps, cfg_channels=guided), expected, rtol=2e-3, atol=2e-3)
    if guided == 4:
        assert torch.equal(sampled(prior, "ddpm", steps, cfg_channels=4), sampled(prior, "ddpm", steps, cfg_channels="all"))
    other = sampled(prior, "ddpm", steps, cfg_channels=7 - guided)
    assert (other - expected).abs().max() > 0.05


def test_the_variance_is_read_and_counts(prior, monkeypatch):
    """Ancestral sampling with the variance left out is another."""
    whole = prior.forward
    learned = sampled(prior, "ddpm")
    monkeypatch.setattr(prior, "forward", lambda *given: (whole(*given)[0], -torch.ones_like(whole(*given)[1])))
    assert (sampled(prior, "ddpm") - learned).abs().max() > 1e-2
    _, variance = prior.ask(noise_for(prior), 500.0, torch.arange(3))
    assert torch.equal(variance, -torch.ones_like(variance))


def config(weights: Path, run: dict | None = None, **given: object) -> dict:
    made = yaml.safe_load((ROOT / "config.yaml").read_text())
    made["priors"]["given"] = {"weights": str(weights), "view": "v32", **given}
    made["run"] |= {"prior": "given", "methods": ["dit"], **(run or {})}
    return made


def test_a_prior_and_a_method_may_say_how_many_channels_are_guided(tiny_prior):
    def found(option: dict, **given: object) -> object:
        made = config(tiny_prior, **given)
        made["methods"]["dit"] = {"base": "dit", **option}
        return Plan(made).method("dit", 10, "fashion-mini").sampler["cfg_channels"]

    assert found({}) == "all"
    assert found({}, cfg_channels=3) == 3
    assert found({"cfg_channels": "all"}, cfg_channels=3) == "all"
    assert found({"cfg_channels": 3}) == 3
    with pytest.raises(LimbeckError, match=r"priors\.given\.cfg_channels"):
        found({}, cfg_channels=0)
    with pytest.raises(LimbeckError, match=r"methods\.dit\.cfg_channels"):
        found({"cfg_channels": 0})


# Precision.


@pytest.mark.parametrize(("compute", "loose"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_is_that_of_the_networks_alone(folder, prior, compute, loose):
    half = DitPrior(folder, compute=compute)
    assert {p.dtype for p in half.transformer.parameters()} == {getattr(torch, compute)}
    noise, labels = noise_for(prior), torch.arange(3)
    outputs = [p.denoise(noise, 500.0, labels) for p in (half, prior)]
    for ours, exact in zip(*outputs, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).norm() < loose * exact.norm()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    ours, exact = half.encode(images), prior.encode(images)
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() < loose * exact.norm()
    assert (sampled(half) - sampled(prior)).norm() < 10 * loose * sampled(prior).norm()
    assert half.decode(noise, 1).dtype == np.uint8


def test_a_vae_that_overflows_in_halves_stays_in_float32(folder, tmp_path):
    """``force_upcast``, SDXL's; bfloat16 has float32's range."""
    shutil.copytree(folder, tmp_path / "p")
    for upcast, compute, expected in (
        (True, "float16", torch.float32),
        (False, "float16", torch.float16),
        (True, "bfloat16", torch.bfloat16),
        (True, "float32", torch.float32),
    ):
        path = tmp_path / "p/vae/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "force_upcast": upcast}))
        assert DitPrior(tmp_path / "p", compute=compute).vae.dtype == expected
        assert load_vae(tmp_path / "p", 32, compute).vae.dtype == expected


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_text_priors_compute_in_bfloat16(family, tmp_path):
    at = getattr(tiny_priors, family)(tmp_path)
    refiner = {"refiner": tiny_priors.refiner(tmp_path, at)} if family == "sdxl" else {}
    half, exact = (load_prior(family, at, 32, **refiner, **how) for how in ({"compute": "bfloat16"}, {}))
    solver = "flow" if family == "sd3" else "dpm++"
    for each in (half, exact):
        each.class_ids(["bag", "coat", "shoe"])
    found = [sampled(each, solver) for each in (half, exact)]
    assert found[0].dtype == torch.float32
    assert 0 < (found[0] - found[1]).norm() < 0.1 * found[1].norm()
    name = "transformer" if family == "sd3" else "unet"
    assert next(getattr(half.pipe, name).parameters()).dtype == torch.bfloat16


# Attention kernels and compilation.


def test_attention_kernels_agree_and_missing_ones_are_said(folder, prior):
    for name in ("math", "flash"):
        torch.testing.assert_close(sampled(DitPrior(folder, attention=name)), sampled(prior), rtol=1e-3, atol=1e-3)
    if not torch.cuda.is_available():
        with pytest.raises(LimbeckError, match=r"no attention kernel 'cudnn' for float32; set priors.\*.attention to auto"):
            sampled(DitPrior(folder, attention="cudnn"))


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_denoiser_computes_the_same(folder, prior, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = DitPrior(folder, compile=True)
    torch.testing.assert_close(sampled(compiled, n=2), sampled(prior, n=2), rtol=1e-3, atol=1e-3)
    assert any(tmp_path.rglob("*.so"))


# What reruns.


def specs(plan: Plan) -> dict[str, dict]:
    w = {"dataset": "fashion-mini", "prior": "given", "vae": "given", "view": "v32", "ipc": 10, "seed": 0, "shard": 0}
    method = plan.method("d3hr", 10, "fashion-mini")
    patches = plan.method("patches", 10, "fashion-mini")
    from limbeck.methods import embedding_name, embedding_options, scoring_name

    named = {
        "prior": {},
        "encode": {},
        "sample": {"method": "dit"},
        "invert": {"inversion": method.inversion_name},
        "score": {"scoring": scoring_name(patches.discovery)},
        "patch_features": {"embedding": embedding_name(embedding_options(patches.discovery))},
    }
    found = {stage: json.loads(plan.spec(stage, {**w, **more})) for stage, more in named.items()}
    return {stage: {k: v for k, v in spec.items() if k != "code"} for stage, spec in found.items()}


def test_how_a_prior_computes_is_a_parameter_of_what_it_makes(tiny_prior):
    run = {"methods": ["dit", "d3hr", "patches"]}
    plain = specs(Plan(config(tiny_prior, run)))
    assert not any(key in json.dumps(plain) for key in ("compute", "attention", "compile", '"vae": "'))
    for key, value, stages in (
        ("compute", "bfloat16", {"encode", "sample", "invert", "score", "patch_features"}),
        ("attention", "math", {"sample", "invert", "score", "patch_features"}),
        ("compile", True, {"sample", "invert", "score"}),
    ):
        changed = specs(Plan(config(tiny_prior, run, **{key: value})))
        assert {stage for stage in plain if changed[stage] != plain[stage]} == stages
        assert all(changed[stage].get("prior", changed[stage])[key] == value for stage in stages)


def test_a_tuned_prior_computes_as_its_base_does(tiny_prior):
    made = config(tiny_prior, {"prior": "tuned"}, compute="bfloat16", cfg_channels=3)
    made["priors"]["tuned"] = {"base": "given", "finetune": {"dataset": "fashion-mini"}}
    plan = Plan(made)
    w = {"dataset": "fashion-mini", "prior": "tuned", "ipc": 10, "seed": 0, "shard": 0, "method": "dit"}
    assert json.loads(plan.spec("sample", w))["prior"]["compute"] == "bfloat16"
    assert "compute" not in plan.spec("finetune", w)
    made["priors"]["tuned"] |= {"compute": "float32"}
    assert "compute" not in Plan(made).spec("sample", w)


# Another VAE.


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VAEs as sd-vae-ft-mse's repository has them, one of other weights and scale, one of eight channels; a whole prior."""
    at = tmp_path_factory.mktemp("vaes")
    with torch.random.fork_rng():
        torch.manual_seed(9)
        tiny_priors.vae(4, in_channels=1, out_channels=1, scaling_factor=0.3).save_pretrained(at / "mse")
        tiny_priors.vae(8, in_channels=1, out_channels=1).save_pretrained(at / "wide")
    tiny_priors.numbered_dit(at / "whole", learned=False, classes=10, seed=8)
    return at


def store(weights: Path, vae: Path | str, out: Path) -> Path:
    spec = {"family": "dit", "weights": str(weights), "vae": str(vae), "train": None, "load": {"dtype": "float32"}, "code": "x"}
    store_prior(spec, [], out / "model_index.json")
    return out


@pytest.mark.parametrize("name", ["mse", "whole"])
def test_another_vae_goes_into_the_stored_prior(folder, others, tmp_path, name):
    out = store(folder, others / name, tmp_path / "out")
    wanted = load_file(others / ("mse/diffusion_pytorch_model.safetensors" if name == "mse" else f"whole/{VAE}"))
    found = load_file(out / VAE)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    for part in ("transformer/diffusion_pytorch_model.safetensors", "model_index.json"):
        assert (out / part).read_bytes() == (folder / part).read_bytes()
    assert "_name_or_path" not in json.loads((out / "vae/config.json").read_text())
    assert read_json(out / "prior.json", "prior")["sha256"].keys() >= {VAE}
    prior = DitPrior(out)
    assert prior.vae.config.scaling_factor == (0.3 if name == "mse" else 0.5)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    reference = AutoencoderKL.from_pretrained(others / name, **({"subfolder": "vae"} if name == "whole" else {}))
    with torch.inference_mode():
        mean = reference.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(prior.encode(images), mean * reference.config.scaling_factor)


def test_a_vae_of_other_latents_is_refused_before_any_job_and_by_it(folder, others, tmp_path):
    with pytest.raises(LimbeckError, match=r"priors.\*.vae: .*wide has latents of 8 channels, the prior takes 4"):
        store(folder, others / "wide", tmp_path / "out")
    with pytest.raises(LimbeckError, match=r"priors.\*.vae: no VAE in diffusers' layout"):
        store(folder, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_plan_looks_at_the_other_vae(tiny_prior, others, tmp_path, monkeypatch):
    def said(vae: object, **given: object) -> str:
        with pytest.raises(LimbeckError) as caught:
            Plan(config(tiny_prior, vae=str(vae), **given))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "priors.given.vae: " in said(others / "wide")
    assert "has latents of 8 channels, the denoiser in" in said(others / "wide")
    assert f"missing in {tmp_path}: config.json" in said(tmp_path)
    # a VAE of half the side: the DiT of 8 x 8 latents then takes images of 16
    assert "'v32' is not of the 16 pixels" in said(others / "mse")
    damaged = tmp_path / "cut"
    shutil.copytree(others / "mse", damaged)
    path = damaged / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "half-downloaded?" in said(damaged)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "priors.given.vae: stabilityai/sd-vae-ft-mse is no folder, nor in the hub's cache" in said("stabilityai/sd-vae-ft-mse")
    made = config(tiny_prior, vae=str(tiny_prior))
    plan = Plan(made)
    assert f"{tiny_prior}/{VAE}" in plan.prior_files("given")
    assert json.loads(plan.spec("prior", {"prior": "given"}))["vae"] == str(tiny_prior)
    made["priors"]["given"] |= {"weights": None, "train": {"dataset": "fashion-mini"}}
    with pytest.raises(LimbeckError, match="'vae' belongs to given 'weights'"):
        Plan(made)


# What is stored names no place.


def test_a_prior_that_is_loaded_and_saved_names_no_place(tmp_path):
    at = tiny_priors.sd(tmp_path)
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline.from_pretrained(at, safety_checker=None).save_pretrained(tmp_path / "fp16", variant="fp16")
    spec = {"family": "sd", "weights": str(tmp_path / "fp16"), "train": None, "load": {"dtype": "float32", "variant": "fp16"}}
    store_prior({**spec, "code": "x"}, [], tmp_path / "out/model_index.json")
    for path in (tmp_path / "out").glob("*/config.json"):
        assert str(tmp_path) not in path.read_text(), path
