"""What a student sees: the order of images, their augmented views and the mixing of batches, from counter-based streams.

An epoch's numbers depend on (seed, repeat, epoch) alone, an image's on its row too. So a training that is resumed goes on as if it
had never stopped, and a teacher that labels in a job of its own labels exactly what the student will see.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.seeds import stream
from limbeck.settings import Settings
from limbeck.students.augmentation import APPLY, DRAWS, mixed


@dataclass(frozen=True)
class Batch:
    """rows: (b,) images. numbers: (b, k) uniforms of every augmentation. other: (b,) whom each is mixed with, places in the batch;
    mix: 3 uniforms."""

    rows: np.ndarray
    numbers: tuple[np.ndarray, ...]
    other: np.ndarray
    mix: np.ndarray


class Views:
    """The epochs of one training of ``images`` images."""

    def __init__(self, settings: Settings, images: int, seed: int, repeat: int):
        self.settings, self.images, self.seed, self.repeat = settings, images, seed, repeat
        self.batch_size = min(settings.batch_size, images)
        self.per_epoch = images // self.batch_size if settings.drop_last else math.ceil(images / self.batch_size)
        self.steps = settings.steps or (settings.epochs or 0) * self.per_epoch
        self.epochs = math.ceil(self.steps / self.per_epoch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0; the last one may have fewer, so that all take ``steps``."""
        order = self._stream("order", epoch).permutation(self.images)
        numbers = [
            self._stream(f"{place}.{options.kind}", epoch).random((self.images, DRAWS[options.kind](options)))
            for place, options in enumerate(self.settings.augment)
        ]
        batches = min(self.per_epoch, self.steps - epoch * self.per_epoch)
        mixing = self.settings.mix is not None
        keys = self._stream("other", epoch).random(self.images if mixing else 0)
        mixes = self._stream("mix", epoch).random((batches if mixing else 0, 3))
        for b in range(batches):
            rows = order[b * self.batch_size : (b + 1) * self.batch_size]
            other, mix = (keys[rows].argsort(), mixes[b]) if mixing else (rows[:0], rows[:0])
            yield Batch(rows, tuple(each[rows] for each in numbers), other, mix)

    def _stream(self, what: str, epoch: int) -> np.random.Generator:
        return stream(self.seed, f"train.{what}", item=self.repeat, step=epoch)

    def seen(self, x: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """The batch's images (b, C, H, W) on [0, 1] as the student sees them, and the share of each that is its own."""
        for options, u in zip(self.settings.augment, batch.numbers, strict=True):
            x = APPLY[options.kind](x, u, options)
        if self.settings.mix is None:
            return x, 1.0
        return mixed(x, x[torch.from_numpy(batch.other)], batch.mix, self.settings.mix)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        by_step = self.settings.schedule_by == "step"
        now, last = (step, self.steps) if by_step else (step // self.per_epoch, self.epochs)
        if self.settings.schedule == "milestones":
            return self.settings.lr * 0.2 ** sum(now >= max(1, of) for of in (2 * last // 3, 5 * last // 6))
        half = 2 if self.settings.schedule == "half_cosine" else 1
        return self.settings.lr * 0.5 * (1 + math.cos(math.pi * now / (half * last)))

    def evaluated(self) -> list[int]:
        """After how many epochs the student is tested; the last is all of them."""
        times = min(self.settings.evaluations, self.epochs)
        return sorted({round(self.epochs * (k + 1) / times) for k in range(times)})
