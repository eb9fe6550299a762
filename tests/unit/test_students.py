import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import LimbeckError
from limbeck.protocols import PROTOCOLS, Protocol, get
from limbeck.students.convnet import AveragePool
from limbeck.students.registry import STUDENTS, build
from limbeck.students.training import cutmix, predict, shift_images, to_input, train


@pytest.mark.parametrize("name", STUDENTS)
def test_convnet_has_the_parameters_counted_by_hand(name):
    w = STUDENTS[name].options["width"]
    model = build(name, 1, 10, 32)
    convolutions = (9 * 1 * w + w) + 2 * (9 * w * w + w)
    norms, head = 3 * 2 * w, 10 * (w * 16) + 10
    assert sum(p.numel() for p in model.parameters()) == convolutions + norms + head
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert model.features(torch.zeros(2, 1, 32, 32)).shape == (2, w * 16)


def test_a_size_that_does_not_halve_three_times_is_refused():
    with pytest.raises(LimbeckError, match="30 is not a multiple of 8"):
        build("convnet3-w32", 1, 10, 30)


def test_training_equals_an_independently_written_loop():
    """Full batches, no augmentation: plain SGD with momentum, weight decay and a cosine rate, by hand."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8), np.arange(12) % 3
    protocol = Protocol(steps={None: 5}, batch_size=12, lr=0.1, weight_decay=0.01)
    made = []

    def build_linear():
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        made.append([p.detach().clone().double() for p in model.parameters()])
        return model

    trained = train(build_linear, images, labels, protocol, 5, 3, 1, lambda *_: None)
    w, b = (p.requires_grad_(True) for p in made[0])
    x, y = to_input(images).flatten(1).double(), torch.from_numpy(labels)
    velocity = [torch.zeros_like(w), torch.zeros_like(b)]
    for step in range(5):
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 5))
        grads = torch.autograd.grad(F.cross_entropy(x @ w.T + b, y), (w, b))
        for i, (p, g) in enumerate(zip((w, b), grads, strict=True)):
            velocity[i] = 0.9 * velocity[i] + g + 0.01 * p.detach()
            p.data -= rate * velocity[i]
    for ours, theirs in zip(trained.parameters(), (w, b), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-5)


def test_the_same_stream_gives_the_same_student_and_another_repeat_another():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 16, 16, 1), dtype=np.uint8), np.arange(40) % 4
    protocol = Protocol(steps={None: 6}, batch_size=10, lr=0.02, shift=2, flip=True, cutmix=1.0)
    make = lambda item: train(lambda: build("convnet3-w32", 1, 4, 16), images, labels, protocol, 6, 0, item, lambda *_: None)  # noqa: E731
    a, b, c = make(0), make(0), make(1)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))
    assert predict(a, images).shape == (40,)


def test_shift_translates_whole_images():
    x = torch.arange(2 * 36, dtype=torch.float32).view(2, 1, 6, 6)
    out = shift_images(x, 2, torch.Generator().manual_seed(0))
    for before, after in zip(x[:, 0], out[:, 0], strict=True):
        padded = F.pad(before, (2,) * 4, value=-1.0)
        assert any(torch.equal(after, padded[i : i + 6, j : j + 6]) for i in range(5) for j in range(5))


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_cutmix_keeps_the_share_it_says(alpha):
    generator = torch.Generator().manual_seed(1)
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 12, 12)
    for _ in range(40):
        mixed, other, kept = cutmix(x, torch.arange(5), alpha, generator)
        for i in range(5):
            own = (mixed[i] == i).float().mean().item()
            assert own == pytest.approx(1.0 if other[i] == i else kept)
            assert set(mixed[i].unique().tolist()) <= {float(i), float(other[i])}


def test_a_nan_loss_names_the_step():
    images, labels = np.zeros((10, 8, 8, 1), np.uint8), np.arange(10) % 2
    protocol = Protocol(steps={None: 50}, batch_size=10, lr=1e30)

    def explosive():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 2))

    with pytest.raises(FloatingPointError, match=r"at step \d+ of 50 \(learning rate"):
        train(explosive, images, labels, protocol, 50, 0, 0, lambda *_: None)


def test_protocol_steps_follow_the_ipc():
    protocol = PROTOCOLS["tiny-hard"]
    assert [protocol.steps_for(i) for i in (1, 2, 10, 11, 50, 51, 500)] == [1000, 1200, 1200, 1500, 1500, 4000, 4000]
    with pytest.raises(LimbeckError, match="choose one of"):
        get("hard", "run.protocols")


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 10), (3, 1, 2, 3)])
def test_average_pool_is_torchs(shape):
    x = torch.randn(shape, requires_grad=True)
    ours, theirs = AveragePool(shape[1])(x), F.avg_pool2d(x, 2)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(theirs)
    torch.testing.assert_close(*(torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)))
