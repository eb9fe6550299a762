"""Tangent spaces while the network computes on a device of its own: what does not depend on x_t is made ahead by the CPU's threads,
and what does is computed on the device, for a whole batch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from limbeck.diffusion.levels import Level
from limbeck.geometry.batched import nearest, tangents
from limbeck.geometry.patch import Patch, neighbour_count
from limbeck.guidance.base import Step
from limbeck.guidance.manifold import CachedTangents, stacked

T = TypeVar("T")
STEPS = 2  # made ahead
MEMORY = 2 << 30  # bytes of what is computed at once on the device


class Queue(Generic[T]):
    """``job(row, step)`` of every image at the steps of a grid, in threads, a few steps ahead of the one that is asked for.

    Each is done once, to the same result in any order.
    """

    def __init__(self, job: Callable[[int, Step], T], rows: int, grid: Sequence[Level], guided: int, workers: int):
        self.job, self.rows, self.grid, self.guided = job, rows, grid, min(guided, len(grid) - 1)
        self.pool = ThreadPoolExecutor(workers, "tangents")
        self.begun: dict[int, list[Future[T]]] = {}

    def take(self, step: Step) -> list[T]:
        """A step's results; steps are asked for in their order."""
        for index in range(step.index, min(step.index + 1 + STEPS, self.guided)):
            if index not in self.begun:
                at = Step(index, step.steps, self.grid[index])
                self.begun[index] = [self.pool.submit(self.job, row, at) for row in range(self.rows)]
        found = [future.result() for future in self.begun.pop(step.index)]
        if step.index + 1 >= self.guided:
            self.pool.shutdown(wait=False)
        return found


class Ahead:
    """Cached planes, bit for bit, but lifted ahead. grid: the levels of the solver's steps."""

    def __init__(self, cached: CachedTangents, grid: Sequence[Level], workers: int):
        self.queue = Queue(cached.plane, len(cached), grid, cached.neighbours.shape[1], workers)

    def __call__(self, step: Step, x_t: Tensor) -> tuple[Tensor, Tensor]:
        return stacked(self.queue.take(step), x_t)


class BatchedTangents:
    """Planes at the actual x_t as ``OnlineTangents`` finds them with ``eigensolver: subspace``, on the device of x_t.

    patches: of as many points each. options: TangentOptions.
    """

    def __init__(self, patches: Sequence[Patch], options: dict[str, Any], grid: Sequence[Level], workers: int):
        self.patches, self.options, self.counts = patches, options, patches[0].counts
        self.noisy = options["estimator"] == "monte_carlo"
        self.queue = Queue(self._noise, len(patches), grid, len(self.counts), workers) if self.noisy else None
        self.points: Tensor | None = None  # on the device, since its first call

    @staticmethod
    def fits(patches: Sequence[Patch], options: dict[str, Any]) -> bool:
        """Whether the patches are of one size at every step, and the solver is one that batches."""
        return options["eigensolver"] == "subspace" and all(np.array_equal(patch.counts, patches[0].counts) for patch in patches)

    def __call__(self, step: Step, x_t: Tensor) -> tuple[Tensor, Tensor]:
        if self.points is None:
            self.points = torch.from_numpy(np.stack([patch.points for patch in self.patches])).to(x_t)
        count, dims = int(self.counts[step.index]), self.points.shape[2]
        k = neighbour_count(self.options["k"], count, self.options["d"])
        noise = self.queue.take(step) if self.queue else None
        group = max(1, MEMORY // (16 * count * dims))
        bases, means = [], []
        for start in range(0, len(self.patches), group):
            rows = slice(start, start + group)
            cloud = self._cloud(step, rows, None if noise is None else torch.stack(noise[rows]).to(x_t))
            found = tangents(self._near(cloud, x_t[rows].flatten(1), step.level, k), self.options["d"], self.options["tolerance"])
            bases.append(found.basis)
            means.append(found.mean if self.noisy else found.mean * step.level.alpha)
        return torch.cat(bases), torch.cat(means)

    def _near(self, cloud: Tensor, x_t: Tensor, level: Level, k: int) -> Tensor:
        """As ``patch.local_rows``."""
        if self.noisy:
            return nearest(cloud, x_t, k)
        return nearest(cloud, x_t / level.alpha, k) if level.alpha else cloud[:, :k]

    def _cloud(self, step: Step, rows: slice, noise: Tensor | None) -> Tensor:
        """As ``Patch.at``: (n, P_t, D) of some images."""
        assert self.points is not None
        own, clean = self.patches[rows], self.points[rows, : int(self.counts[step.index])]
        if not len(own[0].rows):
            centres, radii = (
                np.stack([value(patch) for patch in own]) for value in (lambda p: p.centre, lambda p: p.radii[step.index])
            )
            clean = torch.from_numpy(centres).to(clean)[:, None] + torch.from_numpy(radii).to(clean)[:, None, None] * clean
        return clean if noise is None else step.level.alpha * clean + step.level.sigma * noise

    def _noise(self, row: int, step: Step) -> Tensor:
        return torch.from_numpy(self.patches[row].noise(step.index))
