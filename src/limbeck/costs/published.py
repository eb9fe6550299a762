"""What the papers say that their methods took, for those that a config has at the size that they give it for."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.costs.jobs import Job
from limbeck.methods import Method, embedding_name, embedding_options, fit_name
from limbeck.plan import Plan


@dataclass(frozen=True)
class Printed:
    """A paper's figure: whose, at which IPC (None: at any), of which rules, in its own units, on what, and where it is printed."""

    base: str
    ipc: int | None
    what: str
    hours: str
    hardware: str
    where: str
    rules: tuple[str, ...]


CODA, D3HR = "CoDA Table 18 (ImageNet-1K, IPC 50)", "D3HR App. B (ImageNet-1K)"
PRINTED = (
    Printed("coda", 50, "encode", "1.5 h", "one RTX 4090; SDXL's VAE at 224", CODA, ("encode",)),
    Printed("coda", 50, "discovery", "2.17 h (Sec. 5: 2.2 h)", "16 vCPU Xeon Gold 6430; UMAP", CODA, ("reduce", "fit", "select")),
    Printed("coda", 50, "generate", "2.7 s per image (50,000: 37.5 h)", "SDXL, 50 steps; GPU not named", CODA, ("sample",)),
    Printed("coda", 50, "end to end", "41.2 h", "the same", CODA, ("encode", "reduce", "fit", "select", "sample")),
    Printed("mgd", 50, "end to end", "18.6 h", "DiT, 50 steps; GPU not named", CODA, ("encode", "reduce", "select", "sample")),
    Printed("d3hr", None, "DDIM inversion", "about 4.5 h (8 GPUs: 36)", "one node of 8 A100 40G", D3HR, ("invert",)),
)


def comparable(plan: Plan, jobs: Sequence[Job]) -> list[tuple[Printed, str, list[int]]]:
    """Every figure that is of a method of the run, its dataset, and the places of the jobs that do the same: at the paper's IPC
    and one generation seed.
    """
    found = []
    for dataset in plan.run.datasets:
        if plan.dataset(dataset).classes != "imagenet1k":
            continue
        for printed in PRINTED:
            ipc = printed.ipc or plan.run.ipc[0]
            for name in plan.methods(ipc) if ipc in plan.run.ipc else ():
                if plan.config.methods.get(name, {"base": name}).get("base") == printed.base:
                    method = plan.method(name, ipc, dataset)
                    same = [place for place, job in enumerate(jobs) if _does(plan, printed, method, ipc, dataset, job)]
                    found.append((printed, dataset, same))
    return found


def _does(plan: Plan, printed: Printed, method: Method, ipc: int, dataset: str, job: Job) -> bool:
    """Whether a job is of that part of that method."""
    w = job.wildcards
    if job.rule not in printed.rules or w.get("dataset") != dataset:
        return False
    wanted = {"ipc": str(ipc), "seed": str(plan.first_seed(ipc)), "method": method.name, "prior": method.prior}
    wanted["vae"] = plan.vae_of(method.prior)
    if method.discovery:
        embedded = embedding_options(method.discovery)
        wanted |= {"discovery": method.discovery_name, "embedding": embedding_name(embedded) if embedded else "none"}
        wanted["fit"] = fit_name(method.fit) if method.fit else "none"
    if method.inversion_name:
        wanted["inversion"] = method.inversion_name
    return all(w[key] == value for key, value in wanted.items() if key in w)
