"""Every kind of writer among the commands, in forks of a process that has imported what they need, and what it writes."""

import atexit
import functools
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from limbeck import cli, warm
from limbeck.plan import Plan
from tests import miniatures, tiny_priors
from tests.conftest import Workflow, make_workflow

NAMES = ("apple", "bear", "fish")
IMAGES, LATENTS, CELL = "own/v32/images", "own/v32/tiny/latents", "own/tiny/mgd/ipc2/seed0"
HANGS = 1000


@dataclass(frozen=True)
class Command:
    """A command of a rule. files: option -> path below the results that it reads or, under ``outputs``, writes."""

    name: str
    spec: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    options: tuple[str, ...] = ()

    def arguments(self, read: Path, write: Path) -> list[str]:
        """Of ``python -m limbeck``, with results of earlier commands in one folder and its own in another."""
        files = {f"--{key}": str(read / path) for key, path in self.inputs.items()}
        files |= {f"--{key}": str(write / path) for key, path in self.outputs.items()} | {
            "--prov": str(write / f"{self.name}.prov.json")
        }
        return ["--threads", "1", self.name, "--spec", self.spec, *self.options, *(word for pair in files.items() for word in pair)]


@dataclass(frozen=True)
class Base:
    """Data, a prior, and ``clean``: what the commands write when nothing happens."""

    folder: Path
    clean: Path
    flow: Workflow
    commands: tuple[Command, ...]

    def files(self, command: Command) -> dict[str, bytes]:
        """Relative path -> bytes of what a command writes."""
        paths = [self.clean / path for path in command.outputs.values()]
        if command.name in FOLDERS:
            paths += [path for path in paths[0].parent.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.clean)): path.read_bytes() for path in paths}


FOLDERS = ("prior", "finetune", "pngs")  # they write more than they are told the names of


@functools.cache
def base() -> Base:
    """Built once, in a folder that other users can read."""
    folder = Path(tempfile.mkdtemp(prefix="limbeck-chaos-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    images = miniatures.folders(folder / "own", NAMES, 20, 4, "test")
    prior = tiny_priors.dit(folder / "dit", NAMES)
    data = {"own": {"source": "folder", "path": str(images), "views": {"v32": {"size": 32}}}}
    flow = make_workflow(
        folder / "flow", prior, datasets=data, run={"datasets": ["own"], "methods": ["mgd"], "references": ["subset"]}
    )
    flow.overlay["priors"]["tuned"] = {"base": "tiny", "finetune": {"dataset": "own", "epochs": 2, "batch_size": 10}}
    clean = folder / "clean"
    commands = tuple(_commands(flow.plan()))
    for command in commands:
        status, said = run(command.arguments(clean, clean))
        assert status == 0, said
    return Base(folder, clean, flow, commands)


def _commands(plan: Plan) -> list[Command]:
    def spec(stage: str, **wildcards: str) -> str:
        return plan.spec(
            stage, {"dataset": "own", "view": "v32", "vae": "tiny", "shard": "0", "ipc": "2", "seed": "0", **wildcards}
        )

    train, test, latents = f"{IMAGES}/train-0.zarr.zip", f"{IMAGES}/test-0.zarr.zip", f"{LATENTS}/0.zarr.zip"
    index, distilled, teacher = "priors/tiny/model_index.json", f"{CELL}/distilled-0.zarr.zip", "own/teachers/smoke"
    found = plan.method("mgd", 2, "own")
    prototypes = f"own/v32/tiny/prototypes/{found.discovery_name}/ipc2/seed0/0.zarr.zip"
    mgd = {"prior": "tiny", "method": "mgd"}
    weights = {"weights": f"{teacher}/model.safetensors", "record": f"{teacher}/teacher.json"}
    images = {"classes": f"{CELL}/images/classes.json", "archive": f"{CELL}/images.zip"}
    return [
        Command("ingest", spec("ingest", split="test"), {}, {"images": test}),
        Command("ingest", spec("ingest", split="train"), {}, {"images": train}),
        Command("prior", spec("prior", prior="tiny"), {}, {"index": index}),
        Command("encode", spec("encode"), {"images": train, "prior": index}, {"latents": latents}),
        Command("select", spec("select", discovery=found.discovery_name), {"points": latents}, {"prototypes": prototypes}),
        Command(
            "sample", spec("sample", **mgd), {"images": train, "prior": index, "prototypes": prototypes}, {"distilled": distilled}
        ),
        Command("pngs", spec("pngs", **mgd), {"distilled": distilled}, images),
        Command("teacher", spec("teacher", teacher="smoke"), {"train": train, "test": test}, weights),
        Command(
            "finetune",
            spec("finetune", prior="tuned"),
            {"latents": latents, "base": index},
            {"index": "priors/tuned/model_index.json"},
            ("--checkpoint-seconds", "0"),
        ),
    ]


def run(arguments: list[str], *before: tuple[str, Any], seconds: float = 300) -> tuple[int, str]:
    """Exit status of ``python -m limbeck`` with these arguments and what it said; ``before`` names what its process does first.

    Raises
    ------
    AssertionError: it takes longer, so it hangs.
    """
    with tempfile.TemporaryDirectory() as said:
        asked, answers = _server().stdin, _server().stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps([arguments, before, f"{said}/out", seconds]) + "\n")
        asked.flush()
        status = int(answers.readline())
        assert status != HANGS, f"limbeck {arguments[2]} hangs"
        return status, Path(f"{said}/out").read_text()


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Forks commands; it ends with its standard input."""
    return subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    with warm._silent():
        for module in [*warm.PRELOADED, "limbeck.stages.ingest", "limbeck.stages.prior", "limbeck.stages.teacher"]:
            import_module(module)
    "".encode("cp437")  # zipfile's; another user may not read where Python lies
    for line in sys.stdin:
        arguments, before, out, seconds = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(arguments, before, out)
        ended, _, _ = select.select([os.pidfd_open(child)], [], [], seconds)
        if not ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status if ended else HANGS, flush=True)


def _run(arguments: list[str], before: list[tuple[str, Any]], out: str) -> None:
    opened = os.open(out, os.O_CREAT | os.O_WRONLY)
    for number in (1, 2):
        os.dup2(opened, number)
    os.close(opened)
    sys.argv = ["limbeck", *arguments]
    status = 1
    try:
        for name, value in before:
            BEFORE[name](value)
        cli.main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _home(folder: str) -> None:
    os.environ |= dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), folder)
    tempfile.tempdir = None


# what a command's process may do first
BEFORE: dict[str, Callable[[Any], None]] = {
    "become": _become,
    "home": _home,
    "files": lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
}


if __name__ == "__main__":
    _serve()
