"""What planned jobs take: by stage, in all, along their longest chain, and on a machine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from limbeck.costs import published
from limbeck.costs.disk import bytes_of
from limbeck.costs.jobs import Job
from limbeck.costs.rates import Rates
from limbeck.costs.schedule import critical_path, levels, makespan
from limbeck.gpus import GPU_STAGES
from limbeck.plan import Plan
from limbeck.resources import estimate, stage_of, start

HOUR = 3600.0


@dataclass(frozen=True)
class Line:
    """Of a rule, or of all: jobs, hours on cores and GPUs, MB of the job that takes most, bytes left on the disk."""

    name: str
    jobs: int
    cpu_hours: float
    gpu_hours: float
    peak_mb: float
    disk_bytes: float


@dataclass(frozen=True)
class Summary:
    """lines: by rule, those first that are met first. critical: (rule, its jobs there, hours) along the longest chain.
    makespan_hours: on so many cores and GPUs. printed: papers' figures, and hours of the jobs that do the same.
    """

    lines: list[Line]
    total: Line
    critical: list[tuple[str, int, float]]
    makespan_hours: float
    cores: int
    gpus: int
    printed: list[dict[str, Any]]

    @property
    def critical_hours(self) -> float:
        """Of the longest chain of jobs."""
        return sum(hours for _, _, hours in self.critical)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "critical_hours": self.critical_hours}


def summarise(plan: Plan, jobs: Sequence[Job], rates: Rates, cores: int, gpus: int, cluster: bool = False) -> Summary:
    """Of jobs on a machine of so many cores and GPUs, or a ``cluster``, where every job is a process of its own; each core and GPU
    as fast as the rates say.
    """
    stages = [stage_of(job.rule) for job in jobs]
    on_gpu = np.array([bool(gpus and rates.cuda) and stage in GPU_STAGES for stage in stages], bool)
    threads = np.array([min(job.threads, cores) for job in jobs], int)
    seconds, gpu, cpu, peak, disk = (np.zeros(len(jobs)) for _ in range(5))
    for place, (job, stage) in enumerate(zip(jobs, stages, strict=True)):
        if stage is None:  # the target of all others
            continue
        need = estimate(plan, stage, job.wildcards)
        forked = not cluster and job.threads == 1  # as limbeck.warm takes them
        work = {**need.work, start(stage, forked): 1}
        seconds[place], gpu[place], cpu[place] = rates.split(work, int(threads[place]), bool(on_gpu[place]))
        memory = need.memory.host if on_gpu[place] else need.memory.cpu
        peak[place], disk[place] = memory, bytes_of(plan, stage, job.wildcards)

    def line(name: str, places: Sequence[int] | np.ndarray) -> Line:
        chosen = np.asarray(places, int)
        sums = [float(values[chosen].sum()) for values in (cpu, gpu, disk)]
        return Line(name, len(chosen), sums[0] / HOUR, sums[1] / HOUR, float(peak[chosen].max(initial=0)), sums[2])

    after = [job.after for job in jobs]
    places: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        places.setdefault(job.rule, []).append(place)
    path, depth = critical_path(seconds, after), levels(after)
    steps = [(rule, list(found)) for rule, found in groupby(path, lambda place: jobs[place].rule) if stage_of(rule)]
    return Summary(
        lines=[line(rule, places[rule]) for rule in sorted(places, key=lambda rule: (np.median(depth[places[rule]]), rule))],
        total=line("total", np.arange(len(jobs))),
        critical=[(rule, len(found), float(seconds[found].sum()) / HOUR) for rule, found in steps],
        makespan_hours=makespan(seconds, after, threads, on_gpu, cores, gpus) / HOUR,
        cores=cores,
        gpus=gpus,
        printed=[
            {
                **{key: value for key, value in asdict(each).items() if key != "rules"},
                "dataset": dataset,
                **{key: value for key, value in asdict(line(each.what, same)).items() if key in ("jobs", "cpu_hours", "gpu_hours")},
            }
            for each, dataset, same in published.comparable(plan, jobs)
        ],
    )
