"""How long jobs take that wait for each other: their longest chain, and all of them on so many cores and GPUs."""

import heapq
from collections.abc import Sequence
from graphlib import TopologicalSorter

import numpy as np

After = Sequence[Sequence[int]]


def remaining(seconds: np.ndarray, after: After) -> tuple[np.ndarray, np.ndarray]:
    """(J,) seconds from a job's start to the end of the longest chain behind it, and (J,) that chain's next job, -1 at its end.

    Parameters
    ----------
    seconds: (J,) of every job. after: per job those that it waits for.

    Raises
    ------
    graphlib.CycleError: jobs wait for each other in a circle.
    """
    order = list(TopologicalSorter(dict(enumerate(after))).static_order())
    left, following = np.array(seconds, float), np.full(len(seconds), -1)
    for job in reversed(order):
        for before in after[job]:
            if seconds[before] + left[job] > left[before] or following[before] < 0:
                left[before], following[before] = seconds[before] + left[job], job
    return left, following


def levels(after: After) -> np.ndarray:
    """(J,) of every job how many wait for each other before it, at most."""
    found = np.zeros(len(after), int)
    for job in TopologicalSorter(dict(enumerate(after))).static_order():
        found[job] = 1 + max((found[before] for before in after[job]), default=-1)
    return found


def critical_path(seconds: np.ndarray, after: After) -> list[int]:
    """The longest chain of jobs, in their order; empty of none."""
    if not len(seconds):
        return []
    left, following = remaining(seconds, after)
    path = [int(left.argmax())]
    while following[path[-1]] >= 0:
        path.append(int(following[path[-1]]))
    return path


def makespan(seconds: np.ndarray, after: After, threads: np.ndarray, gpu: np.ndarray, cores: int, gpus: int) -> float:
    """Seconds until the last job ends where each starts as soon as it can, those with the longest chain behind them first.

    Parameters
    ----------
    seconds: (J,). after: per job those that it waits for. threads: (J,) cores that it takes, at most ``cores``. gpu: (J,) bool,
    whether it takes one of the ``gpus``.
    """
    left, _ = remaining(seconds, after)
    waits, behind = [len(set(jobs)) for jobs in after], [[] for _ in after]  # type: list[int], list[list[int]]
    for job, jobs in enumerate(after):
        for before in set(jobs):
            behind[before].append(job)
    ready: dict[tuple[int, int], list[tuple[float, int]]] = {}  # (cores, GPUs) that jobs take -> those that could start

    def add(job: int) -> None:
        heapq.heappush(ready.setdefault((int(threads[job]), int(gpu[job])), []), (-left[job], job))

    for job, count in enumerate(waits):
        if not count:
            add(job)
    now, running = 0.0, []  # type: float, list[tuple[float, int]]
    while True:
        fitting = [queue for (c, g), queue in ready.items() if queue and c <= cores and g <= gpus]
        if fitting:
            _, job = heapq.heappop(min(fitting))
            cores, gpus = cores - int(threads[job]), gpus - int(gpu[job])
            heapq.heappush(running, (now + float(seconds[job]), job))
        elif running:
            now, job = heapq.heappop(running)
            cores, gpus = cores + int(threads[job]), gpus + int(gpu[job])
            for other in behind[job]:
                waits[other] -= 1
                if not waits[other]:
                    add(other)
        else:
            if any(ready.values()):
                raise ValueError("a job takes more cores or GPUs than there are")
            return now
