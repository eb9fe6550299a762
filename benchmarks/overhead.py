"""Of the demo's time what is work, what goes into starts of processes and imports, and what Snakemake itself takes.

config.yaml is run twice in a temporary folder, on two cores: with every job a process of its own, and with jobs forked by the
server of ``limbeck.warm``; each once more with nothing to do. ``python -m benchmarks.overhead RESULTS`` shows of a finished run
alone what its jobs' CPU time was spent on.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Line, Usage, alone, judged
from limbeck import warm

ROOT = Path(__file__).parents[1]
# where the jobs write that do little but evaluate a denoiser, train a student (or teacher), or encode by a VAE
KINDS = {
    "denoiser": re.compile(r"/(inverted|scores|candidates|embeddings/patches[^/]*)/(?!.*/features/)|/distilled-|^priors/[^/]*-im/"),
    "student": re.compile(r"/students/|/teachers/"),
    "VAE": re.compile(r"/latents/"),
}
IMPORTED = re.compile(r"^import time: +(\d+) \|", re.MULTILINE)  # microseconds of a module itself


def measured(folder: Path, cores: int, server: bool) -> dict[str, float]:
    """Core seconds of a run in ``folder``: of stages, of starts and imports, of Snakemake, and all; seconds of the run and of one
    with nothing to do; the largest job's memory in MB.
    """
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop(warm.VARIABLE, None)
    if not server:
        environment[warm.VARIABLE] = ""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder), "--quiet", "rules"]
    command += ["--cores", str(cores), "--configfile", str(ROOT / "config.yaml")]
    started = time.monotonic()
    with open(folder / "said", "w") as said:
        run = psutil.Popen(command, env=environment, stdout=said, stderr=said)
        own = preloaded = 0.0
        while run.poll() is None:
            try:
                own = sum(run.cpu_times()[:2])
                servers = [child for child in run.children() if "limbeck.warm" in child.cmdline()]
                preloaded = max([preloaded, *(sum(child.cpu_times()[:2]) for child in servers)])
            except psutil.Error:
                pass
            time.sleep(0.2)
    if run.returncode:
        raise RuntimeError((folder / "said").read_text()[-3000:])
    wall = time.monotonic() - started
    every = [json.loads(path.read_text()) for path in folder.rglob("*.prov.json")]
    # stages import more when they need it, which is no work of theirs; their logs begin before they import anything large
    late = sum(sum(map(int, IMPORTED.findall(log.read_text()))) for log in folder.rglob("logs/**/*.log")) / 1e6
    used = sum(each["cpu_seconds"] for each in every) - late
    # a process counts its start among its seconds; a fork's command is another process
    starts = len(every) * seconds("limbeck.warm" if server else "limbeck.cli")
    work = used if server else used - starts
    again = _nothing(command, environment, folder)
    whole = {"jobs": len(every), "work": work, "starts": late + preloaded + starts, "Snakemake": own, "all": wall * cores}
    largest = max(each["peak_mb"] for each in every)
    return whole | {"seconds": wall, "peak_mb": largest, "again": again.seconds, "again_mb": again.peak_mb}


def _nothing(command: list[str], environment: dict[str, str], folder: Path) -> Usage:
    """The same command again, which must do nothing."""
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.prov.json")}
    with patch.dict(os.environ, environment, clear=True):
        used = alone(command[3:], module="snakemake")
    if done != {path: path.stat().st_mtime_ns for path in folder.rglob("*.prov.json")}:
        raise RuntimeError("a second run of the demo did work again")
    return used


def spent(results: Path) -> dict[str, float]:
    """CPU seconds of a run's jobs by KINDS, and of all others."""
    found = {**dict.fromkeys(KINDS, 0.0), "others": 0.0}
    for path in results.rglob("*.prov.json"):
        name, prov = str(path.relative_to(results)), json.loads(path.read_text())
        kind = next((kind for kind, pattern in KINDS.items() if pattern.search(name)), "others")
        picked = "/distilled-" in name and "seconds_per_image" not in prov  # real images, chosen and not sampled
        found["others" if picked else kind] += prov["cpu_seconds"]
    return found


def shown(results: Path) -> None:
    """Print a table of that."""
    found, table = spent(results), Table("inside", "CPU s", "share")
    for kind, value in found.items():
        table.add_row(kind, f"{value:.0f}", f"{100 * value / sum(found.values()):.1f} %")
    Console(width=60).print(table)


def seconds(module: str) -> float:
    """Of a process that imports one of ours and ends: what every command does before it knows its stage."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - started


def run(folder: Path, cores: int = 2) -> list[Line]:
    """Both, and both again with nothing to do; then what was no job's work, and what jobs' CPU time was spent on."""
    found, lines = dict[bool, dict[str, float]](), list[Line]()
    for server, jobs in ((False, "every job a process"), (True, "jobs forked")):
        place = folder / ("forked" if server else "processes")
        place.mkdir()
        own = found[server] = measured(place, cores, server)
        of = "times faster than every job a process"
        cold: Line = {"benchmark": "demo", "case": f"cold, {own['jobs']:.0f} jobs, {jobs}", "seconds": own["seconds"]}
        cold |= {"peak_mb": own["peak_mb"], "ratio": found[False]["seconds"] / own["seconds"], "of": of}
        again: Line = {"benchmark": "demo", "case": f"nothing to do, {jobs}", "seconds": own["again"], "peak_mb": own["again_mb"]}
        again |= {"ratio": found[False]["again"] / own["again"], "of": of}
        parts = {name: own[name] / own["all"] for name in ("work", "starts", "Snakemake")}
        parts["idle"] = 1 - sum(parts.values())
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in parts.items())
        rest: Line = {"benchmark": "demo", "case": f"starts, imports and Snakemake, {jobs}: {shares}", "peak_mb": own["peak_mb"]}
        lost = own["starts"] + own["Snakemake"]
        rest |= {"seconds": lost, "ratio": lost / own["all"], "of": "wall time x cores"}
        lines += [cold, again, rest]
        if server:
            limits: list[dict[str, Any]] = [{"seconds": (None, 720), "peak_mb": (None, 3000)}, {"seconds": (None, 15)}]
            lines[-3:] = [judged(line, **most) for line, most in zip(lines[-3:], [*limits, {"ratio": (None, 0.2)}], strict=True)]
    return [*lines, _inside(spent(folder / "forked/results"), found[True])]


def _inside(parts: dict[str, float], own: dict[str, float]) -> Line:
    """What jobs that do little but run networks take of all CPU time, that of starts and of Snakemake included."""
    every, networks = own["work"] + own["starts"] + own["Snakemake"], sum(parts[kind] for kind in KINDS)
    shares = ", ".join(f"{kind} {100 * value / every:.1f} %" for kind, value in parts.items())
    line: Line = {"benchmark": "demo", "case": f"jobs forked: {shares}", "seconds": networks, "peak_mb": own["peak_mb"]}
    return judged(line | {"ratio": networks / every, "of": "all CPU time, in jobs of denoiser, student and VAE"}, ratio=(0.7, None))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.overhead RESULTS; python -m benchmarks overhead runs the demo")
    shown(Path(sys.argv[1]))
