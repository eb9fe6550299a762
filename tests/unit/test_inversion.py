"""Inversion against Eq. 3 written out, diffusers' inverse scheduler, the closed form of a Gaussian's ODE, and sampling back."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.diffusion.inversion import inverted, ladder, noised
from limbeck.diffusion.levels import levels
from limbeck.diffusion.sampling import sample
from limbeck.priors import schedulers
from limbeck.priors.dit import DitPrior
from limbeck.seeds import normal

CONFIG = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False}
SHAPE = (3, 4, 4, 4)
LABELS = torch.tensor([0, 1, 2])
ABARS = DDIMScheduler(**CONFIG).alphas_cumprod.double()
# spacings and last levels that priors come with
GRIDS = (
    {"timestep_spacing": "leading"},
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False},
)


def scheduler(steps=10, **more):
    made = DDIMScheduler(**CONFIG, **more)
    made.set_timesteps(steps)
    return made


def means(labels):
    return 0.3 * (labels.view(-1, 1, 1, 1) - 1.0)  # the null class 9 has a mean of its own


def denoiser(x, t, labels, spread=0.6):
    """The exact eps of Gaussian data N(m_class, spread²): what a perfect network would predict."""
    abar = ABARS[int(t)]
    return (1 - abar).sqrt() * (x - abar.sqrt() * means(labels)) / (abar * spread**2 + 1 - abar), None


def clean():
    return means(LABELS) + 0.6 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def up(z, steps, rungs, scale=1.0, **more):
    return list(inverted(denoiser, scheduler(steps, **more), z, LABELS, rungs, null=9, cfg_scale=scale))


def down(z, steps, rungs, scale=1.0, **more):
    return sample(denoiser, scheduler(steps, **more), z, LABELS, null=9, cfg_scale=scale, start=steps - rungs).latents


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_every_rung_is_equation_3_written_out(scale):
    """With the root that the paper misses; rung 0 is clean (abar 1) and asks at the lowest timestep."""
    z, found = clean(), up(clean(), 10, 6, scale)
    assert torch.equal(found[0], z)
    current = torch.tensor(1.0).double()
    for rung, (t, asked) in enumerate(zip((0, 100, 200, 300, 400, 500), (0, 0, 100, 200, 300, 400), strict=True), 1):
        cond, null = denoiser(z, asked, LABELS)[0], denoiser(z, asked, torch.full((3,), 9))[0]
        eps = null + scale * (cond - null)
        following = ABARS[t]
        z = (following / current).sqrt() * z + following.sqrt() * ((1 / following - 1).sqrt() - (1 / current - 1).sqrt()) * eps
        current = following
        assert torch.allclose(found[rung], z, rtol=1e-10, atol=1e-12), rung
    assert len(found) == 7


@pytest.mark.parametrize("grid", GRIDS)
def test_levels_are_those_of_diffusers_inverse_scheduler(grid):
    """It asks at the following timestep, so the two agree for a network that does not look at the time."""
    inverse = DDIMInverseScheduler(**CONFIG, **grid)
    inverse.set_timesteps(10)
    z = expected = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    blind = lambda x, t, labels: (torch.tanh(x), None)  # noqa: ARG005, E731
    found = list(inverted(blind, scheduler(10, **grid), z, LABELS, 10, null=9))
    for rung, t in enumerate(inverse.timesteps, 1):
        expected = inverse.step(torch.tanh(expected), t, expected).prev_sample
        assert torch.allclose(found[rung], expected, rtol=1e-4, atol=1e-5), rung


def test_the_same_network_in_v_inverts_to_the_same_latents():
    """v = alpha eps - sigma x0_hat at the level that the network is asked at; so on rung 0 too, which has another."""

    def in_v(x, t, labels):
        eps, abar = denoiser(x, t, labels)[0], ABARS[int(t)]
        return (eps - (1 - abar).sqrt() * x) / abar.sqrt(), None

    made = scheduler(10, prediction_type="v_prediction", timestep_spacing="trailing")
    found = list(inverted(in_v, made, clean(), LABELS, 10, null=9))
    for a, b in zip(found, up(clean(), 10, 10, timestep_spacing="trailing"), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rungs", [0, 1, 6, 10])
def test_up_and_down_visit_the_same_levels_and_timesteps(grid, rungs):
    seen = {"up": [], "down": []}

    def spy(way):
        def denoise(x, t, labels):
            seen[way].append(int(t))
            return denoiser(x, t, labels)

        return denoise

    made = scheduler(10, **grid)
    *_, top = inverted(spy("up"), made, clean(), LABELS, rungs, null=9)
    sample(spy("down"), made, top, LABELS, null=9, cfg_scale=1, start=10 - rungs)
    asked = [int(t) for t in made.timesteps][10 - rungs :][::-1]  # on rungs 1 … i
    assert seen["down"][::-1] == asked
    assert seen["up"] == [asked[0], *asked[:-1]] if rungs else not seen["up"]
    assert [rung.level for rung in ladder(made, rungs)] == levels(made)[::-1][: rungs + 1]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_round_trips_error_falls_linearly_as_the_grid_is_refined(scale, grid):
    z = clean()
    errors = [relative(down(up(z, n, 3 * n // 5, scale, **grid)[-1], n, 3 * n // 5, scale, **grid), z) for n in (25, 50, 100, 200)]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert (ratios > 1.6).all(), (errors, ratios)
    assert (ratios < 2.4).all(), (errors, ratios)
    assert errors[-1] < 0.1


def test_inverted_latents_approach_the_closed_form_of_a_gaussians_ode():
    """x_t = alpha m + sqrt(alpha² s² + sigma²) / s (z0 - m): the probability flow only scales deviations from the mean."""
    z, errors = clean(), []
    for steps in (25, 50, 100, 200):
        level = ladder(scheduler(steps), 3 * steps // 5)[-1].level
        scaled = math.sqrt(level.alpha**2 * 0.36 + level.sigma**2) / 0.6 * (z - means(LABELS))
        errors.append(relative(up(z, steps, 3 * steps // 5)[-1], level.alpha * means(LABELS) + scaled))
    ratios = np.array(errors[:-1]) / errors[1:]
    assert ((ratios > 1.6) & (ratios < 2.4)).all(), (errors, ratios)
    assert errors[-1] < 0.02


def test_no_step_is_exact():
    assert torch.equal(up(clean(), 10, 0)[-1], clean())
    assert torch.equal(down(clean(), 10, 0), clean())


def test_scale_one_never_asks_the_null_branch():
    asked = []

    def spy(x, t, labels):
        asked.append(labels.tolist())
        return denoiser(x, t, labels)

    list(inverted(spy, scheduler(), clean(), LABELS, 4, null=9))
    assert asked == [[0, 1, 2]] * 4
    list(inverted(spy, scheduler(), clean(), LABELS, 1, null=9, cfg_scale=2.0))
    assert asked[-1] == [0, 1, 2, 9, 9, 9]


def test_guidance_on_some_channels_leaves_the_others_at_scale_one():
    some = list(inverted(denoiser, scheduler(), clean(), LABELS, 5, null=9, cfg_scale=2.0, cfg_channels=3))[-1]
    assert torch.equal(some[:, 3:], up(clean(), 10, 5)[-1][:, 3:])  # the denoiser treats every dimension alone
    assert torch.allclose(some[:, :3], up(clean(), 10, 5, 2.0)[-1][:, :3])


@given(st.integers(0, 10), st.floats(0, 3))
@settings(max_examples=20, deadline=None)
def test_images_do_not_depend_on_their_batch(rungs, scale):
    whole = up(clean(), 10, rungs, scale)[-1]
    one = list(inverted(denoiser, scheduler(), clean()[1:2], LABELS[1:2], rungs, null=9, cfg_scale=scale))[-1]
    assert torch.allclose(whole[1:2], one, rtol=1e-12)


def test_noised_latents_are_equation_1_with_each_images_own_noise():
    z = clean().float()
    noise = torch.stack([normal(SHAPE[1:], 0, "invert", 3, item) for item in range(3)])
    found = list(noised(scheduler(), z, noise, 5))
    assert torch.equal(found[0], z)
    for rung, t in enumerate((0, 100, 200, 300, 400), 1):
        expected = ABARS[t].sqrt() * z + (1 - ABARS[t]).sqrt() * noise
        assert torch.allclose(found[rung].double(), expected.double(), atol=1e-6)
    again = list(noised(scheduler(), z[2:], normal(SHAPE[1:], 0, "invert", 3, 2)[None], 5))
    assert torch.equal(again[-1][0], found[-1][2])


@pytest.mark.parametrize("step", [-1, 11])
def test_a_step_beyond_the_grid_is_refused(step):
    with pytest.raises(ValueError, match="not on the grid of 10 steps"):
        list(inverted(denoiser, scheduler(10), clean(), LABELS, step, null=9))


@pytest.mark.parametrize("solver", ["ddpm", "dpm++", "flow"])
def test_only_ddim_is_inverted(solver):
    made = schedulers.build({} if solver == "flow" else CONFIG, solver, 10)
    with pytest.raises(ValueError, match="only DDIM's grid is inverted"):
        list(noised(made, clean(), clean(), 5))
    with pytest.raises(ValueError, match="only DDIM's grid is inverted"):
        list(inverted(denoiser, made, clean(), LABELS, 5, null=9))


def test_a_real_networks_round_trip_improves_with_the_grid(tiny_prior):
    prior = DitPrior(tiny_prior)
    z = 0.5 * torch.randn(4, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    labels, errors = torch.full((4,), 2), []
    for steps in (10, 40):
        made, rungs = prior.scheduler("ddim", steps), 3 * steps // 5
        *_, top = inverted(prior.denoise, made, z, labels, rungs, null=prior.null)
        back = sample(prior.denoise, made, top, labels, null=prior.null, cfg_scale=1, start=steps - rungs).latents
        errors.append(relative(back, z))
    assert errors[1] < errors[0] / 2


# Sampling from a later step.


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++", "flow"])
@pytest.mark.parametrize("start", [0, 4, 9, 10])
def test_sampling_from_a_step_is_the_rest_of_the_whole_run(solver, start):
    config = {"solver_order": 1, **CONFIG} if solver == "dpm++" else {} if solver == "flow" else CONFIG
    visited = []

    def spy(x, t, labels):
        visited.append(x)
        return torch.tanh(0.7 * x + 0.1 * labels.view(-1, 1, 1, 1) + t / 1000), None

    generators = lambda step: [torch.Generator().manual_seed(100 * step + i) for i in range(3)]  # noqa: E731
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    options = {"null": 9, "cfg_scale": 1, "generators": generators}
    whole = sample(spy, schedulers.build(config, solver, 10), noise, LABELS, **options)
    states = [*visited, whole.latents]
    rest = sample(spy, schedulers.build(config, solver, 10), states[start], LABELS, start=start, **options)
    assert torch.equal(rest.latents, whole.latents)
    for norms in ("step_norms", "x0_norms"):
        assert torch.equal(getattr(rest, norms)[:, start:], getattr(whole, norms)[:, start:])
        assert not getattr(rest, norms)[:, :start].any()


def test_guidance_counts_steps_on_the_whole_grid():
    seen = []

    class Spy:
        hook, recompute_noise = "combined", True

        def __call__(self, step, x, x0):  # noqa: ARG002
            seen.append((step.index, step.steps, step.level))
            return

    made = scheduler(10)
    sample(denoiser, made, clean(), LABELS, null=9, cfg_scale=1, guidance=[Spy()], start=7)
    assert seen == [(index, 10, levels(made)[index]) for index in (7, 8, 9)]
