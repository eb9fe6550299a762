"""Of a whole run's time on N cores what is work, what goes into starts of processes and imports, and what Snakemake itself takes.

``python -m benchmarks.overhead`` runs config.yaml, the demo, twice in a temporary folder: with every job a process of its own, and
with jobs forked by the server of ``limbeck.warm``; then once more with nothing to do. Twenty minutes on two cores, so it is no part
of ``make bench``. ``python -m benchmarks.overhead RESULTS`` shows of a finished run alone what its jobs' CPU time was spent on.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

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
    """Core seconds of a run in ``folder``: of stages, of starts and imports, of Snakemake; all are wall time x cores."""
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
        raise SystemExit((folder / "said").read_text()[-3000:])
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
    return whole | {"again": again}


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


def main(cores: int = 2) -> None:
    """Run both, print the table."""
    table = Table("jobs are", "jobs", "wall, s", "work", "starts, imports", "Snakemake", "idle", "not work", "again, s")
    for server in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            found = measured(Path(folder), cores, server)
            shown(Path(folder) / "results")
        whole, again = found["all"], f"{found['again']:.1f}"
        idle = whole - found["work"] - found["starts"] - found["Snakemake"]
        shares = [f"{100 * part / whole:.1f} %" for part in (found["work"], found["starts"], found["Snakemake"], idle)]
        overhead = f"{100 * (found['starts'] + found['Snakemake']) / whole:.1f} %"
        table.add_row("forked" if server else "processes", f"{found['jobs']:.0f}", f"{whole / cores:.0f}", *shares, overhead, again)
    Console(width=110).print(table)


if __name__ == "__main__":
    shown(Path(sys.argv[1])) if sys.argv[1:] else main()
