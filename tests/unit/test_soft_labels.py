"""Soft labels: as their teacher gives them, as they are stored, and the students that learn them."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.protocols import PROTOCOLS
from limbeck.settings import CutMix
from limbeck.students.evaluation import confusion, permuted
from limbeck.students.inputs import network_input, normalised, pixels
from limbeck.students.labels import Cached, Online, divergence, pack, teacher_logits, unpack
from limbeck.students.registry import build
from limbeck.students.training import train
from limbeck.students.views import Views


def teacher(seed, classes=4, size=16, normalise="half"):
    torch.manual_seed(seed)
    return SimpleNamespace(model=build("convnet3-w32", 1, classes, size).eval(), size=size, normalise=normalise)


def test_the_loss_is_the_divergence_written_out():
    logits, target = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    p, q = torch.softmax(target / 20, 1), torch.softmax(logits / 20, 1)
    torch.testing.assert_close(divergence(logits, target, 20.0), (p * (p.log() - q.log())).sum() / 5)


def test_several_teachers_give_the_mean_of_their_probabilities():
    x, teachers = torch.rand(3, 1, 16, 16), [teacher(0), teacher(1, normalise="imagenet"), teacher(2)]
    mean = torch.stack([torch.softmax(t.model(normalised(x, t.normalise)) / 20, 1) for t in teachers]).mean(0)
    torch.testing.assert_close(torch.softmax(teacher_logits(teachers, x, 20.0) / 20, 1), mean.detach())
    torch.testing.assert_close(teacher_logits(teachers[:1], x, 20.0), teachers[0].model(normalised(x, "half")).detach())


def test_a_teacher_of_another_size_sees_the_images_at_its_own():
    small, x = teacher(0, size=8), torch.rand(2, 1, 16, 16)
    seen = F.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher_logits([small], x, 1.0), small.model(normalised(seen, "half")).detach())


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1.0, 20.0]))
@settings(max_examples=50, deadline=None)
def test_top_k_keeps_the_largest_and_the_probability_of_the_rest(seed, k, temperature):
    z = torch.from_numpy(np.random.default_rng(seed).normal(0, 4, (3, 12))).float()
    stored = pack(z, k, temperature)
    again = unpack(stored, 12)
    assert {name: values.dtype.name for name, values in stored.items()} == (
        {"logits": "float16"} if k == 12 else {"logits": "float16", "indices": "uint16", "rest": "float16"}
    )
    if k == 12:
        torch.testing.assert_close(again, z.half().float(), atol=0, rtol=0)
        return
    p, q = torch.softmax(z / temperature, 1), torch.softmax(again / temperature, 1)
    best = z.argsort(1, descending=True)
    torch.testing.assert_close(q.gather(1, best[:, :k]), p.gather(1, best[:, :k]), atol=3e-3, rtol=1e-2)
    others = q.gather(1, best[:, k:])
    torch.testing.assert_close(others, others.mean(1, keepdim=True).expand_as(others))
    torch.testing.assert_close(others.sum(1), p.gather(1, best[:, k:]).sum(1), atol=3e-3, rtol=1e-2)


@pytest.mark.parametrize(("top_k", "teachers"), [(None, 1), (2, 1), (None, 2)])
def test_stored_labels_give_the_student_of_the_teacher_that_looks_on(top_k, teachers):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (22, 16, 16, 1), dtype=np.uint8), np.arange(22) % 4
    protocol = (
        PROTOCOLS["rded-soft"]
        .settings(10, 4, "convnet")
        .model_copy(update={"epochs": 4, "batch_size": 8, "top_k": top_k, "temperature": 2.0})
    )
    online = Online([teacher(s) for s in range(teachers)], 4, top_k, 2.0)
    views, stored = Views(protocol, 22, 3, 1), {}
    for epoch in range(views.epochs):
        for batch in views.epoch(epoch):
            for name, values in online.packed(views.seen(pixels(images[batch.rows]), batch)[0]).items():
                stored.setdefault(name, np.zeros((4, 22, *values.shape[1:]), values.dtype))[epoch][batch.rows] = values

    def make(source):
        return train(lambda: build("convnet3-w32", 1, 4, 16), images, labels, protocol, 3, 1, lambda *_: None, soft=source)

    a, b, c = make(online), make(Cached(lambda epoch: {name: values[epoch] for name, values in stored.items()}, 4)), make(None)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


def test_a_student_of_soft_labels_comes_to_agree_with_its_teacher():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16, 1), dtype=np.uint8)
    guide = teacher(4)
    said = guide.model(network_input(images, "half")).argmax(1).numpy()
    protocol = (
        PROTOCOLS["rded-soft"]
        .settings(10, 4, "convnet")
        .model_copy(update={"epochs": 60, "normalise": "half", "temperature": 0.5, "augment": (), "mix": CutMix(alpha=0.1)})
    )
    student = train(
        lambda: build("convnet3-w32", 1, 4, 16),
        images,
        (said + 1) % 4,
        protocol,
        0,
        0,
        lambda *_: None,
        Online([guide], 4, None, 0.5),
    )
    again = copy.deepcopy(student)(network_input(images, "half")).argmax(1).numpy()
    assert (again == said).mean() > 0.9  # whatever the images' own labels are


def test_a_confusion_counts_by_label_and_prediction():
    labels, predicted = np.array([0, 0, 1, 2, 2, 2], np.int32), np.array([0, 2, 1, 2, 0, 0])
    assert confusion(predicted, labels, 4).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("swapped", [[0, 1], [2, 5, 7], list(range(10))])
def test_permuted_classes_are_named_and_a_bad_classifier_is_not_accused(swapped):
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    good = np.where(rng.random(1000) < 0.7, labels, rng.integers(0, 10, 1000))
    assert permuted(good, labels, 10) == []
    assert permuted(rng.integers(0, 10, 1000), labels, 10) == []
    confused = np.where(
        (labels == 3) & (rng.random(1000) < 0.6), 4, good
    )  # one class mostly taken for another, but not the reverse
    assert permuted(confused, labels, 10) == []
    moved = np.arange(10)
    moved[swapped] = np.roll(swapped, 1)
    assert permuted(moved[good], labels, 10) == [(c, int(moved[c])) for c in swapped]
