"""The sampling loop and mode guidance against the equations written out and against diffusers' own pipeline."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.config import DitTraining
from limbeck.diffusion.levels import levels, variance_preserving
from limbeck.diffusion.sampling import combine, sample
from limbeck.guidance.alignment import AlignmentGuidance
from limbeck.guidance.base import Step, Targets
from limbeck.guidance.mode import ModeGuidance, build
from limbeck.priors import schedulers
from limbeck.priors.dit import DitPrior, save
from limbeck.priors.training import build_dit
from limbeck.stages.prior import SCHEDULER
from limbeck.stages.sample import _Start

CONFIG = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False}
SHAPE = (3, 4, 4, 4)


def denoiser(x, t, labels):
    """A smooth stand-in for a network that depends on everything it is given."""
    return torch.tanh(x * 0.7 + 0.1 * labels.view(-1, 1, 1, 1) + t / 1000), None


def scheduler(kind=DDIMScheduler, steps=10, **more):
    made = kind(**CONFIG, **more)
    made.set_timesteps(steps)
    return made


def run(kind=DDIMScheduler, guidance=(), scale=1.5, steps=10, **more):
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    generators = lambda step: [torch.Generator().manual_seed(100 * step + i) for i in range(SHAPE[0])]  # noqa: E731
    return sample(
        denoiser,
        scheduler(kind, steps),
        noise,
        torch.tensor([0, 1, 2]),
        null=9,
        cfg_scale=scale,
        guidance=guidance,
        generators=generators,
        **more,
    )


def mode(weight=0.3, t_stop=5, hook="combined", recompute=True):
    return ModeGuidance(torch.full(SHAPE, 0.5), weight, t_stop, hook, recompute)


def test_ddim_with_mode_guidance_is_the_equation_written_out():
    abars = scheduler().alphas_cumprod.double()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    for i, t in enumerate(range(900, -1, -100)):
        labels = torch.tensor([0, 1, 2])
        null = denoiser(x, t, torch.full((3,), 9))[0]
        eps = null + 1.5 * (denoiser(x, t, labels)[0] - null)
        a, b = abars[t], abars[t - 100] if t >= 100 else torch.tensor(1.0).double()
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        if i < 5:
            x0 = x0 - 0.3 * (x0 - 0.5)
            eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps
    assert torch.allclose(run(guidance=[mode()]).latents.double(), x, atol=2e-5)


def test_keeping_the_noise_moves_x0_alone():
    sched = scheduler()
    a, b = sched.alphas_cumprod[900], sched.alphas_cumprod[800]
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    null = denoiser(x, 900, torch.full((3,), 9))[0]
    eps = null + 1.5 * (denoiser(x, 900, torch.tensor([0, 1, 2]))[0] - null)
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    expected = b.sqrt() * (x0 - 0.3 * (x0 - 0.5)) + (1 - b).sqrt() * eps
    recorded = []

    def spy(x_t, t, labels):
        recorded.append(x_t[:3].clone())
        return denoiser(x_t, t, labels)

    sample(spy, sched, x, torch.tensor([0, 1, 2]), null=9, cfg_scale=1.5, guidance=[mode(recompute=False)])
    assert torch.allclose(recorded[1], expected, atol=1e-4)


def test_ddpm_guidance_shifts_the_posterior_mean_by_sigma():
    plain, guided = [], []
    for into, guides in ((plain, []), (guided, [mode(hook="posterior")])):
        seen = []

        def spy(x_t, t, labels, seen=seen):
            seen.append((t, x_t[:3].clone()))
            return denoiser(x_t, t, labels)

        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        generators = lambda step: [torch.Generator().manual_seed(step * 10 + i) for i in range(3)]  # noqa: E731
        sched = scheduler(DDPMScheduler)
        sample(spy, sched, noise, torch.tensor([0, 1, 2]), null=9, cfg_scale=1.5, guidance=guides, generators=generators)
        into += seen
    t, x = plain[0]
    a, b = sched.alphas_cumprod[t], sched.alphas_cumprod[t - 100]
    sigma = ((1 - b) / (1 - a) * (1 - a / b)).sqrt()  # the posterior's standard deviation (DDPM, Eq. 7)
    null = denoiser(x, t, torch.full((3,), 9))[0]
    eps = null + 1.5 * (denoiser(x, t, torch.tensor([0, 1, 2]))[0] - null)
    r = (x - (1 - a).sqrt() * eps) / a.sqrt() - 0.5
    assert torch.allclose(guided[1][1] - plain[1][1], -0.3 * r * sigma, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "hook"), [(DDIMScheduler, "combined"), (DDPMScheduler, "posterior")])
@pytest.mark.parametrize("guide", [{"weight": 0.0}, {"t_stop": 0}])
def test_no_weight_or_no_steps_is_unguided_bit_for_bit(kind, hook, guide):
    assert torch.equal(run(kind).latents, run(kind, guidance=[mode(hook=hook, **guide)]).latents)


@given(st.floats(0, 1), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_guidance_pulls_towards_its_target_only_while_active(weight, index):
    x0 = torch.randn(SHAPE)
    correction = mode(weight, t_stop=5)(Step(index, 10, variance_preserving(0.5)), x0, x0)
    if index >= 5:
        assert correction is None
    else:
        assert torch.allclose(x0 + correction - 0.5, (1 - weight) * (x0 - 0.5), atol=1e-6)


def test_build_chooses_target_and_hook():
    targets = Targets(torch.zeros(1), torch.ones(1), torch.full((1,), 2.0), torch.full((1,), 3.0))
    options = {"target": "member", "weight": 0.1, "t_stop": 3, "noise": "keep", "kernel": "imq", "bandwidth": None}
    made = build(options, targets, "ddpm")
    assert made.target is targets.members
    assert made.bandwidth is targets.member_spread
    assert build({**options, "bandwidth": 0.5}, targets, "ddpm").bandwidth.tolist() == [0.5]
    assert (made.hook, made.recompute_noise) == ("posterior", False)
    assert build({**options, "target": "centroid"}, targets, "ddim").hook == "combined"


def test_cfg_on_some_channels_leaves_the_others_conditional():
    cond, null = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    out = combine(cond, null, 3.0, 3)
    assert torch.equal(out[:, 3:], cond[:, 3:])
    assert torch.allclose(out[:, :3], (null + 3 * (cond - null))[:, :3])


def test_scale_one_never_asks_the_null_branch():
    asked = []

    def spy(x, t, labels):
        asked.append(labels.tolist())
        return denoiser(x, t, labels)

    sample(spy, scheduler(), torch.randn(SHAPE), torch.tensor([0, 1, 2]), null=9, cfg_scale=1)
    assert asked == [[0, 1, 2]] * 10


def test_unguided_sampling_equals_diffusers_own_pipeline(tiny_prior, tmp_path):
    """DiTPipeline takes 1000 for the null class; with its noise the images are the same."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_dit(4, 8, 1000, DitTraining(layers=1, heads=2, head_dim=8))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    save(tmp_path / "p", model, DitPrior(tiny_prior).vae, SCHEDULER, {i: f"c{i}" for i in range(1000)})
    prior = DitPrior(tmp_path / "p")
    pipe = DiTPipeline.from_pretrained(tmp_path / "p", dtype=torch.float32, low_cpu_mem_usage=False)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        [2, 5], guidance_scale=2.0, num_inference_steps=5, generator=torch.Generator().manual_seed(3), output_type="np"
    ).images
    noise = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(3))
    found = sample(prior.denoise, prior.scheduler("ddim", 5), noise, torch.tensor([2, 5]), null=prior.null, cfg_scale=2.0)
    ours = prior.decode(found.latents, 1).astype(float)
    assert np.abs(ours - images.reshape(ours.shape) * 255).max() <= 1


def test_learned_variance_goes_through_ddpm():
    def with_variance(x, t, labels):
        eps, _ = denoiser(x, t, labels)
        return eps, torch.zeros_like(eps)

    sched = scheduler(DDPMScheduler, variance_type="learned_range")
    generators = lambda step: [torch.Generator().manual_seed(step * 10 + i) for i in range(3)]  # noqa: E731
    found = sample(
        with_variance,
        sched,
        torch.randn(SHAPE),
        torch.tensor([0, 1, 2]),
        null=9,
        cfg_scale=2,
        guidance=[mode(hook="posterior")],
        generators=generators,
    )
    assert torch.isfinite(found.latents).all()
    assert found.step_norms.shape == found.x0_norms.shape == (3, 10)
    assert math.isfinite(found.step_norms.sum())


def test_norms_follow_the_trajectory_to_its_end():
    """The last DDIM step lands on x0_hat, so both norms end where the latents do."""
    found = run(guidance=[mode()])
    assert torch.allclose(found.x0_norms[:, -1], found.latents.flatten(1).norm(dim=1), rtol=1e-5)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    assert (found.step_norms.sum(1) >= (found.latents - noise).flatten(1).norm(dim=1) - 1e-4).all()


# CoDA's alignment.


def alignment(gamma=0.4, pis=3, released=False):
    return AlignmentGuidance(torch.full(SHAPE, 0.5), gamma, pis, released)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("guide", [{"gamma": 0.0}, {"pis": 10}])
def test_no_alignment_is_unguided_bit_for_bit(kind, guide):
    assert torch.equal(run(kind).latents, run(kind, guidance=[alignment(**guide)]).latents)


def test_alignment_is_the_interpolation_of_equation_6_on_the_conditional_branch_alone():
    abars = scheduler().alphas_cumprod.double()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    for i, t in enumerate(range(900, -1, -100)):
        a, b = abars[t], abars[t - 100] if t >= 100 else torch.tensor(1.0).double()
        null, cond = denoiser(x, t, torch.full((3,), 9))[0], denoiser(x, t, torch.tensor([0, 1, 2]))[0]
        if i < 7:  # the last 3 of 10 inject the prior
            x0 = (x - (1 - a).sqrt() * cond) / a.sqrt()
            x0 = 0.6 * x0 + 0.4 * 0.5
            cond = (x - a.sqrt() * x0) / (1 - a).sqrt()
        eps = null + 1.5 * (cond - null)
        x = b.sqrt() * (x - (1 - a).sqrt() * eps) / a.sqrt() + (1 - b).sqrt() * eps
    assert torch.allclose(run(guidance=[alignment()]).latents.double(), x, atol=3e-5)


def test_alignment_never_touches_the_null_branch():
    """With scale 0 only the null branch counts."""
    assert torch.equal(run(scale=0.0).latents, run(scale=0.0, guidance=[alignment(1.0, 0)]).latents)
    assert not torch.allclose(run(scale=1.0).latents, run(scale=1.0, guidance=[alignment(1.0, 0)]).latents)


@given(st.floats(0, 1), st.floats(0.001, 0.999))
@settings(max_examples=30, deadline=None)
def test_the_released_variant_multiplies_by_sigma(gamma, abar):
    x0 = torch.randn(SHAPE)
    step = Step(0, 10, variance_preserving(abar))
    paper, released = (alignment(gamma, 3, variant)(step, x0, x0) for variant in (False, True))
    if gamma == 0:
        assert paper is released is None
    else:
        assert torch.allclose(x0 + paper, (1 - gamma) * x0 + gamma * 0.5, atol=1e-6)
        assert torch.allclose(released, paper * math.sqrt((1 - abar) / abar), rtol=1e-5)


def test_alignment_comes_before_cfg_and_mode_guidance_after_it():
    abars = scheduler().alphas_cumprod.double()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    for i, t in enumerate(range(900, -1, -100)):
        a, b = abars[t], abars[t - 100] if t >= 100 else torch.tensor(1.0).double()
        null, cond = denoiser(x, t, torch.full((3,), 9))[0], denoiser(x, t, torch.tensor([0, 1, 2]))[0]
        if i < 7:
            cond = cond - 0.4 * (a / (1 - a)).sqrt() * (0.5 - (x - (1 - a).sqrt() * cond) / a.sqrt())
        eps = null + 1.5 * (cond - null)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        if i < 5:
            x0 = x0 - 0.3 * (x0 - 0.5)
            eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps
    for guides in ([alignment(), mode()], [mode(), alignment()]):
        assert torch.allclose(run(guidance=guides).latents.double(), x, atol=3e-5)


def test_undenoised_prototypes_are_not_noised_whatever_the_schedule_ends_with():
    """Stable Diffusion's ends a little above clean latents."""
    clean = torch.randn(2, 1, 3, 3)
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    config = {"num_train_timesteps": 1000, "set_alpha_to_one": False, **betas}
    model = SimpleNamespace(latent_shape=(1, 3, 3), scheduler=lambda *how: schedulers.build(config, *how))
    targets = SimpleNamespace(batch=lambda *_: Targets(members=-clean, centroids=clean))
    for strength, noised in ((0.0, False), (0.2, True)):
        start = {"kind": "prototype", "strength": strength, "target": "centroid"}
        spec = {"seed": 0, "start": start, "sampler": {"steps": 5, "solver": "ddim"}}
        found = _Start(spec, model, targets, None, None)
        assert found.step == 5 - int(5 * strength)
        assert torch.equal(found.latents(0, range(2)), clean) != noised


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "flow"])
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_a_noised_prototype_comes_back_under_a_model_that_knows_it(solver, strength):
    """Whatever step a solver begins with: where every prediction is that of c, sampling ends at c."""
    c = torch.randn(2, 1, 3, 3)
    config = {"num_train_timesteps": 1000} if solver == "flow" else CONFIG
    scheduler = schedulers.build(config, solver, 10)
    start = {"kind": "prototype", "strength": strength, "target": "centroid"}
    model = SimpleNamespace(latent_shape=(1, 3, 3), scheduler=lambda *_: scheduler)
    targets = SimpleNamespace(batch=lambda *_: Targets(members=-c, centroids=c))
    beginning = _Start({"seed": 1, "start": start, "sampler": {"steps": 10, "solver": solver}}, model, targets, None, None)
    grid, asked = levels(scheduler), []

    def denoise(x, t, labels):  # noqa: ARG001
        level = grid[beginning.step + len(asked)]
        asked.append(t)
        return (c - level.from_x * x) / level.from_output, None

    labels = torch.zeros(2, dtype=torch.long)
    out = sample(denoise, scheduler, beginning.latents(0, range(2)), labels, null=9, cfg_scale=1.0, start=beginning.step)
    assert len(asked) == int(10 * strength)
    torch.testing.assert_close(out.latents, c, rtol=1e-3, atol=1e-3)
