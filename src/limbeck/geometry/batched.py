"""Nearest neighbours and tangent spaces of a whole batch on a device: what ``patch`` and ``tangent`` do image by image on the CPU.

The clouds are read three times: for the distances, for the K x K Gram matrices, which are small beside them, and for the bases.
What iterates are the Gram matrices alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.geometry.tangent import EXTRA, SMALL

POWER = 2  # products with the Gram matrix between two orthonormalisations; more would lose directions of small variance to rounding
CHECKED = 4  # iterations between two looks at the residual, each of which waits for the device
MAX_ITERATIONS = 48


class Tangents(NamedTuple):
    """basis: (N, D, d), columns orthonormal, 0 beyond the rank. mean: (N, D). residual: |G u - λ u| / λ_1 at worst."""

    basis: Tensor
    mean: Tensor
    iterations: int
    residual: float


def nearest(cloud: Tensor, query: Tensor, k: int) -> Tensor:
    """The ``k`` points (N, k, D) of each cloud (N, P, D) nearest to its query (N, D), in any order."""
    if k == cloud.shape[1]:
        return cloud
    # |c - q|² without |q|², in which one cloud's points do not differ
    distances = (cloud * cloud).sum(dim=2) - 2 * (cloud @ query[:, :, None])[..., 0]
    rows = distances.topk(k, dim=1, largest=False, sorted=False).indices
    return cloud.gather(1, rows[:, :, None].expand(-1, -1, cloud.shape[2]))


def tangents(points: Tensor, d: int, tolerance: float) -> Tangents:
    """Top-``d`` principal directions of clouds (N, K, D): block subspace iteration on the K side (Halko et al. 2011, Alg. 4.4)."""
    n, k, _ = points.shape
    size = (points * points).mean(dim=1).sum(dim=1)  # mean of |x|²
    mean = points.mean(dim=1)
    centred = points - mean[:, None]
    gram = centred @ centred.mT / k
    width, eps = min(d + EXTRA, k), torch.finfo(points.dtype).eps
    tiny = torch.finfo(points.dtype).tiny
    scaled = gram / torch.diagonal(gram, dim1=1, dim2=2).sum(dim=1).clamp_min(tiny)[:, None, None]  # or large latents overflow
    # the same start for every cloud, from the CPU's generator
    start = torch.randn(k, width, generator=torch.Generator().manual_seed(0)).to(points)
    basis, residual = _orthonormal(start.expand(n, -1, -1)), float("inf")
    for iterations in range(1, MAX_ITERATIONS + 1):
        for _ in range(POWER):
            basis = scaled @ basis
        basis = _orthonormal(basis)
        if iterations % CHECKED == 0 or iterations == MAX_ITERATIONS:
            values, basis, errors = _ritz(gram, basis, d)
            residual = float((errors / values[:, :1].clamp_min(tiny)).max())
            if residual <= tolerance:
                break
    floor = torch.maximum(values[:, 0] * eps, size * eps**2) * SMALL
    kept = values[:, :d] > floor[:, None]
    # u = Xᵀ v / sqrt(K λ)
    weights = torch.where(kept, (k * values[:, :d]).clamp_min(tiny).rsqrt(), torch.zeros_like(values[:, :d]))
    found = centred.mT @ (basis[:, :, :d] * weights[:, None])
    return Tangents(torch.nn.functional.pad(found, (0, d - found.shape[2])), mean, iterations, residual)


def _ritz(gram: Tensor, basis: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues (N, b) within the basis, largest first, the basis turned to them, and |G u - λ u| (N, d)."""
    image = gram @ basis
    small = basis.mT @ image
    values, rotation = torch.linalg.eigh((small + small.mT).double() / 2)
    values, rotation = values.flip(1).to(gram.dtype), rotation.flip(2).to(gram.dtype)
    basis, image = basis @ rotation, image @ rotation
    return values, basis, (image - basis * values[:, None])[:, :, :d].norm(dim=1)


def _orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis of the columns (N, K, b), by eigenvectors of their b x b products: a batch of QRs is done one by one.

    Twice, since the first leaves what rounding does to columns that are almost dependent.
    """
    for _ in range(2):
        columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
        products = (columns.mT @ columns).double()
        values, vectors = torch.linalg.eigh(products)
        floor = values[:, -1:] * torch.finfo(columns.dtype).eps
        columns = columns @ (vectors * values.maximum(floor).rsqrt()[:, None]).to(columns.dtype)
    return columns
