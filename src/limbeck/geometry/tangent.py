"""Tangent spaces of point clouds by local principal components, never through a D x D matrix.

Source: ManifoldGD Sec. 3.3 step 4 and supplementary Sec. 6; reading in METHODS.md section 1. The paper's ridge adds a multiple of
the identity to the covariance, which moves no eigenvector, so there is none here.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Solver = Literal["exact", "subspace"]
EXTRA = 4  # columns beyond d: they speed up subspace iteration and show the spectrum's gap
MAX_ITERATIONS = 100
SMALL = 16  # the block's Ritz values are accurate to a few units of rounding, whatever K and D


@dataclass(frozen=True)
class Tangent:
    """Of B clouds of K points. The orthonormal basis is ``lift(points, coefficients)``.

    coefficients: (B, K, d) float32; columns beyond the rank are 0. spectrum: (B, d + EXTRA) largest eigenvalues of the covariance
    1/K Σ (x - x̄)(x - x̄)ᵀ, 0 beyond the rank. variance: (B,) the sum of all. ranks: (B,) basis vectors found, min(d, rank).
    iterations: (B,) of the subspace iteration. residuals: (B,) |C u - λ u| / λ_1 at worst, 0 for the exact solver.
    """

    coefficients: Tensor
    spectrum: Tensor
    variance: Tensor
    ranks: Tensor
    iterations: Tensor
    residuals: Tensor


def lift(points: Tensor, coefficients: Tensor) -> Tensor:
    """The basis (…, D, d) from points (…, K, D). Coefficients add up to 0; centring the points first only saves digits."""
    return points.mT @ coefficients


def tangent(
    points: Tensor, d: int, solver: Solver = "exact", *, tolerance: float = 1e-5, memory_limit: int = 256 * 2**20
) -> Tangent:
    """Top-``d`` principal directions of each cloud.

    Parameters
    ----------
    points: (B, K, D). solver: ``exact`` eigendecomposes the smaller of the K x K Gram and the D x D covariance matrix in float64;
    ``subspace`` is block subspace iteration with ``d + EXTRA`` columns in the points' own precision, until every residual is below
    ``tolerance``, or for MAX_ITERATIONS. memory_limit: bytes of working memory; it decides how many clouds go at once.
    """
    _, k, dims = points.shape
    bytes_each = 8 * (2 * k * dims + 3 * min(k, dims) ** 2)
    chunk = max(1, memory_limit // bytes_each)
    solve = _exact if solver == "exact" else _subspace
    parts = [solve(part, d, tolerance) for part in points.split(chunk)]
    return Tangent(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _exact(points: Tensor, d: int, tolerance: float) -> tuple[Tensor, ...]:  # noqa: ARG001
    x = points.double()
    size = x.square().sum((1, 2)) / x.shape[1]
    x = x - x.mean(dim=1, keepdim=True)
    batch, k, dims = x.shape
    gram = (x @ x.mT if k <= dims else x.mT @ x) / k
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(-1), vectors.flip(-1)
    spectrum, ranks = _spectrum(values, size, d, max(k, dims), torch.finfo(torch.float64).eps)
    top = vectors[..., :d]
    if k > dims:  # u = Xᵀ a with a = X u / (K λ)
        top = x @ top / k
        scale = spectrum[:, :d].clamp_min(torch.finfo(torch.float64).tiny)[:, None, : top.shape[-1]]
    else:  # u = Xᵀ v / sqrt(K λ)
        scale = (k * spectrum[:, :d].clamp_min(torch.finfo(torch.float64).tiny)).sqrt()[:, None, : top.shape[-1]]
    none = torch.zeros(batch)
    return _coefficients(top / scale, ranks, d), spectrum.float(), values.sum(-1).float(), ranks, none.int(), none


def _subspace(points: Tensor, d: int, tolerance: float) -> tuple[Tensor, ...]:
    """Block subspace iteration on the K side: only thin products with X and Xᵀ (Halko et al. 2011, Alg. 4.4)."""
    x = points - points.mean(dim=1, keepdim=True)
    batch, k, _ = x.shape
    width = min(d + EXTRA, k)
    start = torch.randn(k, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(start.to(x)).Q.expand(batch, k, width)
    iterations = torch.zeros(batch, dtype=torch.int32)
    residuals = torch.full((batch,), math.inf)
    values = x.new_zeros(batch, width)
    active = torch.arange(batch)
    basis = basis.clone()
    for count in range(1, MAX_ITERATIONS + 1):
        part, v = x[active], basis[active]
        image = part @ (part.mT @ v) / k
        small = v.mT @ image  # Rayleigh quotient
        theta, rotation = torch.linalg.eigh((small + small.mT) / 2)
        theta, rotation = theta.flip(-1), rotation.flip(-1)
        v, image = v @ rotation, image @ rotation
        largest = theta[:, :1].clamp_min(torch.finfo(x.dtype).tiny)
        error = (image - v * theta[:, None]).norm(dim=1)[:, :d] / largest
        values[active], iterations[active], residuals[active] = theta, count, error.amax(-1).float().cpu()
        done = residuals[active] <= tolerance
        basis[active] = torch.where(done[:, None, None].to(v.device), v, torch.linalg.qr(image).Q)
        active = active[~done]
        if not len(active):
            break
    else:
        basis[active] = v[~done]  # the Ritz vectors whose residual is reported
    size = points.double().square().sum((1, 2)) / k
    spectrum, ranks = _spectrum(values.double(), size, d, SMALL, torch.finfo(x.dtype).eps)
    scale = (k * spectrum[:, :d].clamp_min(torch.finfo(torch.float64).tiny)).sqrt()[:, None, : min(d, width)]
    variance = x.square().sum((1, 2)) / k
    return (
        _coefficients(basis[..., :d].double() / scale, ranks, d),
        spectrum.float(),
        variance.float(),
        ranks,
        iterations,
        torch.where(residuals.isfinite(), residuals, 0),
    )


def _spectrum(values: Tensor, size: Tensor, d: int, order: int, eps: float) -> tuple[Tensor, Tensor]:
    """The d + EXTRA largest eigenvalues, padded and cut off at the rank, and min(d, rank).

    size: (B,) mean of |x|² before centring, whose rounding is no variance. order: how many units of rounding count as none.
    """
    floor = torch.maximum(values[:, 0] * eps, size * eps**2)[:, None] * order
    kept = torch.where(values > floor, values, 0.0)[:, : d + EXTRA]
    spectrum = torch.nn.functional.pad(kept, (0, d + EXTRA - kept.shape[1]))
    return spectrum, (spectrum[:, :d] > 0).sum(-1, dtype=torch.int32)


def _coefficients(columns: Tensor, ranks: Tensor, d: int) -> Tensor:
    """Zero what lies beyond the rank, and pad to d columns."""
    inside = torch.arange(columns.shape[-1], device=columns.device) < ranks[:, None]
    columns = torch.where(inside[:, None], columns, 0.0)
    return torch.nn.functional.pad(columns, (0, d - columns.shape[-1])).float()
