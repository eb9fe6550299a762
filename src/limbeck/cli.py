"""The command line: one subcommand per rule, and those for people. Heavy imports happen inside."""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from limbeck import gpus, terminal
from limbeck.errors import LimbeckError
from limbeck.faults import explained

ABOUT = "Distil labelled image datasets with diffusion models. The run itself is Snakemake's."
# boxes and colours are for people
STYLE: Literal["rich"] | None = "rich" if sys.stdout.isatty() and sys.stderr.isatty() else None
app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=STYLE, help=ABOUT)
SpecOption = Annotated[str, typer.Option("--spec", help="the rule's params string: JSON of the config slice and 'code'")]
ProvOption = Annotated[Path, typer.Option("--prov", help="sidecar for machine, time and source fingerprint")]
Paths = Annotated[str, typer.Option(help="paths, one a line")]
OVERLAYS: Any = typer.Option([], help="laid over config.yaml in this order, as of snakemake")
# for stages that start threads themselves
_threads = 1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@app.callback()
def _main(
    context: typer.Context = None,  # type: ignore[assignment]  # typer's own, whatever the default
    threads: Annotated[int, typer.Option(min=0, help="threads of torch, OpenMP and numba; 0 leaves them alone")] = 0,
    log: Annotated[Path | None, typer.Option(help="file for progress and warnings; errors go there and to the terminal")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        typer.Option(envvar="LIMBECK_DEVICE", help="where networks compute; auto: cuda if it is there, else cpu"),
    ] = "auto",
) -> None:
    """Pin threads before anything heavy is imported, and die with Snakemake."""
    global _threads
    os.environ["LIMBECK_DEVICE"] = device
    if threads:
        _threads = threads
        for name in THREAD_VARIABLES:
            os.environ[name] = str(threads)
        # idle OpenMP workers must yield: spinning ones cost a neighbour on the same cores several times its time
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if os.environ.get("LIMBECK_DIE_WITH_PARENT"):
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan writes into a rerun
        keep_freed_memory()
    if log:
        _log_to(log)
    if context is not None:
        gpus.take(context.invoked_subcommand)


def keep_freed_memory() -> None:
    """Tensors of some MB come and go in every step. By default each goes back to the kernel, and the page faults of the next make a
    student's training step half as long again, inversion a fifth."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD


def _log_to(path: Path) -> None:
    """Send standard error, that of native libraries too, to a file, and keep the terminal for the message of an error."""
    terminal.stream = os.fdopen(os.dup(2), "w")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        os.dup2(file.fileno(), 2)


def _paths(text: str) -> list[Path]:
    return [Path(part) for part in text.split("\n") if part]


def _folders(text: str) -> list[Path]:
    """The folders of files, each once."""
    return list(dict.fromkeys(path.parent for path in _paths(text)))


@contextmanager
def _stage(spec: str, prov: Path, inputs: dict[str, Any], measured: dict[str, float] | None = None) -> Iterator[dict[str, Any]]:
    """Parse the spec; afterwards write the sidecar: what the stage ``measured`` of itself, and the hashes of what it wrote."""
    from limbeck.commit import journal
    from limbeck.provenance import record, used
    from limbeck.records import spec_digest, write_sidecar

    parsed = json.loads(spec)
    started, before = time.monotonic(), used()["cpu_seconds"]
    prov.unlink(missing_ok=True)  # it tells of what will be replaced
    with journal() as written:
        yield parsed
    named = {key: [str(v) for v in value] if isinstance(value, list) else str(value) for key, value in inputs.items() if value}
    about = record(time.monotonic() - started, parsed["code"], named) | used() | {"start_cpu_seconds": before} | (measured or {})
    write_sidecar(prov, {**about, "spec": spec_digest(parsed)}, written)


def _of_config(section: str) -> Callable[[typer.Context], list[str]]:
    """What a shell completes: the names in a section of the config, with the overlays that stand before."""

    def complete(context: typer.Context) -> list[str]:
        from limbeck.listing import names

        return names(section, context.params.get("configfile") or [])

    return complete


def _list(section: str, configfiles: list[Path], names: list[str] | None) -> None:
    from limbeck.listing import show as run

    run(section, configfiles, names or [])


@app.command()
def ingest(*, spec: SpecOption, prov: ProvOption, images: Path = typer.Option()) -> None:
    """Decode and resize one split and shard of a dataset."""
    from limbeck.stages.ingest import run

    with _stage(spec, prov, {}) as s:
        run(s, images, _threads)


@app.command()
def label(*, spec: SpecOption, prov: ProvOption, parents: Paths, features: Paths = "", images: Path = typer.Option()) -> None:
    """Label a dataset's training images from the few whose labels are taken as known."""
    from limbeck.stages.label import run

    with _stage(spec, prov, {"parents": _paths(parents), "features": _paths(features)}) as s:
        run(s, _paths(parents), _paths(features), images)


@app.command()
def take(*, spec: SpecOption, prov: ProvOption, parents: Paths, taken: Path = typer.Option()) -> None:
    """A shard of a subset's artifact, from those of the dataset that it is a subset of."""
    from limbeck.stages.take import run

    with _stage(spec, prov, {"parents": _paths(parents)}) as s:
        run(s, _paths(parents), taken)


@app.command()
def prior(*, spec: SpecOption, prov: ProvOption, index: Path = typer.Option(), images: Paths = "") -> None:
    """Store a prior in diffusers' layout: copied, or trained on ``--images``."""
    from limbeck.stages.prior import run

    measured: dict[str, float] = {}
    with _stage(spec, prov, {"images": _paths(images)}, measured) as s:
        measured.update(run(s, _paths(images), index))


@app.command()
def finetune(
    *,
    spec: SpecOption,
    prov: ProvOption,
    latents: Paths,
    base: Path = typer.Option(),
    index: Path = typer.Option(),
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="least time between two checkpoints")] = 60.0,
) -> None:
    """Tune a prior on a dataset's latents; goes on from its checkpoint."""
    from limbeck.stages.finetune import run

    measured: dict[str, float] = {}
    with _stage(spec, prov, {"latents": _paths(latents), "base": base}, measured) as s:
        measured.update(run(s, _paths(latents), base, index, checkpoint_seconds))


@app.command()
def encode(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    prior: Path = typer.Option(),
    latents: Path = typer.Option(),
) -> None:
    """Posterior means of the training images."""
    from limbeck.stages.encode import run

    with _stage(spec, prov, {"images": images, "prior": prior}) as s:
        run(s, images, prior, latents)


@app.command()
def reencode(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    prototypes: Path = typer.Option(),
    prior: Path = typer.Option(),
    targets: Path = typer.Option(),
) -> None:
    """The chosen images' latents at the size that a prior generates."""
    from limbeck.stages.reencode import run

    with _stage(spec, prov, {"images": images, "prototypes": prototypes, "prior": prior}) as s:
        run(s, images, prototypes, prior, targets)


@app.command()
def reduce(
    *,
    spec: SpecOption,
    prov: ProvOption,
    points: Path = typer.Option(),
    embedding: Path = typer.Option(),
    workers: int = typer.Option(1, min=1, help="processes, each with the command's --threads"),
) -> None:
    """Training latents or features in few dimensions."""
    from limbeck.stages.reduce import run

    with _stage(spec, prov, {"points": points}) as s:
        run(s, points, embedding, workers)


@app.command()
def fit(*, spec: SpecOption, prov: ProvOption, points: Path = typer.Option(), fit: Path = typer.Option()) -> None:
    """The IPC-free part of a discovery."""
    from limbeck.stages.fit import run

    with _stage(spec, prov, {"points": points}) as s:
        run(s, points, fit)


@app.command()
def select(
    *,
    spec: SpecOption,
    prov: ProvOption,
    points: Path = typer.Option(),
    embedding: Path | None = typer.Option(None),
    fit: Path | None = typer.Option(None),
    prototypes: Path = typer.Option(),
) -> None:
    """Prototypes of every class."""
    from limbeck.stages.select import run

    with _stage(spec, prov, {"points": points, "embedding": embedding, "fit": fit}) as s:
        run(s, points, prototypes, embedding=embedding, fit=fit)


@app.command()
def tangents(
    *,
    spec: SpecOption,
    prov: ProvOption,
    latents: Path = typer.Option(),
    prototypes: Path = typer.Option(),
    scheduler: Path = typer.Option(help="the prior's scheduler_config.json"),
    tangents: Path = typer.Option(),
) -> None:
    """Tangent spaces at every guided step of every image to distil."""
    from limbeck.stages.tangents import run

    measured: dict[str, float] = {}
    with _stage(spec, prov, {"latents": latents, "prototypes": prototypes}, measured) as s:
        measured.update(run(s, latents, prototypes, scheduler, tangents))


@app.command()
def invert(
    *,
    spec: SpecOption,
    prov: ProvOption,
    latents: Path = typer.Option(),
    prior: Path = typer.Option(),
    refiner: Path | None = typer.Option(None),
    statistics: Path = typer.Option(),
) -> None:
    """Statistics of every class's training latents, inverted to a step of the sampling grid."""
    from limbeck.stages.invert import run

    measured: dict[str, float] = {}
    with _stage(spec, prov, {"latents": latents, "prior": prior, "refiner": refiner}, measured) as s:
        measured.update(run(s, latents, prior, statistics, refiner))


@app.command()
def score(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    latents: Path = typer.Option(),
    prior: Path = typer.Option(),
    scores: Path = typer.Option(),
) -> None:
    """Typicality maps of training images."""
    from limbeck.stages.score import run

    measured: dict[str, float] = {}
    with _stage(spec, prov, {"images": images, "latents": latents, "prior": prior}, measured) as s:
        measured.update(run(s, images, latents, prior, scores))


@app.command()
def localize(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    scores: Path = typer.Option(),
    patches: Path = typer.Option(),
) -> None:
    """The most typical patch of every scored image."""
    from limbeck.stages.localize import run

    with _stage(spec, prov, {"images": images, "scores": scores}) as s:
        run(s, images, scores, patches)


@app.command()
def crop(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    teacher: Path = typer.Option(),
    record: Path = typer.Option(),
    patches: Path = typer.Option(),
) -> None:
    """Of several random crops of every image the one that a teacher is surest of."""
    from limbeck.stages.crop import run

    with _stage(spec, prov, {"images": images, "teacher": teacher}) as s:
        run(s, images, teacher, record, patches)


@app.command("patch_features")
def patch_features(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    patches: Path = typer.Option(),
    prior: Path | None = typer.Option(None),
    teacher: Path | None = typer.Option(None, help="weights of the extractor 'teacher'"),
    record: Path | None = typer.Option(None, help="its teacher.json"),
    embedding: Path = typer.Option(),
) -> None:
    """Features of every patch, for clustering."""
    from limbeck.stages.patch_features import run

    with _stage(spec, prov, {"images": images, "patches": patches, "prior": prior, "teacher": teacher}) as s:
        run(s, images, patches, embedding, prior, teacher=teacher, record=record)


@app.command()
def draw(*, spec: SpecOption, prov: ProvOption, statistics: Path = typer.Option(), starts: Path = typer.Option()) -> None:
    """Starting latents of every class, by group sampling."""
    from limbeck.stages.draw import run

    with _stage(spec, prov, {"statistics": statistics}) as s:
        run(s, statistics, starts, _threads)


@app.command()
def pick(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    prototypes: Path = typer.Option(),
    distilled: Path = typer.Option(),
) -> None:
    """The distilled set of a method that keeps real images."""
    from limbeck.stages.pick import run

    with _stage(spec, prov, {"images": images, "prototypes": prototypes}) as s:
        run(s, images, prototypes, distilled)


@app.command()
def imported(*, spec: SpecOption, prov: ProvOption, images: Path = typer.Option(), distilled: Path = typer.Option()) -> None:
    """The distilled set that another method left as an image folder."""
    from limbeck.stages.imported import run

    with _stage(spec, prov, {"images": images}) as s:
        run(s, images, distilled)


@app.command()
def sample(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    prior: Path = typer.Option(),
    refiner: Path | None = typer.Option(None),
    prototypes: Path | None = typer.Option(None),
    targets: Path | None = typer.Option(None),
    latents: Path | None = typer.Option(None),
    tangents: Path | None = typer.Option(None),
    statistics: Path | None = typer.Option(None),
    starts: Path | None = typer.Option(None),
    distilled: Path = typer.Option(),
) -> None:
    """The distilled set of a method that generates."""
    from limbeck.stages.sample import run

    guided = {"prototypes": prototypes, "targets": targets, "latents": latents, "tangents": tangents}
    optional = {"refiner": refiner, **guided, "statistics": statistics, "starts": starts}
    measured: dict[str, float] = {}
    with _stage(spec, prov, {"prior": prior, **optional}, measured) as s:
        measured.update(run(s, images, prior, distilled, **optional))


@app.command()
def choose(
    *, spec: SpecOption, prov: ProvOption, candidates: Paths, shards: int = 1, real: Paths = "", subgroups: Path = typer.Option()
) -> None:
    """Choose one of every class's candidate groups, by the features in the groups' folders."""
    from limbeck.stages.choose import run

    with _stage(spec, prov, {"candidates": _paths(candidates), "real": _paths(real)}) as s:
        run(s, _paths(candidates), shards, _paths(real), subgroups)


@app.command()
def keep(
    *,
    spec: SpecOption,
    prov: ProvOption,
    candidates: Paths,
    subgroups: Path = typer.Option(),
    distilled: Path = typer.Option(),
) -> None:
    """Keep the chosen group of every class."""
    from limbeck.stages.keep import run

    with _stage(spec, prov, {"candidates": _paths(candidates), "subgroups": subgroups}) as s:
        run(s, _paths(candidates), subgroups, distilled)


@app.command()
def pngs(
    *, spec: SpecOption, prov: ProvOption, distilled: Paths, classes: Path = typer.Option(), archive: Path = typer.Option()
) -> None:
    """A distilled set as a PNG folder per class, and that as one file."""
    from limbeck.stages.pngs import run

    with _stage(spec, prov, {"distilled": _paths(distilled)}) as s:
        run(s, _paths(distilled), classes, archive)


@app.command("hold_out")
def hold_out(*, spec: SpecOption, prov: ProvOption, train: Paths, images: Path = typer.Option()) -> None:
    """Real training images by which students may select their epoch."""
    from limbeck.stages.hold_out import run

    with _stage(spec, prov, {"train": _paths(train)}) as s:
        run(s, _paths(train), images)


@app.command()
def teacher(
    *,
    spec: SpecOption,
    prov: ProvOption,
    train: Paths,
    test: Paths,
    given: Path | None = None,
    weights: Path = typer.Option(),
    record: Path = typer.Option(),
) -> None:
    """A classifier trained on the real data, or of given weights."""
    from limbeck.stages.teacher import run

    with _stage(spec, prov, {"train": _paths(train), "test": _paths(test), "given": given}) as s:
        run(s, _paths(train), _paths(test), weights, record, given)


@app.command("soft_labels")
def soft_labels(*, spec: SpecOption, prov: ProvOption, distilled: Paths, teachers: Paths, labels: Path = typer.Option()) -> None:
    """A teacher's labels of every view of a distilled set that one training sees."""
    from limbeck.stages.soft_labels import run

    with _stage(spec, prov, {"distilled": _paths(distilled), "teachers": _paths(teachers)}) as s:
        run(s, _paths(distilled), _folders(teachers), labels)


@app.command()
def features(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    teacher: Path | None = typer.Option(None, help="weights of the extractor 'teacher'"),
    record: Path | None = typer.Option(None, help="its teacher.json"),
    features: Path = typer.Option(),
) -> None:
    """Features of real images."""
    from limbeck.stages.features import run

    with _stage(spec, prov, {"images": images, "teacher": teacher}) as s:
        run(s, images, features, teacher=teacher, record=record)


@app.command()
def embed(
    *,
    spec: SpecOption,
    prov: ProvOption,
    images: Path = typer.Option(),
    teacher: Path | None = typer.Option(None, help="weights of the extractor 'teacher'"),
    record: Path | None = typer.Option(None, help="its teacher.json"),
    features: Path = typer.Option(),
) -> None:
    """Features of a distilled set."""
    from limbeck.stages.embed import run

    with _stage(spec, prov, {"images": images, "teacher": teacher}) as s:
        run(s, images, features, teacher=teacher, record=record)


@app.command()
def measure(
    *,
    spec: SpecOption,
    prov: ProvOption,
    distilled: Paths,
    images: Paths,
    train: Paths,
    test: Paths,
    metrics: Path = typer.Option(),
) -> None:
    """Metrics of a distilled set in the features of one extractor."""
    from limbeck.stages.measure import run

    inputs = {"distilled": _paths(distilled), "images": _paths(images), "train": _paths(train), "test": _paths(test)}
    with _stage(spec, prov, inputs) as s:
        run(s, **inputs, metrics=metrics)


@app.command()
def train(
    *,
    spec: SpecOption,
    prov: ProvOption,
    distilled: Paths,
    test: Paths,
    held: Path | None = None,
    teachers: Paths = "",
    stored: Paths = "",
    result: Path = typer.Option(),
) -> None:
    """Train and test a student."""
    from limbeck.stages.train import run

    inputs = {"distilled": _paths(distilled), "test": _paths(test), "held": held}
    with _stage(spec, prov, {**inputs, "teachers": _paths(teachers), "stored": _paths(stored)}) as s:
        run(s, _paths(distilled), _paths(test), result, held, _folders(teachers), _paths(stored))


@app.command()
def report(*, spec: SpecOption, prov: ProvOption, folder: Path = typer.Option()) -> None:
    """The table, the page and the image grid."""
    from limbeck.stages.report import run

    with _stage(spec, prov, {}) as s:
        run(s, folder)


@app.command()
def overview(*, spec: SpecOption, prov: ProvOption, page: Path = typer.Option()) -> None:
    """The page of a dataset over all IPCs."""
    from limbeck.stages.overview import run

    with _stage(spec, prov, {}) as s:
        run(s, page)


@app.command()
def paper(*, spec: SpecOption, prov: ProvOption, page: Path = typer.Option()) -> None:
    """A paper's table with ours beside it, what is missing named."""
    from limbeck.stages.paper import run

    with _stage(spec, prov, {}) as s:
        run(s, page)


@app.command()
def generate(
    statistics: list[Path] = typer.Argument(help="a dataset's statistics artifact, every shard of it"),
    *,
    ipc: int = typer.Option(help="images per class", min=1),
    out: Path = typer.Option(help="folder to write: distilled artifacts and images"),
    seed: int = 0,
    prior: Path | None = typer.Option(None, help="folder of the stored prior; default: the one beside the statistics"),
    cfg_scale: float | None = typer.Option(None, min=0, help="of sampling; default: that of the inversion"),
    channels: int = typer.Option(3, help="1 for grayscale, 3 for RGB"),
    candidates: int = typer.Option(100_000, min=1, help="groups to choose among, the paper's m"),
) -> None:
    """Images of any number per class from class statistics and a prior, without the data (D3HR Sec. 6.7)."""
    from limbeck.generation import generate as run

    run(statistics, out, ipc, seed, prior, cfg_scale, channels, _threads, candidates=candidates)
    print(out / "images")


@app.command()
def export(
    source: Path = typer.Argument(help="a finished cell: results/<dataset>/<prior>/<method>/ipc<N>/seed<S>, or a file in it"),
    out: Path = typer.Argument(help="folder to write"),
    *,
    to: Literal["imagefolder", "parquet", "ddranking"] = typer.Option(help="folders of PNGs, parquet as the hub's, or tensors"),
) -> None:
    """Take a distilled set away: in a layout that other training reads, with a dataset card and a manifest."""
    from limbeck.exports.write import export as run

    print(run(source, to, out))


@app.command()
def plan(
    targets: list[str] = typer.Argument(None, help="as of snakemake; default: every page of the run"),
    *,
    configfile: list[Path] = OVERLAYS,
    cores: int = typer.Option(os.cpu_count() or 1, min=1, help="of the machine or cluster"),
    gpus: int = typer.Option(0, min=0, help="of the machine or cluster"),
    cluster: bool = typer.Option(False, help="jobs run on other machines, where each starts a Python of its own"),
    everything: bool = typer.Option(False, "--all", help="as if no result were there"),
    rates: Path | None = typer.Option(None, help="file of rates; default: <results>/rates.json, or else the package's own"),
    json_file: Path | None = typer.Option(None, "--json", help="file to write the numbers to"),
    snakefile: Path = typer.Option(Path("Snakefile")),
) -> None:
    """What a run will do and take before it starts: jobs, hours, memory and disk by stage, and how long on a machine."""
    from limbeck.costs.command import plan as run

    run(configfile, targets or [], cores, gpus, cluster, everything, rates, json_file, snakefile)


@app.command()
def methods(
    names: list[str] = typer.Argument(None, help="of these alone", autocompletion=_of_config("methods")),
    *,
    configfile: list[Path] = OVERLAYS,
) -> None:
    """What the config has under methods, and the built-in ones: base, what it is, options."""
    _list("methods", configfile, names)


@app.command()
def priors(
    names: list[str] = typer.Argument(None, help="of these alone", autocompletion=_of_config("priors")),
    *,
    configfile: list[Path] = OVERLAYS,
) -> None:
    """What the config has under priors: family, where from, whether the weights are there or to be fetched."""
    _list("priors", configfile, names)


@app.command()
def datasets(
    names: list[str] = typer.Argument(None, help="of these alone", autocompletion=_of_config("datasets")),
    *,
    configfile: list[Path] = OVERLAYS,
) -> None:
    """What the config has under datasets: source, classes, whether the files are there."""
    _list("datasets", configfile, names)


@app.command()
def show(artifact: Path = typer.Argument(help="a .zarr.zip or a JSON result")) -> None:
    """Print an artifact: its arrays with dims and units, its parameters and its provenance."""
    from limbeck.inspection import show_artifact

    show_artifact(artifact)


@app.command()
def diff(
    one: Path = typer.Argument(help="a .zarr.zip or a JSON result"), other: Path = typer.Argument(help="another of its kind")
) -> None:
    """Why two artifacts differ: parameters, seeds, inputs, values, sources. Exit status 1 where they do."""
    from limbeck.differences import differences
    from limbeck.inspection import show_differences

    found = differences(one, other)
    show_differences(one, other, found)
    if found:
        raise typer.Exit(1)


@app.command()
def check(
    folder: Path = typer.Argument(help="results folder, or one artifact"),
    *,
    planned: bool = typer.Option(False, help="also that it is what the config says now, e.g. of results from elsewhere"),
    configfile: list[Path] = OVERLAYS,
    snakefile: Path = typer.Option(Path("Snakefile")),
) -> None:
    """Verify the hash and the schema of every file that a job below a folder has written."""
    from limbeck.checking import check_folder, check_planned, report

    found = check_folder(folder)
    if planned:
        check_planned(found, configfile, snakefile)
    print(*report(found), sep="\n")
    if found.damaged:
        raise typer.Exit(1)


@app.command()
def schema(out: Path = typer.Argument(help="repository root")) -> None:
    """Write what is generated: the config's JSON schema, docs/ARTIFACTS.md, PROTOCOLS.md and CONFIG.md, tables in docs/methods."""
    from limbeck.inspection import write_generated

    write_generated(out)


def _of_a_rule(command: Any) -> bool:
    return "spec" in command.callback.__annotations__


for _command in filter(_of_a_rule, app.registered_commands):
    _command.rich_help_panel = "Stages, as the rules call them"
app.registered_commands.sort(key=_of_a_rule)  # those for people first


def main() -> None:
    """Entry point: user errors, and faults of the machine that a user can mend, are one line and exit code 1."""
    try:
        app()
    except Exception as error:
        if said := str(error) if isinstance(error, LimbeckError) else explained(error):
            terminal.complain(said)
            sys.exit(1)
        if terminal.stream is not None:
            terminal.stream.write(f"limbeck: {type(error).__name__}: {error} (a bug; the job's log has the traceback)\n")
        raise


if __name__ == "__main__":
    main()
