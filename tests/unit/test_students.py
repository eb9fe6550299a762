import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.protocols import PROTOCOLS
from limbeck.settings import Crop, CutMix, Flip, MixUp, Settings, Shift
from limbeck.students.augmentation import APPLY, cutmix_box
from limbeck.students.evaluation import predict
from limbeck.students.registry import build
from limbeck.students.training import make_optimiser, train
from limbeck.students.views import Views


def said_nothing(*_):
    """No report."""


def sets(rng, images=40, classes=4, size=16, channels=1):
    return rng.integers(0, 256, (images, size, size, channels), dtype=np.uint8), np.arange(images) % classes


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("schedule", ["cosine", "half_cosine", "milestones"])
@pytest.mark.parametrize("by", ["step", "epoch"])
def test_training_equals_an_independently_written_loop(schedule, by):
    """SGD with momentum and weight decay by hand, in float64; two batches an epoch, the second of fewer images."""
    rng = np.random.default_rng(0)
    images, labels = sets(rng, 12, 3, 8)
    settings = Settings(batch_size=8, lr=0.1, weight_decay=0.01, epochs=6, schedule=schedule, schedule_by=by, normalise="half")
    made = []

    def build_linear():
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        made.append([p.detach().clone().double() for p in model.parameters()])
        return model

    trained = train(build_linear, images, labels, settings, 3, 1, said_nothing)
    w, b = (p.requires_grad_(True) for p in made[0])
    x, y = torch.from_numpy(images.astype(float) / 127.5 - 1).permute(0, 3, 1, 2).flatten(1), torch.from_numpy(labels)
    velocity = [torch.zeros_like(w), torch.zeros_like(b)]
    views = Views(settings, 12, 3, 1)
    for epoch in range(6):
        seen = []
        for number, batch in enumerate(views.epoch(epoch)):
            now, last = (2 * epoch + number, 12) if by == "step" else (epoch, 6)
            factor = {
                "cosine": 0.5 * (1 + np.cos(np.pi * now / last)),
                "half_cosine": 0.5 * (1 + np.cos(np.pi * now / last / 2)),
                "milestones": 1 if now < 2 * last // 3 else 0.2 if now < 5 * last // 6 else 0.04,
            }[schedule]
            rows = torch.from_numpy(batch.rows)
            seen += batch.rows.tolist()
            grads = torch.autograd.grad(F.cross_entropy(x[rows] @ w.T + b, y[rows]), (w, b))
            for i, (p, g) in enumerate(zip((w, b), grads, strict=True)):
                velocity[i] = 0.9 * velocity[i] + g + 0.01 * p.detach()
                p.data -= 0.1 * factor * velocity[i]
        assert sorted(seen) == list(range(12))
    for ours, theirs in zip(trained.parameters(), (w, b), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "size"),
    [
        ("convnet3-w32", 16),
        *(pytest.param(name, 256, marks=pytest.mark.long) for name in ("convnet6", "resnetap10", "resnet18-in")),
    ],
)
def test_one_step_under_minimax_equals_one_written_out(student, size):
    """A fixed batch, whose views are drawn once and mixed by hand; labels of both images of a mixture; in float64."""
    images, labels = sets(np.random.default_rng(1), 6, 3, size, 3)
    settings = PROTOCOLS["minimax-hard-256"].settings(2, 3, "convnet").model_copy(update={"epochs": 1})

    def make():
        return build(student, 3, 3, size)

    made = []
    trained = train(lambda: made.append(make()) or copy.deepcopy(made[0]), images, labels, settings, 5, 2, said_nothing)
    (batch,) = Views(settings, 6, 5, 2).epoch(0)
    x = torch.from_numpy(images[batch.rows]).permute(0, 3, 1, 2).float() / 255
    for options, u in zip(settings.augment, batch.numbers, strict=True):
        x = APPLY[options.kind](x, u, options)
    top, bottom, left, right = cutmix_box(batch.mix[0], batch.mix[1:], size, size)
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    x = torch.where(inside, x[batch.other], x)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    model, y = made[0].double(), torch.from_numpy(labels[batch.rows])
    one_hot = torch.eye(3, dtype=torch.float64)
    kept = 1 - inside.double().mean()
    target = kept * one_hot[y] + (1 - kept) * one_hot[y[batch.other]]
    loss = -(target * F.log_softmax(model(x.double()), 1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for ours, before, gradient in zip(trained.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours.double(), before - 0.01 * (gradient + 5e-4 * before), atol=1e-5, rtol=1e-4)


def test_adamw_decays_matrices_alone_where_it_is_said_to():
    settings = PROTOCOLS["rded-soft"].settings(10, 4, "convnet").model_copy(update={"epochs": 1})
    optimiser = make_optimiser(build("convnet3-w32", 1, 4, 16), settings)
    decays = {p.ndim > 1: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {True: 0.01, False: 0.0}


def test_the_same_stream_gives_the_same_student_and_another_repeat_another():
    images, labels = sets(np.random.default_rng(0))
    settings = Settings(
        batch_size=10,
        lr=0.02,
        weight_decay=5e-4,
        epochs=2,
        augment=(Shift(pixels=2), Flip(), Crop()),
        mix=CutMix(),
        normalise="half",
    )
    make = lambda repeat: train(lambda: build("convnet3-w32", 1, 4, 16), images, labels, settings, 0, repeat, said_nothing)  # noqa: E731
    a, b, c = make(0), make(0), make(1)
    assert equal(a, b)
    assert not equal(a, c)
    assert predict(a, images, "half").shape == (40,)


class Dropping(torch.nn.Module):
    """Norms with statistics and dropout: both must survive an interruption."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout())
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_resumed_training_ends_as_one_that_was_never_stopped(optimiser):
    images, labels = sets(np.random.default_rng(0))
    settings = Settings(
        batch_size=16, lr=0.01, weight_decay=0.01, epochs=7, optimiser=optimiser, augment=(Crop(),), mix=MixUp(), evaluations=3
    )
    states = []
    watch = lambda epoch, model, state: states.append(copy.deepcopy(state()))  # noqa: ARG005, E731
    whole = train(Dropping, images, labels, settings, 1, 0, said_nothing, watch=watch)
    assert [state["epoch"] for state in states] == [2, 5, 7]
    torch.rand(3)  # no global state may matter
    again = train(Dropping, images, labels, settings, 1, 0, said_nothing, resume=states[1])
    assert equal(whole, again)


def test_a_nan_loss_names_the_epoch():
    images, labels = np.full((10, 8, 8, 1), 255, np.uint8), np.arange(10) % 2
    settings = Settings(batch_size=10, lr=1e30, weight_decay=0, epochs=50, normalise="half")

    def explosive():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 2))

    with pytest.raises(FloatingPointError, match=r"at epoch \d+ of 50 \(learning rate"):
        train(explosive, images, labels, settings, 0, 0, said_nothing)
