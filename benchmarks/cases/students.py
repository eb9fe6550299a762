"""Training of students, and their soft labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cases.base import SEED, Case, close


def student(steps: int) -> Case:
    """ConvNet-3 of width 32 on 100 images of 32 x 32 in batches of 25, beside torch's own layers and optimiser, every image shifted
    by itself.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    from limbeck import protocols
    from limbeck.students.augmentation import mixed
    from limbeck.students.inputs import normalised, pixels
    from limbeck.students.registry import build
    from limbeck.students.training import train
    from limbeck.students.views import Views

    settings = protocols.get("tiny-hard", "").settings(10, 10, "convnet").model_copy(update={"steps": steps})
    rng = np.random.default_rng(SEED)
    images, labels = rng.integers(0, 256, (100, 32, 32, 1), dtype=np.uint8), np.arange(100) % 10

    first: list[torch.Tensor] = []  # weights, from which the reference starts too

    def built() -> nn.Module:
        model = build("convnet3-w32", 1, 10, 32)
        first[:] = [p.detach().clone() for p in model.parameters()]
        return model

    def ours() -> nn.Module:
        return train(built, images, labels, settings, SEED, 0, lambda *_: None)

    def shifted(image: torch.Tensor, u: np.ndarray) -> torch.Tensor:
        dy, dx = (int(np.floor(v * 5)) for v in u)
        return F.pad(image, (2, 2, 2, 2))[:, dy : dy + 32, dx : dx + 32]

    def plain() -> nn.Module:
        width, layers = 32, []
        for channels in (1, width, width):
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            layers += [convolution, nn.GroupNorm(width, width), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, 10))
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), first, strict=True):
                parameter.copy_(value)
        views, decay = Views(settings, len(images), SEED, 0), settings.weight_decay
        optimiser = torch.optim.SGD(model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=decay)
        every, y = pixels(images), torch.from_numpy(labels)
        for epoch in range(views.epochs):
            for number, batch in enumerate(views.epoch(epoch)):
                x = torch.stack([shifted(every[row], u) for row, u in zip(batch.rows, batch.numbers[0], strict=True)])
                assert settings.mix is not None
                x, kept = mixed(x, x[torch.from_numpy(batch.other)], batch.mix, settings.mix)
                own = y[torch.from_numpy(batch.rows)]
                logits = model(normalised(x, settings.normalise))
                other = own[torch.from_numpy(batch.other)]
                loss = kept * F.cross_entropy(logits, own) + (1 - kept) * F.cross_entropy(logits, other)
                for group in optimiser.param_groups:
                    group["lr"] = views.rate(epoch * views.per_epoch + number)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return model

    def learned(a: nn.Module, b: nn.Module) -> bool:
        return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    return Case(ours, plain, "torch's layers and SGD, an image's view at a time", learned, None)


def soft_labels(images: int) -> Case:
    """An epoch's labels of 1,000 classes, read as they are stored, beside the teacher (ConvNet-3 of width 32) asked again."""
    import torch

    from limbeck.students.labels import Cached, pack, teacher_logits
    from limbeck.students.registry import build
    from limbeck.students.views import Batch

    torch.manual_seed(SEED)
    teacher, x = _Teacher(build("convnet3-w32", 1, 1000, 32).eval()), torch.rand(images, 1, 32, 32)
    stored = pack(teacher_logits([teacher], x, 20.0), None, 20.0)
    rows = np.arange(images)
    batch, cached = Batch(rows, (), rows[:0], rows[:0]), Cached(lambda epoch: stored, 1000)  # noqa: ARG005
    ask = lambda: teacher_logits([teacher], x, 20.0)  # noqa: E731
    return Case(lambda: cached(0, batch, x), ask, "the teacher asked", lambda a, b: close(a, b, 2e-3), 0.0, 6.0 * images * 1000)


def soft_training(steps: int) -> Case:
    """As ``student``, learning labels of a teacher (ConvNet-3) that are stored, beside the same training with the teacher asked in
    every step.
    """
    import torch
    from torch import nn

    from limbeck import protocols
    from limbeck.students.inputs import pixels
    from limbeck.students.labels import Cached, Labels, Online, Packed
    from limbeck.students.registry import build
    from limbeck.students.training import train
    from limbeck.students.views import Views

    settings = protocols.get("tiny-soft", "").settings(10, 10, "convnet").model_copy(update={"steps": steps})
    rng = np.random.default_rng(SEED)
    images, labels = rng.integers(0, 256, (100, 32, 32, 1), dtype=np.uint8), np.arange(100) % 10
    torch.manual_seed(SEED)
    online = Online([_Teacher(build("convnet3", 1, 10, 32).eval())], 10, settings.top_k, settings.temperature)
    views, every = Views(settings, len(images), SEED, 0), pixels(images)

    def seen(epoch: int) -> Packed:
        """An epoch's labels, as the stage stores them."""
        found: Packed = {}
        for batch in views.epoch(epoch):
            x, _ = views.seen(every[torch.from_numpy(batch.rows)], batch)
            for name, values in online.packed(x).items():
                found.setdefault(name, np.zeros((len(images), *values.shape[1:]), values.dtype))[batch.rows] = values
        return found

    stored = [seen(epoch) for epoch in range(views.epochs)]
    run = lambda soft: train(lambda: build("convnet3-w32", 1, 10, 32), images, labels, settings, SEED, 0, lambda *_: None, soft)  # noqa: E731

    def learned(a: nn.Module, b: nn.Module) -> bool:
        return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    cached: Labels = Cached(lambda epoch: stored[epoch], 10)
    return Case(lambda: run(cached), lambda: run(online), "the teacher asked in every step", learned, None)


@dataclass
class _Teacher:
    model: Any
    size: int = 32
    normalise: Any = "half"
