"""Sets that are read a batch at a time are the sets that are read whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.artifacts import DISTILLED
from limbeck.protocols import PROTOCOLS
from limbeck.rows import Rows, ahead
from limbeck.stages.classifiers import read_set
from limbeck.store import create
from limbeck.students.evaluation import predict
from limbeck.students.registry import build
from limbeck.students.training import train

SIDE = 20


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three of different lengths, the last of one image."""
    rng, paths = np.random.default_rng(), []
    for number, count in enumerate((1500, 7, 1)):
        path = tmp_path_factory.mktemp("shards") / f"{number}.zarr.zip"
        images, labels = rng.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8), np.full(count, number, np.int32)
        with create(path, DISTILLED, {"images": images.shape, "labels": labels.shape}, {}, {}, classes=["a", "b", "c"]) as out:
            out.append("images", images)
            out.append("labels", labels)
        paths.append(path)
    return paths


def settings(size: int | None, **changes):
    return PROTOCOLS["smoke"].settings(10, 3, "convnet").model_copy(update={"size": size, **changes})


@pytest.mark.parametrize("size", [None, 12])
def test_any_rows_are_those_of_the_whole(shards, size):
    whole, labels = read_set(shards, settings(size))
    rows, same = read_set(shards, settings(size), held=1000)
    assert isinstance(whole, np.ndarray)
    assert isinstance(rows, Rows)
    assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(whole))
    assert np.array_equal(labels, same)
    rng = np.random.default_rng()
    for wanted in (
        rng.integers(0, len(whole), 40),
        rng.permutation(len(whole)),
        np.array([1507, 0, 1506, 0]),
        rng.integers(0, 9, 0),
    ):
        assert np.array_equal(rows[wanted], whole[wanted])
    for wanted in (slice(0, 0), slice(1490, 1510), slice(None), slice(5, 9)):
        assert np.array_equal(rows[wanted], whole[wanted])
    assert rows.at(8).shape == (1508, 8, 8, 1)
    some = rng.permutation(len(whole))[:50]
    assert rows.of(some).shape == whole[some].shape
    assert np.array_equal(rows.of(some).of(np.arange(9, 3, -1))[:], whole[some[9:3:-1]])


def test_batches_come_in_order_and_a_failure_reaches_the_reader(shards):
    rows, _ = read_set(shards, settings(None), held=1000)
    batches = [np.random.default_rng().integers(0, len(rows), n) for n in (5, 1, 40, 3, 3, 3, 3, 3, 3, 1)]
    found = list(ahead(rows, iter(batches), lambda batch: batch))
    assert all(np.array_equal(rows[batch], images) for batch, images in found)
    assert [id(batch) for batch, _ in found] == [id(batch) for batch in batches]
    with pytest.raises(IndexError):
        list(ahead(rows, [np.array([0]), np.array([len(rows)])], lambda batch: batch))


def test_a_student_is_the_same(shards):
    given = settings(16, steps=None, epochs=2, batch_size=600)
    trained = []
    for held in (10**9, 1000):
        images, labels = read_set(shards, given, held=held)
        model = train(lambda: build("convnet3-w32", 1, 3, 16), images, labels, given, 3, 1, lambda *_: None)
        trained.append((model.state_dict(), predict(model, images, given.normalise)))
    (one, seen), (other, same) = trained
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert np.array_equal(seen, same)
