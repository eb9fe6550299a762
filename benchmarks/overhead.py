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

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Line, judged
from limbeck import warm

ROOT = Path(__file__).parents[1]
# where the jobs write that do little but evaluate a denoiser, train a student (or teacher), or encode by a VAE
KINDS = {
    "denoiser": re.compile(r"/(inverted|scores|candidates|embeddings/patches[^/]*)/|/distilled-|^priors/[^/]*-im/"),
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
    again = time.monotonic()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    again = time.monotonic() - again
    whole = {"jobs": len(every), "work": work, "starts": late + preloaded + starts, "Snakemake": own, "all": wall * cores}
    return whole | {"seconds": wall, "again": again, "peak_mb": max(each["peak_mb"] for each in every)}


def spent(results: Path) -> dict[str, float]:
    """CPU seconds of a run's jobs by KINDS, and of all others."""
    found = {**dict.fromkeys(KINDS, 0.0), "others": 0.0}
    for path in results.rglob("*.prov.json"):
        name = str(path.relative_to(results))
        kind = next((kind for kind, pattern in KINDS.items() if pattern.search(name)), "others")
        found[kind] += json.loads(path.read_text())["cpu_seconds"]
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


def line(case: str, found: dict[str, float], seconds: float, reference: float) -> Line:
    """A row of the table: of a demo, by the time of another."""
    numbers = {"seconds": seconds, "peak_mb": found["peak_mb"], "ratio": reference / seconds}
    return {"benchmark": "demo", "case": case, **numbers, "of": "times faster than every job a process"}


def run(folder: Path, cores: int = 2) -> list[Line]:
    """Both, and both again with nothing to do; then what the CPU time of forked jobs was spent on."""
    found, lines = dict[bool, dict[str, float]](), list[Line]()
    for server in (False, True):
        place = folder / ("forked" if server else "processes")
        place.mkdir()
        found[server] = measured(place, cores, server)
    for server, own in found.items():
        parts = {name: own[name] / own["all"] for name in ("work", "starts", "Snakemake")}
        parts["idle"] = 1 - sum(parts.values())
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in parts.items())
        jobs = "jobs forked" if server else "every job a process"
        cold = line(f"cold, {own['jobs']:.0f} jobs, {jobs}: {shares}", own, own["seconds"], found[False]["seconds"])
        rerun = line(f"warm (nothing to do), {jobs}", own, own["again"], found[False]["again"])
        lines += [judged(cold, seconds=(None, 720), peak_mb=(None, 3000)), rerun] if server else [cold, rerun]
    inside = spent(folder / "forked/results")
    every, networks = sum(inside.values()), sum(inside[kind] for kind in KINDS)
    shares = ", ".join(f"{kind} {100 * value / every:.1f} %" for kind, value in inside.items())
    share = line(f"CPU time, jobs forked: {shares}", found[True], networks, networks)
    share |= {"ratio": networks / every, "of": "CPU time of all jobs, inside denoiser, student and VAE"}
    return [*lines, judged(share, ratio=(0.7, None))]


if __name__ == "__main__":
    shown(Path(sys.argv[1]))
