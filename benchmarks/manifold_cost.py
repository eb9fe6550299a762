"""What ManifoldGD costs beside MGD on the embedded prior: whole sampling commands, and the cached stage before them."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import yaml

from benchmarks.measure import Line, alone, judged
from limbeck.plan import Plan

ROUNDS = 3
IPC, SEED, DATA = 10, 0, "fashion-mini"
Files = dict[str, str | Path | None]
# of MGD's sampling: all of sampling with cached tangents, and the stage that makes them
MOST = {"sample manifoldgd": 1.1, "sample manifoldgd_expected": 1.1, "tangents manifoldgd_expected": 0.25}
METHODS = ("mgd", "manifoldgd", "manifoldgd_expected", "manifoldgd_online")


def run(folder: Path) -> list[Line]:
    """Medians of ROUNDS interleaved rounds of whole commands on one thread; work: without the start of the process."""
    config = yaml.safe_load(Path("config.yaml").read_text()) | {"results": str(folder / "results")}
    config["methods"]["manifoldgd_online"] = {"base": "manifoldgd", "query": "online"}
    bench = _Commands(Plan(config))
    bench.prepare()
    whole: dict[str, list[float]] = {}
    work: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name in METHODS:
            for stage in ("tangents", "sample"):
                key = f"{stage} {name}"
                arguments = getattr(bench, stage)(name)
                if arguments is None:
                    continue
                used = alone(arguments)
                whole.setdefault(key, []).append(used.seconds)
                work.setdefault(key, []).append(10 * IPC * json.loads(Path(arguments[-1]).read_text())["seconds_per_image"])
                peaks[key] = max(used.peak_mb, peaks.get(key, 0.0))
    lines: list[Line] = []
    for part, times in (("whole command", whole), ("work", work)):
        reference = statistics.median(times["sample mgd"])
        for key, values in times.items():
            seconds = statistics.median(values)
            line: Line = {"benchmark": "manifoldgd", "case": f"{key}, {part}", "seconds": seconds, "peak_mb": peaks[key]}
            line |= {"ratio": seconds / reference, "of": f"sample mgd, {part}"}
            most = MOST.get(key)
            lines.append(judged(line, ratio=(None, most)) if most else line)
    return lines


class _Commands:
    """Subcommands with the plan's own paths and specs."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.root = Path(plan.root)
        self.prior = self.root / "priors/fashion-dit"
        self.images = plan.images(DATA, "train")[0]

    def _command(self, stage: str, wildcards: Mapping[str, object], **files: str | Path | None) -> list[str]:
        given = [text for name, path in files.items() if path for text in (f"--{name}", str(path))]
        target = Path(str(next(reversed(files.values()))))
        spec = self.plan.spec(stage, {"dataset": DATA, "shard": 0, "ipc": IPC, "seed": SEED, "prior": "fashion-dit", **wildcards})
        return ["--threads", "1", stage, "--spec", spec, *given, "--prov", str(target.with_suffix(".prov.json"))]

    def prepare(self) -> None:
        """Everything up to the prototypes."""
        view, latents = {"view": "v32", "vae": "fashion-dit"}, self.plan.latents(DATA, 0)
        index = self.prior / "model_index.json"
        alone(self._command("ingest", {**view, "split": "train"}, images=self.images))
        alone(self._command("prior", {}, index=index))
        alone(self._command("encode", view, images=self.images, prior=index, latents=latents))
        for name in ("mgd", "manifoldgd"):
            method = self.plan.method(name, IPC, DATA)
            at = {**view, "discovery": method.discovery_name}
            fit = self.plan.fit_path({**at, "dataset": DATA, "ipc": IPC, "shard": 0})
            if fit:
                alone(self._command("fit", {**view, "fit": Path(fit).parent.name}, points=latents, fit=fit))
            alone(self._command("select", at, points=latents, fit=fit, prototypes=self._prototypes(name)))

    def _prototypes(self, name: str) -> str:
        return self.plan.prototypes(DATA, self.plan.method(name, IPC, DATA), IPC, SEED, 0)

    def _tangents(self, name: str) -> str | None:
        return self.plan.tangents(DATA, self.plan.method(name, IPC, DATA), IPC, SEED, 0)

    def tangents(self, name: str) -> list[str] | None:
        """The cached stage; None for methods without it."""
        target = self._tangents(name)
        if target is None:
            return None
        scheduler = self.prior / "scheduler/scheduler_config.json"
        files: Files = {"latents": self.plan.latents(DATA, 0), "prototypes": self._prototypes(name), "scheduler": scheduler}
        wildcards = {"tangents": self.plan.method(name, IPC, DATA).tangents_name}
        return self._command("tangents", wildcards, **files, tangents=target)

    def sample(self, name: str) -> list[str]:
        """Sampling from cached prototypes and tangents."""
        latents = self.plan.latents(DATA, 0) if self.plan.method(name, IPC, DATA).tangents else None
        files: Files = {"images": self.images, "prior": self.prior / "model_index.json", "prototypes": self._prototypes(name)}
        target = f"{self.plan.cell(DATA, name, IPC, SEED)}/distilled-0.zarr.zip"
        return self._command("sample", {"method": name}, **files, latents=latents, tangents=self._tangents(name), distilled=target)
