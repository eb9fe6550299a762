"""Instance norm, ReLU and average pool 2 as one operation on a CPU, compiled by numba.

Between a ConvNet's convolutions torch moves every activation through memory some ten times a step. Here a layer's activations of an
image, where they fit the cache, are read from memory once forwards and once backwards, and only what is pooled and the gradient are
written. All is in channels-last, in which oneDNN's convolutions are faster too.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LAST = torch.channels_last
SIDE = 2  # of a pool
ZERO, QUARTER = np.float32(0), np.float32(0.25)


def _compiled(function: Callable[..., Any]) -> Any:
    """By numba, which keeps it on disk where there is a place for it.

    Sums may be taken in another order, and a product be added in one rounding; what is no number stays none.
    """
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "nogil": True}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither beside the sources nor in the home folder may be written
        return numba.njit(function, **options)


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Every image's every channel to mean 0 and deviation 1, times ``weight``, plus ``bias``, then ReLU, then average pool 2.

    x: (N, C, H, W) float32 on a CPU, sides of 2 at least; weight, bias: (C,). Returns (N, C, H // 2, W // 2), channels-last. It can
    be differentiated once.

    Raises
    ------
    ValueError: other values, or a side of 1.
    """
    if x.dtype != torch.float32 or min(x.shape[2:]) < SIDE:
        raise ValueError(f"takes float32 with sides of {SIDE} at least, not {x.dtype} of {tuple(x.shape)}")
    return _NormReluPool.apply(x, weight, bias, eps)


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        n, c, h, w = x.shape
        x = x.contiguous(memory_format=LAST)
        out = torch.empty((n, c, h // 2, w // 2), dtype=x.dtype, memory_format=LAST)
        moments = torch.empty((2, n, c), dtype=x.dtype)
        _over_images(_forward, n, _pixels(x), weight.detach().numpy(), bias.detach().numpy(), eps, _pixels(out), moments.numpy())
        ctx.save_for_backward(x, weight, bias, moments)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, moments = ctx.saved_tensors
        grad, inner, own = grad.contiguous(memory_format=LAST), torch.empty_like(x), np.empty(moments.shape)
        read = (_pixels(x), weight.detach().numpy(), bias.detach().numpy(), moments.numpy(), _pixels(grad))
        _over_images(_backward, len(x), *read, _pixels(inner), own)
        by_weight, by_bias = torch.from_numpy(own.sum(1).astype(np.float32))
        return inner, by_weight, by_bias, None


def _pixels(x: Tensor) -> np.ndarray:
    """(N, C, H, W) channels-last as (N, H, W, C)."""
    return x.detach().permute(0, 2, 3, 1).numpy()


def _over_images(kernel: Callable[..., None], images: int, *arrays: Any) -> None:
    """The kernel on all images, in as many threads as torch has; nothing depends on their number."""
    threads = min(torch.get_num_threads(), images)
    if threads <= 1:
        kernel(0, images, *arrays)
        return
    ends = [images * k // threads for k in range(threads + 1)]
    list(_pool(os.getpid(), torch.get_num_threads()).map(lambda k: kernel(ends[k], ends[k + 1], *arrays), range(threads)))


@functools.lru_cache(maxsize=1)
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """A process that was forked has none of its parent's threads."""
    return ThreadPoolExecutor(threads)


@_compiled
def _forward(first, last, x, weight, bias, eps, out, moments):  # type: ignore[no-untyped-def]
    """Images ``first`` to ``last`` of x (N, H, W, C) into out (N, H // 2, W // 2, C); moments (2, N, C): mean, 1 / deviation."""
    _, height, width, channels = x.shape
    size = height * width
    total, row = np.empty(channels, np.float64), np.empty(channels, np.float32)
    middle, slope = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(first, last):
        total[:] = 0.0
        for i in range(height):
            row[:] = ZERO
            for j in range(width):
                for c in range(channels):
                    row[c] += x[n, i, j, c]
            for c in range(channels):  # a row's sum is in float32, an image's in float64
                total[c] += row[c]
        for c in range(channels):
            middle[c] = total[c] / size
        total[:] = 0.0
        for i in range(height):
            row[:] = ZERO
            for j in range(width):
                for c in range(channels):
                    centred = x[n, i, j, c] - middle[c]
                    row[c] += centred * centred
            for c in range(channels):
                total[c] += row[c]
        for c in range(channels):
            scale = np.float32(1 / np.sqrt(total[c] / size + eps))
            slope[c] = scale * weight[c]
            moments[0, n, c], moments[1, n, c] = middle[c], scale
        for i in range(height // 2):
            for j in range(width // 2):
                for c in range(channels):
                    a = _active(x[n, 2 * i, 2 * j, c], middle[c], slope[c], bias[c])
                    b = _active(x[n, 2 * i, 2 * j + 1, c], middle[c], slope[c], bias[c])
                    d = _active(x[n, 2 * i + 1, 2 * j, c], middle[c], slope[c], bias[c])
                    e = _active(x[n, 2 * i + 1, 2 * j + 1, c], middle[c], slope[c], bias[c])
                    out[n, i, j, c] = QUARTER * ((a + b) + (d + e))


@_compiled
def _active(value, middle, slope, shift):  # type: ignore[no-untyped-def]
    y = (value - middle) * slope + shift
    return ZERO if y < ZERO else y


@_compiled
def _backward(first, last, x, weight, bias, moments, grad, inner, own):  # type: ignore[no-untyped-def]
    """The gradient by x, and of every image those by weight and bias, own (2, N, C), from that by the output."""
    _, height, width, channels = x.shape
    size = height * width
    rows, columns = height // 2, width // 2
    total, row = np.empty((2, channels), np.float64), np.empty((2, channels), np.float32)
    slope, even, along = np.empty(channels, np.float32), np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(first, last):
        middle, scale = moments[0, n], moments[1, n]
        for c in range(channels):
            slope[c] = scale[c] * weight[c]
        total[:] = 0.0
        for i in range(2 * rows):
            row[:] = ZERO
            for j in range(2 * columns):
                for c in range(channels):
                    centred = x[n, i, j, c] - middle[c]
                    g = _passed(grad[n, i // 2, j // 2, c], centred, slope[c], bias[c])
                    row[0, c] += g
                    row[1, c] += g * centred
            for c in range(channels):
                total[0, c] += row[0, c]
                total[1, c] += row[1, c]
        for c in range(channels):
            own[0, n, c], own[1, n, c] = total[1, c] * scale[c], total[0, c]
            even[c], along[c] = total[0, c] / size, total[1, c] * scale[c] * scale[c] / size
        for i in range(height):
            for j in range(width):
                if i < 2 * rows and j < 2 * columns:
                    for c in range(channels):
                        centred = x[n, i, j, c] - middle[c]
                        g = _passed(grad[n, i // 2, j // 2, c], centred, slope[c], bias[c])
                        inner[n, i, j, c] = slope[c] * (g - even[c] - centred * along[c])
                else:  # no pool covers it
                    for c in range(channels):
                        inner[n, i, j, c] = slope[c] * (-even[c] - (x[n, i, j, c] - middle[c]) * along[c])


@_compiled
def _passed(gradient, centred, slope, shift):  # type: ignore[no-untyped-def]
    """What pool and ReLU let through to a pixel."""
    return ZERO if centred * slope + shift <= ZERO else QUARTER * gradient
