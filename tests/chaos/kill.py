"""SIGKILL to a random process of a run, again and again: in the end the files are those of a run that nobody disturbed."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from limbeck.checking import check_folder
from limbeck.faults import PART
from tests.chaos.outcome import Fault, Lost, Wrong
from tests.chaos.runs import ROOT, SmallRun, clean_environment

LOG = re.compile(r"(?:^|/)logs/(.+\.log)")
MOST = 5  # starts for every kill
PATIENCE = 1800.0  # seconds that a disturbed run may take to end; it hangs if it takes longer
NOT_ARTIFACTS = (".prov.json", ".log", "summary.html")  # times and machines stand in these


class Run(Protocol):
    """A command and the folder that it is started in; options may be added at its end."""

    @property
    def command(self) -> str: ...

    @property
    def folder(self) -> Path: ...


@dataclass
class Tally:
    """What was killed: the rules that a killed process belonged to, by the logs of their jobs, and the kinds of processes."""

    logs: Mapping[str, str]
    rules: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return sum(self.kinds.values())


def members(session: int) -> Iterator[int]:
    """Living processes of a session."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            about = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(about[3]) == session and about[0] != "Z":
            yield int(entry.name)


def log_of(pid: int) -> str | None:
    """The log of the job that a process is, below ``logs``: its command line names it, or it is its standard error."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        log = words[words.index("--log") + 1] if "--log" in words else os.readlink(f"/proc/{pid}/fd/2")
    except (OSError, IndexError):
        return None
    found = LOG.search(log)
    return found[1] if found else None


def kind_of(pid: int) -> str:
    """snakemake, server, job, or what else takes part."""
    if log_of(pid):
        return "job"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "other"
    if b"limbeck.warm" in words:
        return "server"
    return "snakemake" if any(word.endswith(b"snakemake") for word in words[:3]) else "other"


def disturb(run: Run, env: Mapping[str, str], kills: int, logs: Mapping[str, str], seed: int, pause: float) -> Tally:
    """Start a run again and again, and kill one of its processes each time, until there were enough.

    logs: the rules by their jobs' logs (``rules_of``); each is to be hit; every other kill waits for a job of one that was not.
    pause: mean seconds before the others. Once there is nothing left to run, jobs of such rules are forced. A killed command is
    started again as it was; the last one is left alone to its end.
    """
    rng, tally, command, starts, rules = random.Random(seed), Tally(logs), run.command, 0, set(logs.values())
    ended = False
    while tally.kills < kills or rules - set(tally.rules):
        starts += 1
        if starts > MOST * (kills + len(rules)):
            raise Wrong(f"seed {seed}: {rules - set(tally.rules)} could not be hit")
        if ended:
            # what is made of it need not run again: it makes the same bytes; one rule, as none behind another of --until starts
            forced = rng.choice(sorted(rules - set(tally.rules)) or ["sample", "measure", "train"])
            command = f"{run.command} --forcerun {forced} --until {forced}"
        ended = _disturbed(command, run.folder, env, kills, rules, rng, pause, tally)
    if not ended:
        plain(command, run.folder, env)
    return tally


def _disturbed(
    command: str, folder: Path, env: Mapping[str, str], kills: int, rules: set[str], rng: random.Random, pause: float, tally: Tally
) -> bool:
    """Whether a run came to its end all the same."""
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=dict(env),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as done:
        until = time.monotonic() + PATIENCE
        while done.poll() is None or any(members(done.pid)):
            if time.monotonic() > until:
                os.killpg(done.pid, signal.SIGKILL)
                raise Wrong(f"a run hangs after {tally}")
            missing = rules - set(tally.rules)
            if missing and (tally.kills % 2 or tally.kills >= kills):
                _kill_one_of(missing, done.pid, rng, tally)
                time.sleep(0.02)
            else:
                time.sleep(rng.expovariate(1 / pause))
                _kill_any(done.pid, rng, tally)
    return done.returncode == 0


def _kill_any(session: int, rng: random.Random, tally: Tally) -> None:
    alive = sorted(members(session))
    if alive:
        _kill(rng.choice(alive), tally)


def _kill_one_of(rules: set[str], session: int, rng: random.Random, tally: Tally) -> None:
    jobs = [pid for pid in sorted(members(session)) if tally.logs.get(log_of(pid) or "") in rules]
    if jobs:
        time.sleep(rng.choice([0, 0, 0.2, 1]) * rng.random())
        _kill(rng.choice(jobs), tally)


def _kill(pid: int, tally: Tally) -> None:
    kind, rule = kind_of(pid), tally.logs.get(log_of(pid) or "")
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    tally.kinds[kind] += 1
    if rule:
        tally.rules[rule] += 1


def artifacts(results: Path) -> dict[str, Path]:
    """Files below a results folder that do not depend on times or machines, by name."""
    files = (path for path in results.rglob("*") if path.is_file() and not path.name.endswith(NOT_ARTIFACTS))
    return {str(path.relative_to(results)): path for path in files if path.name != "README.md"}


def compare(results: Path, undisturbed: Path) -> int:
    """How many files of a disturbed run are those of the other; all must be, and nothing may be left over."""
    found, wanted = artifacts(results), artifacts(undisturbed)
    if lost := sorted(set(wanted) - set(found)):
        raise Lost(f"{len(lost)} files are missing, e.g. {lost[0]}")
    if more := sorted(set(found) - set(wanted)):
        raise Wrong(f"left over: {more[:5]}")
    if left := list(results.rglob(f".*{PART}")):
        raise Wrong(f"left over: {left[:5]}")
    for name, path in wanted.items():
        if path.read_bytes() != found[name].read_bytes():
            raise Wrong(f"{name} has other bytes")
    if damaged := check_folder(results).damaged:
        raise Wrong(damaged[0])
    return len(wanted)


def plain(command: str, folder: Path, env: Mapping[str, str]) -> None:
    """The command, undisturbed; what is left of locks and incomplete marks must not stop it."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Lost(f"{command} fails afterwards: {(done.stdout + done.stderr)[-2000:]}")
    if marks := list((folder / ".snakemake/incomplete").glob("*")):
        raise Wrong(f"marked as incomplete after the last run: {marks[:3]}")


def rules_of(command: str, folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """By its log below ``logs``, the rule of every job that a run has and that computes. Two rules may log in one folder."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    found, rule = {}, ""
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith(("rule ", "localrule ")):
            rule = line.split()[1].rstrip(":")
        elif line.strip().startswith("log: ") and (log := LOG.search(line)):
            found[log[1]] = rule
    return found


def small(kills: int, seed: int, folder: Path, every_rule: bool) -> Tally:
    """A small workflow with most rules, killed and then compared to one that was not."""
    env, methods = clean_environment(), ["random", "mgd", "manifoldgd", "d3hr", "ims3"]
    disturbed, other = (SmallRun(folder / name, methods) for name in ("disturbed", "undisturbed"))
    logs = rules_of(disturbed.dry, disturbed.folder, env) if every_rule else {}
    tally = disturb(disturbed, env, kills, logs, seed, 3.0)
    plain(disturbed.command, disturbed.folder, env)
    plain(other.command, other.folder, env)
    compare(disturbed.results, other.results)
    return tally


def copy_of_the_repository(folder: Path) -> None:
    """What git has of it, with the environment that is installed here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))


@dataclass(frozen=True)
class Demo:
    """What ``make demo`` starts in a copy of the repository."""

    folder: Path
    command: str = "python workflow/scripts/unlock_stale.py && snakemake --quiet rules"


def demo(kills: int, seed: int, folder: Path) -> Tally:
    """``make demo`` in a copy of the repository against that in the repository itself, which is run first if it has not been."""
    env = clean_environment()
    plain("make demo", ROOT, env)
    copy_of_the_repository(folder)
    tally = disturb(Demo(folder), env, kills, rules_of("snakemake -n", folder, env), seed, 8.0)
    plain("make demo", folder, env)
    compare(folder / "results", ROOT / "results")
    return tally


def _small(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return small(count, seed, Path(folder), every_rule=True).kills


def _demo(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tally = demo(count, seed, Path(folder))
    print(f"killed: {dict(tally.kinds)}; jobs by rule: {dict(tally.rules)}")
    return tally.kills


FAULTS: list[Fault] = [("SIGKILL, a small run", _small, 8, 60), ("SIGKILL, make demo", _demo, 0, 60)]
