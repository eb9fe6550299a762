"""What guidance adds to a step of the sampler, by method, and the neighbours that ManifoldGD looks for."""

from typing import Any

import numpy as np

from benchmarks.cases.base import SEED, Case, close

ABAR, STEP, STEPS = 0.5, 5, 50
WEIGHT, GAMMA, D = 0.1, 0.1, 3


def knn(points: int, dims: int) -> Case:
    """The 300 nearest of a neighbourhood to x_t: one query."""
    from limbeck.geometry.patch import nearest

    rng = np.random.default_rng(SEED)
    cloud, query = rng.normal(size=(points, dims)).astype(np.float32), rng.normal(size=dims).astype(np.float32)
    k = min(300, points)

    def direct() -> np.ndarray:
        return np.argsort(((cloud - query) ** 2).sum(axis=1), kind="stable")[:k]

    same = lambda a, b: len(np.intersect1d(a, b)) >= k - 1  # noqa: E731 - rounding may exchange the last
    return Case(
        lambda: nearest(cloud, query, k), direct, "distances and argsort by NumPy", same, 2.0 * points * dims, 4.0 * points * dims
    )


def _latents(images: int, dims: int) -> tuple[Any, Any, Any]:
    """x_t, x0_hat and prototypes of a batch, in four channels."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    x_t, x0_hat, target = torch.randn(3, images, 4, dims // 4, 1, generator=generator)
    return x_t, x0_hat, target


def _step() -> Any:
    from limbeck.diffusion.levels import variance_preserving
    from limbeck.guidance.base import Step

    return Step(STEP, STEPS, variance_preserving(ABAR))


def mode(images: int, dims: int) -> Case:
    """MGD with the Laplace kernel, beside lambda w(r) r of one image after the other in NumPy."""
    from limbeck.guidance.mode import ModeGuidance

    x_t, x0_hat, target = _latents(images, dims)
    spread, step = x0_hat.new_full((images,), 8.0), _step()
    guidance = ModeGuidance(target, WEIGHT, STEPS, "combined", True, "laplace", spread)

    def direct() -> np.ndarray:
        found = []
        for own, centre, s in zip(x0_hat.numpy(), target.numpy(), spread.numpy(), strict=True):
            r = own - centre
            found.append(-WEIGHT * min(s / np.linalg.norm(r), 1 / WEIGHT) * r)
        return np.stack(found)

    return Case(lambda: guidance(step, x_t, x0_hat), direct, "an image at a time in NumPy", close, 0.0, 12.0 * images * dims)


def alignment(images: int, dims: int) -> Case:
    """CoDA's predicted noise from the network's, as the sampling loop has it, beside Eqs. 4 and 7 of one image after the other."""
    from limbeck.guidance.alignment import AlignmentGuidance

    x_t, output, target = _latents(images, dims)
    step, guidance = _step(), AlignmentGuidance(target, GAMMA, 0)
    level, alpha, sigma = step.level, np.float32(step.level.alpha), np.float32(step.level.sigma)

    def ours() -> Any:
        correction = guidance(step, x_t, level.clean(x_t, output))
        assert correction is not None
        return output + correction / level.from_output

    def direct() -> np.ndarray:
        found = []
        for x, eps, real in zip(x_t.numpy(), output.numpy(), target.numpy(), strict=True):
            x0_hat = (x - sigma * eps) / alpha
            found.append(eps - GAMMA * alpha / sigma * (real - x0_hat))
        return np.stack(found)

    return Case(ours, direct, "Eqs. 4 and 7, an image at a time in NumPy", close, 0.0, 16.0 * images * dims)


def expected(images: int, dims: int, points: int) -> Case:
    """ManifoldGD with cached tangents of the clean neighbours."""
    return _manifold(images, dims, points, "expected")


def monte_carlo(images: int, dims: int, points: int) -> Case:
    """ManifoldGD with cached tangents of the noised neighbours, whose noise is drawn anew."""
    return _manifold(images, dims, points, "monte_carlo")


def _manifold(images: int, dims: int, points: int, estimator: str) -> Case:
    """Eq. 4 with tangents that the stage before has found, beside the paper read directly: tangents found in the step itself, by a
    singular value decomposition, and their normal projector as a matrix, one image after the other.
    """
    from limbeck.geometry.patch import Patch
    from limbeck.geometry.tangent import tangent
    from limbeck.guidance.manifold import CachedTangents, ManifoldGuidance
    from limbeck.guidance.mode import ModeGuidance

    (x_t, x0_hat, target), step, rng = _latents(images, dims), _step(), np.random.default_rng(SEED)
    patches = []
    for image in range(images):
        # a few directions far above the rest
        axes = 10 * rng.standard_normal((D, dims), dtype=np.float32) / np.sqrt(np.float32(points))
        cloud = rng.standard_normal((points, dims), dtype=np.float32) + rng.standard_normal((points, D), dtype=np.float32) @ axes
        counts, radii = np.full(STEPS, points), np.zeros(STEPS, np.float32)
        patches.append(Patch(np.zeros(dims, np.float32), np.arange(points), cloud, counts, radii, (SEED, 0, image)))
    ids = np.broadcast_to(np.arange(points), (images, STEPS, points))
    coefficients = np.zeros((images, STEPS, points, D), np.float32)
    clouds = [patch.at(STEP, step.level, estimator) for patch in patches]
    for image, cloud in enumerate(clouds):
        coefficients[image, STEP] = tangent(cloud, D).coefficients
    cached, plain = CachedTangents(patches, ids, coefficients, estimator), ModeGuidance(target, WEIGHT, STEPS, "combined", True)
    guidance = ManifoldGuidance(plain, "project", [1.0] * STEPS, cached)

    def ours() -> Any:
        guidance.share.clear()
        found = guidance(step, x_t, x0_hat)
        assert found is not None
        return found.flatten(1)

    def direct() -> np.ndarray:
        found = []
        for patch, own, centre in zip(patches, x0_hat.flatten(1).numpy(), target.flatten(1).numpy(), strict=True):
            cloud = patch.at(STEP, step.level, estimator)
            basis = np.linalg.svd(cloud - cloud.mean(axis=0), full_matrices=False)[2][:D].T
            g = -np.float32(WEIGHT) * (own - centre)
            found.append(g - (np.eye(dims, dtype=np.float32) - basis @ basis.T) @ g)
        return np.stack(found)

    of = "SVD and the projector as a matrix, an image at a time"
    return Case(ours, direct, of, close, 2.0 * images * points * dims * D, 4.0 * images * points * dims)
