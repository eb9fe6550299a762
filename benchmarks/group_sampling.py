"""Group sampling for all classes at once against the direct search class by class, and its time and memory at the papers' sizes."""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Line, alone, judged

ROUNDS, SEED = 3, 0
N, D, CANDIDATES, CLASSES = 10, 4096, 800, 50
FEW = 10
# CIFAR-100's and ImageNet's m (D3HR, appendix B); case: (candidates, D, classes)
LARGE = {"large-cifar": (5_000_000, 256, 100), "large-imagenet": (100_000, 4096, 50)}
THREADS = 2


def sigmas(classes: int, dims: int) -> np.ndarray:
    """(C, D) standard deviations like those of inverted latents."""
    return np.random.default_rng(SEED).uniform(0.5, 1.2, (classes, dims))


def direct(mu: np.ndarray, sigma: np.ndarray, candidates: int) -> int:
    """The best candidate of one class as Alg. 1 says: draw z, three statistics per dimension, argmin; vectorised in float32.

    It draws the streams that the shared pool draws, so that the winners can be compared, in chunks that fit the cache.
    """
    from limbeck.seeds import stream
    from limbeck.selection.group import BLOCK

    mu, sigma = mu.astype(np.float32), sigma.astype(np.float32)
    size = max(1, BLOCK // (N * len(mu)))
    losses = []
    for start in range(0, candidates, size):
        shape = (min(size, candidates - start), N, len(mu))
        z = mu + sigma * stream(SEED, "group", 0, start // size).standard_normal(shape, dtype=np.float32)
        off = z - mu
        unit = off / sigma
        mean = (z.mean(axis=1) - mu) ** 2
        sd = (np.sqrt((off * off).mean(axis=1)) - sigma) ** 2
        skew = (np.float32(N / ((N - 1) * (N - 2))) * (unit * unit * unit).sum(axis=1)) ** 2
        losses.append((mean + sd + np.float32(0.5) * skew).sum(axis=1))
    return int(np.concatenate(losses).argmin())


def compared() -> dict[str, float]:
    """Medians of ROUNDS interleaved rounds of both ways for few and many classes; winners that agree.

    Seconds of CPU time on one thread, which others on the same cores change least.
    """
    from limbeck.selection.group import Sampling, permutation, search

    sigma, sampling = sigmas(CLASSES, D), Sampling(N, CANDIDATES)
    mu = np.random.default_rng(SEED + 1).normal(size=sigma.shape)
    # a class sees the shared pool through a permutation, which the direct search gets on mu and sigma instead
    seen = [permutation(SEED, c, D)[0] for c in range(CLASSES)]
    search(sigma[:, :64], range(CLASSES), Sampling(N, 1), SEED)  # first calls load the linear algebra
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        begun, winners = time.process_time(), []
        for c in range(CLASSES):
            winners.append(direct(mu[c][seen[c]], sigma[c][seen[c]], CANDIDATES))
            if c + 1 in (FEW, CLASSES):
                times.setdefault(f"direct {c + 1}", []).append(time.process_time() - begun)
        for classes in (FEW, CLASSES):
            begun = time.process_time()
            found = search(sigma[:classes], range(classes), sampling, SEED)
            times.setdefault(f"search {classes}", []).append(time.process_time() - begun)
    agree = int((found.indices[:, 0] == winners).sum())
    return {key: statistics.median(values) for key, values in times.items()} | {"agree": agree}


def large(case: str) -> dict[str, float]:
    """Wall and CPU seconds of one large search on THREADS threads; CPU seconds of its normals alone, from a sample of them."""
    from limbeck.seeds import stream
    from limbeck.selection.group import BLOCK, Sampling, search

    candidates, dims, classes = LARGE[case]
    wall, begun = time.perf_counter(), time.process_time()
    search(sigmas(classes, dims), range(classes), Sampling(N, candidates), SEED, threads=THREADS)
    used = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - begun}
    begun, sample, u = time.process_time(), 500, np.empty(BLOCK, np.float32)
    for block in range(sample):
        stream(SEED, "group", 0, block).standard_normal(out=u, dtype=np.float32)
    return used | {"draws": (time.process_time() - begun) / (sample * BLOCK) * candidates * N * dims}


def run(folder: Path) -> list[Line]:
    """Speed-ups over the direct search; then the large searches, each in a process of its own."""
    out = folder / "group.json"
    used = alone(["compared", str(out)], module="benchmarks.group_sampling")
    found = json.loads(out.read_text())
    if found["agree"] != CLASSES:
        raise RuntimeError(f"the search and the direct one agree in {found['agree']} of {CLASSES} classes")
    lines: list[Line] = []
    for classes, times in ((FEW, 8), (CLASSES, 30)):
        for what in ("direct", "search"):
            seconds, reference = found[f"{what} {classes}"], found[f"direct {classes}"]
            case = f"{what}, {classes} classes, D {D}, n {N}, m {CANDIDATES}, CPU on 1 thread"
            line: Line = {"benchmark": "group sampling", "case": case, "seconds": seconds, "peak_mb": used.peak_mb}
            line |= {"ratio": reference / seconds, "of": "times faster than direct, to the same winners"}
            lines.append(judged(line, ratio=(times, None)) if what == "search" else line)
    for name, (candidates, dims, classes) in LARGE.items():
        used = alone([name, str(out)], module="benchmarks.group_sampling")
        found = json.loads(out.read_text())
        case = f"search, {classes} classes, D {dims}, n {N}, m {candidates:,}, {THREADS} threads, {found['cpu']:.0f} s of CPU"
        line = {"benchmark": "group sampling", "case": case, "seconds": found["seconds"], "peak_mb": used.peak_mb}
        line |= {"ratio": found["cpu"] / found["draws"], "of": "CPU for its normals alone"}
        lines.append(judged(line, seconds=(None, 300), peak_mb=(None, 1000)))
    return lines


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(compared() if sys.argv[1] == "compared" else large(sys.argv[1])))
