"""Tangent spaces of point clouds by local principal components, never through a D x D matrix.

Source: ManifoldGD Sec. 3.3 step 4 and supplementary Sec. 6; reading in docs/methods/manifoldgd.md. The paper's ridge adds a
multiple of the identity to the covariance, which moves no eigenvector, so there is none here.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from scipy.linalg import eigh
from torch import Tensor

Solver = Literal["exact", "subspace"]
Array = TypeVar("Array", np.ndarray, Tensor)
EXTRA = 4  # columns beyond d: they speed up subspace iteration and show the spectrum's gap
MAX_ITERATIONS = 100
SMALL = 16  # the block's Ritz values are accurate to a few units of rounding, whatever K and D


@dataclass(frozen=True)
class Tangent:
    """Of one cloud of K points. The orthonormal basis is ``lift(points, coefficients)``.

    coefficients: (K, d) float32; columns beyond the rank are 0. spectrum: (d + EXTRA,) largest eigenvalues of the covariance
    1/K Σ (x - x̄)(x - x̄)ᵀ, 0 beyond the rank. variance: the sum of all. rank: basis vectors found, min(d, rank).
    iterations: of the subspace iteration. residual: |C u - λ u| / λ_1 at worst. Both are 0 for the exact solver.
    """

    coefficients: np.ndarray
    spectrum: np.ndarray
    variance: float
    rank: int
    iterations: int = 0
    residual: float = 0.0


def lift(points: Array, coefficients: Array) -> Array:
    """The basis (…, D, d) from points (…, K, D). Coefficients add up to 0; centring the points first only saves digits."""
    return points.mT @ coefficients


def tangent(points: np.ndarray, d: int, solver: Solver = "exact", tolerance: float = 1e-5) -> Tangent:
    """Top-``d`` principal directions of a cloud (K, D).

    ``exact`` eigendecomposes the smaller of the K x K Gram and the D x D covariance matrix in float64; ``subspace`` is block
    subspace iteration with ``d + EXTRA`` columns in the points' own precision, until every residual is below ``tolerance``, or for
    MAX_ITERATIONS.
    """
    return _exact(points, d) if solver == "exact" else _subspace(points, d, tolerance)


def _exact(points: np.ndarray, d: int) -> Tangent:
    x = points.astype(np.float64)
    k, dims = x.shape
    wide = k <= dims
    # numpy takes half the products for a matrix times its own transpose
    products = (x @ x.T if wide else x.T @ x) / k
    size = float(np.trace(products))  # mean of |x|²
    mean = x.mean(axis=0)
    if wide:  # centring a Gram matrix: rows and columns add up to 0
        products -= products.mean(axis=0)
        products -= products.mean(axis=1, keepdims=True)
    else:
        products -= np.outer(mean, mean)
    count = min(d + EXTRA, len(products))
    values, vectors = eigh(products, subset_by_index=[len(products) - count, len(products) - 1], check_finite=False)
    spectrum, rank = _spectrum(values[::-1][: max(1, k - 1)], size, d, max(k, dims), np.finfo(np.float64).eps)
    top, kept = vectors[:, ::-1][:, :rank], spectrum[:rank]
    # u = Xᵀ v / sqrt(K λ), or, from u itself, u = Xᵀ a with a = X u / (K λ)
    columns = top / np.sqrt(k * kept) if wide else (x @ top - mean @ top) / (k * kept)
    return Tangent(_padded(columns, d), spectrum.astype(np.float32), float(np.trace(products)), rank)


def _subspace(points: np.ndarray, d: int, tolerance: float) -> Tangent:
    """Block subspace iteration on the K side: only thin products with X and Xᵀ (Halko et al. 2011, Alg. 4.4)."""
    k = len(points)
    mean = points.mean(axis=0)
    width = min(d + EXTRA, k)
    size = float(np.vdot(points, points)) / k
    basis = np.linalg.qr(np.random.Generator(np.random.Philox(key=0)).standard_normal((k, width)))[0].astype(points.dtype)
    for iterations in range(1, MAX_ITERATIONS + 1):
        image = _covariance_side(points, mean, basis) / k
        small = basis.T @ image  # Rayleigh quotient
        values, rotation = np.linalg.eigh((small + small.T) / 2)
        values, rotation = values[::-1], rotation[:, ::-1]
        basis, image = basis @ rotation, image @ rotation
        errors = np.linalg.norm(image - basis * values, axis=0)[:d]
        residual = float(errors.max() / max(values[0], np.finfo(points.dtype).tiny))
        if residual <= tolerance or iterations == MAX_ITERATIONS:
            break
        basis = np.linalg.qr(image)[0]
    spectrum, rank = _spectrum(values.astype(np.float64)[: max(1, k - 1)], size, d, SMALL, np.finfo(points.dtype).eps)
    columns = basis[:, :rank].astype(np.float64) / np.sqrt(k * spectrum[:rank])
    variance = max(0.0, size - float(np.vdot(mean, mean)))
    return Tangent(_padded(columns, d), spectrum.astype(np.float32), variance, rank, iterations, residual if rank else 0.0)


def _covariance_side(x: np.ndarray, mean: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(X - 1 x̄ᵀ)(X - 1 x̄ᵀ)ᵀ v without centring X: (K, b)."""
    inner = x.T @ v - np.outer(mean, v.sum(axis=0))
    return x @ inner - mean @ inner


def _spectrum(values: np.ndarray, size: float, d: int, order: int, eps: float) -> tuple[np.ndarray, int]:
    """The d + EXTRA largest eigenvalues, padded and cut off at the rank, and min(d, rank).

    values: no more than K - 1, as K centred points span no more. size: mean of |x|² before centring, whose rounding is no variance.
    order: how many units of rounding count as none.
    """
    floor = max(float(values[0]) * eps, size * eps**2) * order
    kept = np.where(values > floor, values, 0.0)[: d + EXTRA]
    return np.pad(kept, (0, d + EXTRA - len(kept))), int((kept[:d] > 0).sum())


def _padded(columns: np.ndarray, d: int) -> np.ndarray:
    return np.pad(columns, [(0, 0), (0, d - columns.shape[1])]).astype(np.float32)
