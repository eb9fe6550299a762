"""CoDA's discovery on ten classes of 1,300 latents of 3,136 numbers: the embedding against umap-learn's, and a second IPC."""

import json
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from benchmarks.measure import Line, Usage, alone, judged
from limbeck.artifacts import EMBEDDING, LATENTS
from limbeck.methods import embedding_name, embedding_options, fit_name, fit_options
from limbeck.plan import Plan
from limbeck.seeds import stream
from limbeck.stages.common import class_rows, read_class
from limbeck.store import Artifact, create

ROUNDS = 3
CLASSES, IMAGES, SHAPE = 10, 1300, (4, 28, 28)
DIMS, MODES = 12, 15  # the latents vary around so many points of so few dimensions
FIRST, SECOND = 10, 20  # images per class
DATA = "fashion-mini"  # names options in the config; the latents are our own
THEIRS = "umap-learn, class by class"


def run(folder: Path) -> list[Line]:
    """Medians of ROUNDS interleaved rounds of whole commands."""
    bench = _Commands(folder)
    _latents(bench.latents)
    used: dict[str, list[Usage]] = {}
    for _ in range(ROUNDS):
        for name, arguments in bench.all().items():
            used.setdefault(name, []).append(alone(arguments))
        files = [str(bench.latents), str(bench.theirs)]
        used.setdefault(THEIRS, []).append(alone(files, module="benchmarks.discovery"))
    seconds = {name: median(u.seconds for u in found) for name, found in used.items()}
    peaks = {name: max(u.peak_mb for u in found) for name, found in used.items()}
    return [*_embedding_lines(bench, seconds, peaks), *_ipc_lines(bench, seconds, peaks)]


def _embedding_lines(bench: "_Commands", seconds: dict[str, float], peaks: dict[str, float]) -> list[Line]:
    with Artifact(bench.embedding, EMBEDDING) as ours:
        found = {"reduce": ours["coordinates"], THEIRS: np.load(bench.theirs)}
    trust = {name: _trust(bench.latents, coordinates) for name, coordinates in found.items()}
    lines: list[Line] = []
    for name in found:
        case = f"{name}, trustworthiness {trust[name]:.4f}"
        line: Line = {"benchmark": "coda embedding", "case": case, "seconds": seconds[name], "peak_mb": peaks[name]}
        lines.append(line | {"ratio": seconds[THEIRS] / seconds[name], "of": "times faster than umap-learn"})
    lines[0]["trustworthiness lost"] = trust[THEIRS] - trust["reduce"]
    limits = {"ratio": (2, None), "peak_mb": (None, 2000), "trustworthiness lost": (None, 0.01)}
    return [judged(lines[0], **limits), *lines[1:]]


def _ipc_lines(bench: "_Commands", seconds: dict[str, float], peaks: dict[str, float]) -> list[Line]:
    """What IPC 20 takes in parts of what IPC 10 took, whose embedding and clusters it shares."""
    lines: list[Line] = []
    for part, times in (("whole commands", seconds), ("work", bench.work())):
        first, second = sum(times[name] for name in ("reduce", "fit", f"select {FIRST}")), times[f"select {SECOND}"]
        line: Line = {"benchmark": "coda, second IPC", "case": f"select {SECOND}, {part}", "seconds": second}
        line |= {"peak_mb": peaks[f"select {SECOND}"], "ratio": second / first}
        line["of"] = f"reduce, fit, select {FIRST}, {part}"
        lines.append(judged(line, ratio=(None, 0.05)))
    return lines


class _Commands:
    """Subcommands with the plan's own specs."""

    def __init__(self, folder: Path):
        self.plan = Plan(yaml.safe_load(Path("config.yaml").read_text()) | {"results": str(folder / "results")})
        self.method = self.plan.method("coda_real", FIRST, DATA)
        self.folder = folder
        self.latents, self.embedding, self.fit = (folder / f"coda-{name}.zarr.zip" for name in ("latents", "embedding", "fit"))
        self.theirs = folder / "coda-umap-learn.npy"

    def _spec(self, stage: str, ipc: int) -> str:
        discovery = self.method.discovery or {}
        names = {"embedding": embedding_name(embedding_options(discovery) or {}), "fit": fit_name(fit_options(discovery) or {})}
        return self.plan.spec(stage, {"dataset": DATA, "ipc": ipc, "seed": 0, "discovery": self.method.discovery_name, **names})

    def _prototypes(self, ipc: int) -> Path:
        return self.folder / f"coda-prototypes{ipc}.zarr.zip"

    def _prov(self, name: str) -> Path:
        return self.folder / f"coda-{name}.prov.json"

    def all(self) -> dict[str, list[str]]:
        """By name, in the order in which they feed each other."""
        stages: dict[str, tuple[int, dict[str, object]]] = {
            "reduce": (FIRST, {"points": self.latents, "embedding": self.embedding, "workers": 2}),
            "fit": (FIRST, {"points": self.embedding, "fit": self.fit}),
        }
        for ipc in (FIRST, SECOND):
            found: dict[str, object] = {"embedding": self.embedding, "fit": self.fit, "prototypes": self._prototypes(ipc)}
            stages[f"select {ipc}"] = ipc, {"points": self.latents, **found}
        commands = {}
        for name, (ipc, given) in stages.items():
            stage = name.split()[0]
            options = [text for key, value in given.items() for text in (f"--{key}", str(value))]
            spec = self._spec(stage, ipc)
            commands[name] = ["--threads", "1", stage, "--spec", spec, *options, "--prov", str(self._prov(name))]
        return commands

    def work(self) -> dict[str, float]:
        """Seconds of the stages without the start of their process; of reduce, with that of its workers."""
        from threadpoolctl import threadpool_limits

        import limbeck.discovery.density  # noqa: F401  # or its import would be timed
        from limbeck.stages import fit, select

        stages = {"fit": partial(fit.run, json.loads(self._spec("fit", FIRST)), self.embedding, self.fit)}
        for ipc in (FIRST, SECOND):
            files: tuple[Any, ...] = (self.latents, self._prototypes(ipc), self.embedding, self.fit)
            stages[f"select {ipc}"] = partial(select.run, json.loads(self._spec("select", ipc)), *files)
        with threadpool_limits(1):
            times = {name: median(_seconds(stage) for _ in range(ROUNDS)) for name, stage in stages.items()}
        return times | {"reduce": json.loads(self._prov("reduce").read_text())["seconds"]}


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _latents(path: Path) -> None:
    """Every class a mixture in its own subspace, bent and with noise in all directions."""
    n = CLASSES * IMAGES
    shapes = {"latents": (n, *SHAPE), "labels": (n,)}
    with create(path, LATENTS, shapes, {}, {}, classes=[str(c) for c in range(CLASSES)], class_range=[0, CLASSES]) as out:
        for c in range(CLASSES):
            rng = stream(0, "benchmark.discovery", c)
            middles = 2 * rng.standard_normal((MODES, DIMS))[rng.integers(0, MODES, IMAGES)]
            inner = (middles + 0.5 * rng.standard_normal((IMAGES, DIMS))) @ rng.standard_normal((DIMS, np.prod(SHAPE)))
            outer = np.tanh(inner / np.sqrt(DIMS)) + 0.3 * rng.standard_normal(inner.shape)
            out.append("latents", outer.reshape(IMAGES, *SHAPE))
        out.append("labels", np.repeat(np.arange(CLASSES), IMAGES))


def _trust(latents: Path, coordinates: np.ndarray) -> float:
    """Mean over the classes, against the standardized latents."""
    from sklearn.manifold import trustworthiness
    from sklearn.preprocessing import StandardScaler

    with Artifact(latents, LATENTS) as source:
        found = [
            trustworthiness(StandardScaler().fit_transform(read_class(source, rows)), coordinates[rows], n_neighbors=10)
            for _, rows in class_rows(source["labels"])
        ]
    return float(np.mean(found))


def _reference(latents: Path, target: Path) -> None:
    """The authors' calls, one class after the other, on all cores that they can use."""
    from sklearn.preprocessing import StandardScaler
    from umap import UMAP

    found = []
    with Artifact(latents, LATENTS) as source:
        for _, rows in class_rows(source["labels"]):
            points = StandardScaler().fit_transform(read_class(source, rows))
            found.append(UMAP(n_neighbors=85, n_components=50, min_dist=0.0, random_state=42).fit_transform(points))
    np.save(target, np.concatenate(found))


if __name__ == "__main__":
    _reference(Path(sys.argv[1]), Path(sys.argv[2]))
