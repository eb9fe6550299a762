"""ManifoldGD's guidance: projections, patches, and tangents cached against online."""

import dataclasses
import math
import types

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.diffusion.levels import levels, variance_preserving
from limbeck.diffusion.sampling import sample
from limbeck.geometry.batched import nearest as neighbours
from limbeck.geometry.batched import tangents
from limbeck.geometry.patch import local_rows, nearest, neighbour_count, real_patches, synthetic_patches
from limbeck.geometry.tangent import lift, tangent
from limbeck.guidance.ahead import STEPS, Ahead, BatchedTangents
from limbeck.guidance.base import Step, Targets
from limbeck.guidance.manifold import CachedTangents, OnlineTangents, build, factors, project, pull, tangential
from limbeck.guidance.mode import ModeGuidance
from limbeck.options import ManifoldGuidance as Options
from limbeck.stages.tangents import at_anchors

SHAPE = (4, 4, 4)
D = 64


def options(**changes):
    return Options(**{"t_stop": 4, "warmup": 0, "d": 3, "radius": 0.5, "target": "member", **changes}).model_dump()


def latents(n=60, seed=0):
    """A curved sheet in D dimensions plus a little noise."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(-1, 1, (n, 2))
    sheet = np.stack([3 * u[:, 0], 2 * u[:, 1], u[:, 0] ** 2, u[:, 0] * u[:, 1]], axis=1)
    return (np.pad(sheet, [(0, 0), (0, D - 4)]) + 0.05 * rng.normal(size=(n, D))).astype(np.float32)


def basis(rng, n, d):
    return torch.from_numpy(np.linalg.qr(rng.normal(size=(n, D, d)))[0])


# Projection (Eq. 4).


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_projection_properties(seed, d, lam):
    rng = np.random.default_rng(seed)
    u = basis(rng, 3, d)
    g, h = (torch.from_numpy(rng.normal(size=(3, D))) for _ in range(2))
    tangent_part = tangential(g, u)
    assert torch.allclose(tangential(tangent_part, u), tangent_part, atol=1e-10)  # idempotent
    assert torch.allclose((tangential(g, u) * h).sum(1), (g * tangential(h, u)).sum(1), atol=1e-10)  # self-adjoint
    strict = project(g, u, 1.0)
    assert torch.allclose(strict, tangent_part, atol=1e-10)
    # what a strict projection removes is orthogonal to the tangent space
    assert (u.mT @ (g - strict)[..., None]).abs().max() < 1e-10
    assert torch.equal(project(g, u, 0.0), g)
    mixed = project(g, u, lam)
    assert torch.allclose(mixed, (1 - lam) * g + lam * strict, atol=1e-10)
    whole = torch.from_numpy(np.linalg.qr(rng.normal(size=(3, D, D)))[0])
    assert torch.allclose(project(g, whole, lam), g, atol=1e-9)  # d = D leaves mode guidance


def test_missing_tangent_vectors_project_away():
    g = torch.randn(2, D)
    assert (project(g, torch.zeros(2, D, 3), 1.0) == 0).all()


def test_pull_is_a_unit_vector_straight_to_the_plane():
    rng = np.random.default_rng(5)
    u, mean, x = basis(rng, 2, 3), torch.from_numpy(rng.normal(size=(2, D))), torch.from_numpy(rng.normal(size=(2, D)))
    step = pull(x, u, mean, 0.1)
    assert torch.allclose(step.norm(dim=1), torch.full((2,), 0.1, dtype=torch.float64))
    assert (u.mT @ step[..., None]).abs().max() < 1e-12
    height = lambda y: ((y - mean) - tangential(y - mean, u)).norm(dim=1)  # noqa: E731
    assert torch.allclose(height(x + step), height(x) - 0.1, atol=1e-9)
    assert (pull(mean, u, mean, 0.1) == 0).all()  # on the plane there is nowhere to go


# Kernels (Sec. 3.2, footnote 1).


@pytest.mark.parametrize(
    ("kernel", "weight"),
    [
        ("rbf", lambda r, s: 1.0),  # noqa: ARG005
        ("laplace", lambda r, s: min(s / r, 10.0)),
        ("imq", lambda r, s: 1 / (1 + r**2 / (2 * s**2))),
    ],
)
def test_kernel_weights_written_out(kernel, weight):
    target, s = torch.zeros(3, *SHAPE), torch.tensor([0.5, 2.0, 40.0])
    x0 = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = ModeGuidance(target, 0.1, 4, "combined", True, kernel, s)(Step(0, 4, variance_preserving(0.5)), x0, x0)
    for i in range(3):
        r = float(x0[i].norm())
        assert torch.allclose(found[i], -0.1 * weight(r, float(s[i])) * x0[i], rtol=1e-5)


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "imq"])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-3, 1e6])
def test_no_kernel_overshoots_its_prototype(kernel, scale):
    x0 = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)) * scale
    guide = ModeGuidance(torch.zeros(3, *SHAPE), 0.3, 4, "combined", True, kernel, torch.ones(3))
    moved = x0 + guide(Step(0, 4, variance_preserving(0.5)), x0, x0)
    assert torch.isfinite(moved).all()
    assert (moved.flatten(1).norm(dim=1) <= x0.flatten(1).norm(dim=1) * (1 + 1e-6)).all()


# Neighbourhoods.


@given(st.integers(0, 1000), st.floats(0.01, 1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_quantile_neighbourhood_is_the_nearest_share_of_the_class(seed, radius, d):
    z = latents(seed=seed)
    opts = options(radius=radius, d=d)
    patch = real_patches(z, z[:1], opts, factors(opts), 0, 0, [0])[0]
    distances = np.linalg.norm(z - z[0], axis=1)
    for index, factor in enumerate(factors(opts)):
        count = min(60, max(d + 2, math.ceil(radius * factor * 60)))
        assert patch.counts[index] == count
        assert set(patch.rows[:count].tolist()) == set(np.argsort(distances)[:count].tolist())
        assert np.isclose(patch.radii[index], np.sort(distances)[count - 1])
    assert patch.rows[0] == 0  # the prototype itself belongs to its neighbourhood


def test_an_absolute_radius_is_a_ball_and_a_small_one_is_an_error():
    z = latents()
    opts = options(radius=2.5, radius_unit="absolute", anneal="none")
    patch = real_patches(z, z[:1], opts, factors(opts), 0, 0, [0])[0]
    assert set(patch.rows.tolist()) == set(np.flatnonzero(np.linalg.norm(z - z[0], axis=1) <= 2.5).tolist())
    opts["radius"] = 0.05  # the paper's
    with pytest.raises(
        ValueError, match=r"radius 0\.05 leaves 1 of 60 latents around prototype 3 .* fewer than d \+ 2 = 5: raise 'radius'"
    ):
        real_patches(z, z[:1], opts, factors(opts), 0, 0, [3])
    with pytest.raises(ValueError, match=r"has 4 images, fewer than d \+ 2 = 5: lower 'd'"):
        real_patches(z[:4], z[:1], opts, factors(opts), 0, 0, [0])


def test_synthetic_points_lie_on_the_released_spheres():
    z = latents()
    opts = options(
        neighbourhood="synthetic", radius=0.7, radius_unit="absolute", points=30, k=12, warmup=2, max_mult=3.0, anneal="linear"
    )
    patch = synthetic_patches(z, z[:1], opts, factors(opts), 0, 0, [0])[0]
    for index, radius in enumerate((2.1, 1.4, 0.7, 0.7)):
        assert np.allclose(np.linalg.norm(patch.clean(index) - z[0], axis=1), radius, rtol=1e-5)


def test_the_noised_patch_is_equation_5_with_its_factor():
    z = latents()
    opts = options(anneal="none")
    patch = real_patches(z, z[:1], opts, factors(opts), 0, 0, [0])[0]
    noise = (patch.noised(1, variance_preserving(0.3)) - math.sqrt(0.3) * patch.clean(1)) / math.sqrt(0.7)
    assert abs(noise.std() - 1) < 0.05
    assert abs(noise.mean()) < 0.05
    again = math.sqrt(0.9) * patch.clean(1) + math.sqrt(0.1) * noise
    assert np.allclose(patch.noised(1, variance_preserving(0.9)), again, atol=1e-5)
    assert not np.allclose(
        patch.noised(1, variance_preserving(0.3)), patch.noised(2, variance_preserving(0.3))
    )  # fresh noise at every step


@given(st.integers(0, 1000), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_nearest_is_brute_force(seed, k):
    rng = np.random.default_rng(seed)
    z, q = rng.normal(size=(40, 20)).astype(np.float32), rng.normal(size=20).astype(np.float32)
    expected = np.argsort(((z.astype(np.float64) - q) ** 2).sum(1), kind="stable")[:k]
    assert nearest(z, q, k).tolist() == expected.tolist()


def test_neighbour_counts():
    assert [neighbour_count(0.5, n, 3) for n in (125, 10, 7, 4)] == [63, 5, 5, 4]
    assert [neighbour_count(300, n, 3) for n in (1000, 125)] == [300, 125]
    assert neighbour_count(1.0, 125, 3) == 125


# Estimators.


def angle(a, b):
    a, b = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
    return float(np.arcsin(np.clip(np.linalg.norm(a - b @ (b.T @ a), 2), 0, 1)))


def test_expected_is_the_limit_of_monte_carlo_for_fixed_neighbours():
    """Averaged over more noise draws, the covariance's principal angles to the expected one shrink as 1 / sqrt(draws)."""
    z = latents()
    opts = options(anneal="none", t_stop=4096)
    patch = real_patches(z, z[:1], opts, factors(opts), 0, 0, [0])[0]
    neighbours, abar = patch.clean(0), 0.5
    expected = lift(neighbours, tangent(neighbours, 2).coefficients)
    total, angles = np.zeros((D, D)), {}
    for draw in range(4096):
        x = patch.noised(draw, variance_preserving(abar)).astype(np.float64)
        x -= x.mean(0)
        total += x.T @ x / len(x)
        if draw + 1 in (1, 16, 256, 4096):
            angles[draw + 1] = angle(np.linalg.eigh(total)[1][:, -2:], expected)
    assert angles[1] > angles[16]  # one draw is hardly better than chance, pi / 2
    assert angles[16] > 2 * angles[256] > 4 * angles[4096]
    assert angles[4096] < 0.06


def test_the_expected_neighbours_are_those_of_the_mean_distance():
    z, abar = latents(), 0.3
    x_t = np.random.default_rng(1).normal(size=D).astype(np.float32)
    mean_distance = ((math.sqrt(abar) * z.astype(np.float64) - x_t) ** 2).sum(1) + (1 - abar) * D
    expected = np.argsort(mean_distance, kind="stable")[:20]
    assert local_rows(z, x_t, variance_preserving(abar), 20, "expected").tolist() == expected.tolist()


# Cached against online.


def scheduler(steps=8):
    made = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    made.set_timesteps(steps)
    return made


def sources(opts, n=3, seed=0):
    """(patches, cached, online, noise) for n prototypes of one class."""
    z = latents(seed=seed)
    make = synthetic_patches if opts["neighbourhood"] == "synthetic" else real_patches
    patches = make(z, z[:n], opts, factors(opts), 0, 0, range(n))
    noise = np.random.default_rng(9).normal(size=(n, D)).astype(np.float32)
    arrays = at_anchors(patches, noise, levels(scheduler()), opts)
    read = {k: arrays[k] for k in ("neighbours", "coefficients")}
    cached = CachedTangents(patches, **read, estimator=opts["estimator"])
    return patches, cached, OnlineTangents(patches, opts), noise, arrays


@pytest.mark.parametrize("estimator", ["monte_carlo", "expected"])
@pytest.mark.parametrize("start", [0, 3])
def test_planes_lifted_ahead_are_the_same_bit_for_bit(estimator, start):
    opts = options(estimator=estimator)
    _, cached, _, noise, _ = sources(opts)
    grid = levels(scheduler())
    ahead, x = Ahead(cached, grid, 3), torch.from_numpy(noise).view(-1, *SHAPE)
    for index in range(start, opts["t_stop"]):
        step = Step(index, 8, grid[index])
        assert all(torch.equal(a, b) for a, b in zip(ahead(step, x), cached(step, x), strict=True))
        assert len(ahead.queue.begun) == min(STEPS, opts["t_stop"] - 1 - index)
    assert ahead.queue.pool._shutdown


def test_an_error_of_a_thread_is_the_steps(monkeypatch):
    _, cached, _, noise, _ = sources(options())
    ahead = Ahead(cached, levels(scheduler()), 2)
    monkeypatch.setattr("limbeck.guidance.manifold.lift", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ahead(Step(0, 8, levels(scheduler())[0]), torch.from_numpy(noise).view(-1, *SHAPE))


@pytest.mark.parametrize("estimator", ["monte_carlo", "expected"])
@pytest.mark.parametrize("neighbourhood", ["real", "synthetic"])
@pytest.mark.parametrize("group", [1, 3])
def test_a_batch_on_a_device_has_the_planes_of_one_image_at_a_time(estimator, neighbourhood, group, monkeypatch):
    opts = options(estimator=estimator, neighbourhood=neighbourhood, eigensolver="subspace", tolerance=1e-6)
    patches, _, online, noise, _ = sources(opts)
    grid, x = levels(scheduler()), torch.from_numpy(noise).view(-1, *SHAPE)
    assert BatchedTangents.fits(patches, opts)
    monkeypatch.setattr("limbeck.guidance.ahead.MEMORY", group * 16 * D * int(patches[0].counts.max()))
    batched = BatchedTangents(patches, opts, grid, 2)
    for index in range(opts["t_stop"]):
        step = Step(index, 8, grid[index])
        (found, mean), (wanted, expected) = batched(step, x), online(step, x)
        assert torch.allclose(found.mT @ found, torch.eye(opts["d"]).expand(3, -1, -1), atol=1e-5)
        assert max(angle(found[i], wanted[i]) for i in range(3)) < 2e-3
        assert torch.allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize("gap", [1.0, 1.5, 10.0])
def test_batched_tangents_are_the_leading_eigenvectors(gap):
    """Against numpy's, for spectra from flat to steep; each cloud its own, some of lower rank than d."""
    rng, n, k, dims, d = np.random.default_rng(3), 4, 40, 200, 3
    scales = np.r_[gap ** np.arange(d, 0, -1), rng.random(60)]
    points = (rng.normal(size=(n, k, len(scales))) * scales) @ np.linalg.qr(rng.normal(size=(dims, len(scales))))[0].T
    points = (points + 3 * rng.normal(size=(n, 1, dims))).astype(np.float32)
    found = tangents(torch.from_numpy(points), d, 1e-5)
    assert found.residual <= 1e-5
    for cloud, basis, mean in zip(points.astype(np.float64), found.basis, found.mean, strict=True):
        centred = cloud - cloud.mean(0)
        assert np.allclose(mean, cloud.mean(0), atol=1e-4 * np.abs(cloud).max())
        wanted = np.linalg.svd(centred, full_matrices=False)[2][:d].T
        variance = [((centred @ each) ** 2).sum() for each in (wanted, basis.double().numpy())]
        assert variance[1] > (1 - 1e-4) * variance[0]
        assert np.allclose(basis.T @ basis, np.eye(d), atol=1e-3)
    huge = tangents(1e9 * torch.from_numpy(points), d, 1e-5).basis
    assert torch.linalg.svdvals(huge.mT @ found.basis).min() > 0.999
    flat = torch.from_numpy(np.outer(np.arange(k), np.ones(dims)).astype(np.float32))[None]
    line = tangents(flat, d, 1e-5).basis[0]
    assert torch.allclose(line[:, 0].abs(), torch.full((dims,), dims**-0.5), atol=1e-5)
    assert torch.equal(line[:, 1:], torch.zeros(dims, d - 1))


def test_batched_neighbours_are_the_nearest():
    rng = np.random.default_rng(4)
    cloud, query = rng.normal(size=(5, 50, 16)).astype(np.float32), rng.normal(size=(5, 16)).astype(np.float32)
    found = neighbours(torch.from_numpy(cloud), torch.from_numpy(query), 7).numpy()
    for points, q, near in zip(cloud, query, found, strict=True):
        wanted = points[nearest(points, q, 7)]
        assert sorted(map(tuple, near)) == sorted(map(tuple, wanted))
    assert torch.equal(neighbours(torch.from_numpy(cloud), torch.from_numpy(query), 50), torch.from_numpy(cloud))


def test_what_does_not_batch_is_left_to_the_cpu():
    opts = options(eigensolver="subspace", radius_unit="absolute", radius=1e3)
    patches = sources(options())[0]
    assert not BatchedTangents.fits(patches, options(eigensolver="exact"))
    assert BatchedTangents.fits(patches, opts)
    uneven = dataclasses.replace(patches[1], counts=patches[1].counts - 1)
    assert not BatchedTangents.fits([patches[0], uneven], opts)


@pytest.mark.parametrize("estimator", ["monte_carlo", "expected"])
@pytest.mark.parametrize("neighbourhood", ["real", "synthetic"])
@pytest.mark.parametrize("solver", ["exact", "subspace"])
def test_online_equals_anchor_on_the_anchors_own_trajectory(estimator, neighbourhood, solver):
    """A prior that knows the prototype stays on sqrt(abar) c + sqrt(1 - abar) eps, where the anchor asks."""
    opts = options(estimator=estimator, neighbourhood=neighbourhood, eigensolver=solver, tolerance=1e-6)
    patches, cached, online, noise, _ = sources(opts)
    centres = torch.from_numpy(np.stack([p.centre for p in patches])).view(-1, *SHAPE)
    abars = scheduler().alphas_cumprod
    seen = []

    def oracle(x, t, labels):  # noqa: ARG001
        return (x - abars[t].sqrt() * centres) / (1 - abars[t]).sqrt(), None

    def spy(step, x_t, x0_hat):  # noqa: ARG001
        if step.index < opts["t_stop"]:
            (a, ma), (b, mb) = cached(step, x_t), online(step, x_t)
            seen.append(max(angle(a[i], b[i]) for i in range(3)))
            assert torch.allclose(ma, mb, atol=1e-4)

    guide = types.SimpleNamespace(hook="combined", recompute_noise=True, __call__=spy)
    start = torch.from_numpy(noise).view(-1, *SHAPE)
    # the trajectory starts at the anchor's first point; pure noise is within sqrt(abar_0) c of it
    start = abars[scheduler().timesteps[0]].sqrt() * centres + (1 - abars[scheduler().timesteps[0]]).sqrt() * start
    sample(oracle, scheduler(), start, torch.zeros(3, dtype=torch.long), null=9, cfg_scale=1, guidance=[_callable(guide, spy)])
    assert len(seen) == opts["t_stop"]
    assert max(seen) < 2e-3


def _callable(template, function):
    class Guide:
        hook, recompute_noise = template.hook, template.recompute_noise

        def __call__(self, *args):
            return function(*args)

    return Guide()


def test_bases_are_orthonormal_and_the_arrays_say_what_they_hold():
    opts = options(k=0.5)
    _, cached, _, _, arrays = sources(opts)
    for index in range(opts["t_stop"]):
        u, _ = cached(Step(index, 8, levels(scheduler())[index]), torch.zeros(3, *SHAPE))
        assert torch.allclose(u.mT @ u, torch.eye(3).expand(3, 3, 3), atol=1e-5)
    assert (arrays["counts"] == (arrays["neighbours"] >= 0).sum(-1)).all()
    assert arrays["patch_counts"][0].tolist() == [math.ceil(30 * f) for f in factors(opts)]
    assert arrays["counts"][0].tolist() == [15, 9, 6, 5]
    assert (arrays["ranks"] == 3).all()
    assert (arrays["spectrum"].sum(-1) <= arrays["variance"] * (1 + 1e-5)).all()


# The whole guidance.


def targets(n=3, tangents=None):
    z = torch.from_numpy(latents()[:n]).view(n, *SHAPE)
    return Targets(z + 0.1, z, torch.ones(n), torch.full((n,), 2.0), tangents)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_none_or_zero_weight_is_mode_guidance_and_one_stays_in_the_tangent(solver):
    opts = options()
    _, cached, _, _, _ = sources(opts)
    step, x = Step(1, 8, levels(scheduler())[1]), torch.randn(3, *SHAPE)
    mode = build(options(correction="none"), targets(), solver)
    g = mode(step, x, x)
    assert torch.allclose(g, -0.1 * (x - targets().members))
    assert torch.allclose(build(options(lam_man=0), targets(tangents=cached), solver)(step, x, x), g)
    guide = build(opts, targets(tangents=cached), solver)
    strict = guide(step, x, x).flatten(1)
    u, _ = cached(step, x)
    assert torch.allclose(tangential(strict, u), strict, atol=1e-5)
    share = strict.norm(dim=1) / g.flatten(1).norm(dim=1)
    assert torch.allclose(guide.share[0], share, atol=1e-5)
    assert guide.hook == ("posterior" if solver == "ddpm" else "combined")
    assert guide(Step(4, 8, variance_preserving(0.9)), x, x) is None


def test_pull_adds_to_mode_guidance_and_lambda_may_anneal():
    opts = options(correction="pull", lam_man=0.1, anneal_lambda=True, warmup=0, anneal="linear", anneal_to=0.2)
    _, cached, _, _, _ = sources(opts)
    guide = build(opts, targets(tangents=cached), "ddim")
    assert np.allclose(guide.lam_man, 0.1 * np.array([1, 1 - 0.8 / 3, 1 - 1.6 / 3, 0.2]))
    step, x = Step(3, 8, levels(scheduler())[3]), torch.randn(3, *SHAPE)
    g = build(options(correction="none"), targets(), "ddim")(step, x, x)
    assert torch.allclose((guide(step, x, x) - g).flatten(1).norm(dim=1), torch.full((3,), 0.02), atol=1e-5)
