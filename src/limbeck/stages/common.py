"""What several stages share: reading shards, recorded parameters, progress, worker processes."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from limbeck.artifacts import DISTILLED, Schema
from limbeck.errors import LimbeckError
from limbeck.records import NOT_PARAMS
from limbeck.store import Artifact, create

Spec = Mapping[str, Any]
T = TypeVar("T")
LEFT_OUT = "left_out"  # attribute: source ids of images that could not be decoded


def params(spec: Spec, *without: str) -> dict[str, Any]:
    """The spec's parameters as recorded in an artifact."""
    return {key: value for key, value in spec.items() if key not in (*NOT_PARAMS, *without)}


def header_of(artifact: Artifact) -> dict[str, Any]:
    """What every artifact made of another says as that one does: class names, which of them it has, and the images left out."""
    return {key: artifact.attrs[key] for key in ("classes", "class_range", LEFT_OUT) if key in artifact.attrs}


def left_out_of(parts: Sequence[Artifact]) -> dict[str, list[str]]:
    """The attribute for what is made of several shards; none where they have none."""
    names = sorted({name for part in parts for name in part.attrs.get(LEFT_OUT, [])})
    return {LEFT_OUT: names} if names else {}


def same_rows(*artifacts: Artifact) -> None:
    """Refuse artifacts whose rows are not those of the same images.

    Each view of a dataset is ingested by itself: where a file was repaired in between, one has left it out and the other has not.
    """
    first, *others = artifacts
    for other in others:
        if first.attrs.get(LEFT_OUT, []) != other.attrs.get(LEFT_OUT, []):
            names = sorted(set(first.attrs.get(LEFT_OUT, [])) ^ set(other.attrs.get(LEFT_OUT, [])))
            raise LimbeckError(
                f"{first.path} and {other.path} are not of the same images: {names[0]!r} was left out of one alone (a file changed "
                "between two runs of ingest); delete the dataset's images/ folders of all views and run again"
            )


def class_rows(labels: np.ndarray) -> Iterator[tuple[int, slice]]:
    """(class, rows) of class-major labels."""
    classes, starts = np.unique(labels, return_index=True)
    for label, start, stop in zip(classes, starts, [*starts[1:], len(labels)], strict=True):
        yield int(label), slice(int(start), int(stop))


def by_class(distilled: Sequence[Path]) -> Iterator[tuple[int, np.ndarray]]:
    """(class, its images) of a distilled set's shards, one class in memory."""
    for path in distilled:
        with Artifact(path, DISTILLED) as shard:
            for label, rows in class_rows(shard["labels"]):
                yield label, shard.read("images", rows.start, rows.stop)


def read_class(points: Artifact, rows: slice) -> np.ndarray:
    """A class's latents, its features, or its coordinates in an embedding, as float32 (N, D)."""
    name = next(name for name in ("latents", "features", "coordinates") if name in points)
    found = points.read(name, rows.start, rows.stop).astype(np.float32)
    return found.reshape(len(found), -1)


def read_all(paths: Sequence[Path | str], schema: Schema | None, *names: str) -> list[np.ndarray]:
    """The named arrays, concatenated over shards in class order: in memory once, and a shard's beside them."""
    with ExitStack() as stack:
        shards = [stack.enter_context(Artifact(path, schema)) for path in paths]
        return [_joined(shards, name) for name in names]


def _joined(shards: Sequence[Artifact], name: str) -> np.ndarray:
    first = shards[0][name]
    if len(shards) == 1:
        return first
    out = np.empty((sum(shard.shape(name)[0] for shard in shards), *first.shape[1:]), first.dtype)
    at = 0
    for number, shard in enumerate(shards):
        part = shard[name] if number else first
        out[at : at + len(part)] = part
        at += len(part)
    return out


def write_joined(
    path: Path,
    schema: Schema,
    parts: Mapping[str, Sequence[np.ndarray]],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
    digests: Mapping[str, str] | None = None,
    **header: Any,
) -> None:
    """An artifact of arrays that were gathered class by class."""
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    with create(path, schema, shapes, params, inputs, digests, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)


def classes_of(path: Path | str) -> list[str]:
    """Class names in canonical order."""
    with Artifact(path) as artifact:
        return list(artifact.attrs["classes"])


def resize_to(images: np.ndarray, size: int) -> np.ndarray:
    """Images (N, H, W, C) at another side, by Lanczos; untouched where they have it."""
    if images.shape[1] == size:
        return images
    from limbeck.data.preprocessing import resized

    return np.stack([resized(image, size) for image in images])


@contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """A callback (done, total, loss=None): a bar on a terminal, a plain line at every tenth elsewhere."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns) as bar:
            task = bar.add_task(what, total=None, note="")

            def show(done: int, total: int, loss: float | None = None) -> None:
                bar.update(task, completed=done, total=total, note="" if loss is None else f"loss {loss:.4f}")

            yield show
        return
    last = -1

    def line(done: int, total: int, loss: float | None = None) -> None:
        nonlocal last
        tenth = 10 * done // max(1, total)
        if tenth != last:
            last = tenth
            print(f"{what}: {done}/{total}" + ("" if loss is None else f" loss {loss:.5f}"), file=sys.stderr, flush=True)

    yield line


def in_order(function: Callable[..., T], jobs: Sequence[tuple[str, tuple[Any, ...]]], workers: int) -> Iterator[T]:
    """``function(*arguments)`` of every job (name, arguments), in the jobs' order, in as many processes; here if one is enough.

    Workers inherit the pinned threads and standard error, and die with this process. At most ``2 * workers`` results wait.

    Raises
    ------
    LimbeckError: a job's ValueError, or the end of a worker, by the job's name. Other exceptions carry the name as a note.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        for name, arguments in jobs:
            yield _named(name, partial(function, *arguments))
        return
    # fresh processes: OpenMP's threads, and zarr's, do not survive a fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent)
    waiting: deque[tuple[str, Future[T]]] = deque()
    try:
        for name, arguments in jobs:
            # a pool whose worker has ended takes no job either
            waiting.append((name, _named(name, partial(pool.submit, function, *arguments))))
            if len(waiting) > 2 * workers:
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _next(waiting: deque[tuple[str, Future[T]]]) -> T:
    name, future = waiting.popleft()
    return _named(name, future.result)


def _named(name: str, get: Callable[[], T]) -> T:
    try:
        return get()
    except ValueError as error:
        raise LimbeckError(f"{name}: {error}") from None
    except BrokenProcessPool:
        raise LimbeckError(f"{name}, or one beside it: its worker process was killed, perhaps for lack of memory") from None
    except Exception as error:
        error.add_note(name)
        raise


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
