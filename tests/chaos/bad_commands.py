"""Commands with arguments that make no sense: exit code 1 or 2 and a message, never a traceback."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from limbeck import cli
from limbeck.artifacts import LATENTS
from limbeck.costs.rates import SHIPPED
from limbeck.data.paths import package_path
from limbeck.records import write_json
from limbeck.store import create
from tests.chaos.bad_configs import ODD_STRINGS, ROOT
from tests.chaos.bad_files import damaged_json
from tests.chaos.bad_images import damaged

NUMBERS = ("0", "-1", "1", "3", "nan", "1e9", "x", "", "99999999999999999999")


def _things(root: Path, rng: np.random.Generator) -> list[str]:
    """Paths to files and folders, whole, damaged, of other kinds, and nothing."""
    rows = rng.normal(size=(4, 1, 2, 2)).astype(np.float32)
    shapes, path = {"latents": rows.shape, "labels": (4,)}, root / "whole.zarr.zip"
    with create(path, LATENTS, shapes, {}, {}, classes=["a"], class_range=[0, 1]) as out:
        out.append("latents", rows)
        out.append("labels", np.zeros(4))
    write_json(root / "whole.json", "metrics", {}, {"fd": 1.0})
    (root / "rates.json").write_bytes(SHIPPED.read_bytes())
    (root / "mine.yaml").write_text("run: {ipc: [3]}\n")
    (root / "empty.zarr.zip").write_bytes(b"")
    (root / "folder.zarr.zip").mkdir()
    (root / "folder.json").mkdir()
    (root / "damaged.zarr.zip").write_bytes(damaged((root / "whole.zarr.zip").read_bytes(), rng))
    (root / "damaged.json").write_bytes(damaged_json((root / "whole.json").read_bytes(), rng))
    (root / "rates-damaged.json").write_bytes(damaged_json(SHIPPED.read_bytes(), rng))
    (root / "damaged.yaml").write_bytes(damaged((root / "mine.yaml").read_bytes(), rng))
    (root / "tags.yaml").write_text("run: !!python/object/apply:os.getcwd []\n")
    (root / "garbage.json").write_bytes(rng.bytes(50))
    (root / "deep.json").write_text("[" * 100_000)
    (root / "list.yaml").write_text("- 1\n")
    places = [str(path) for path in sorted(root.iterdir())]
    return [*places, str(package_path("package:fashion-dit")), "/dev/null", *(text for text in ODD_STRINGS if "\0" not in text)]


def _arguments(command: str, things: list[str], root: Path, rng: np.random.Generator) -> list[str]:
    def thing() -> str:
        return things[int(rng.integers(len(things)))]

    def number() -> str:
        return NUMBERS[int(rng.integers(len(NUMBERS)))]

    if command == "generate":
        given = [thing(), f"--ipc={number()}", f"--out={root / 'out'}"]
        options = [f"--prior={thing()}", *(f"--{name}={number()}" for name in ("seed", "cfg-scale", "channels", "candidates"))]
    elif command == "plan":
        given = [f"--snakefile={ROOT / 'Snakefile' if rng.random() < 0.7 else thing()}"]
        options = [thing(), f"--configfile={thing()}", f"--cores={number()}", f"--rates={thing()}", f"--gpus={number()}"]
    else:
        given, options = [thing()], [thing(), "--nothing", f"--{thing()}"]
    chosen = [option for option in options if rng.random() < 0.3]
    return [command, *given, *chosen]


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command; of ``plan`` in a process of its own: Snakemake leaves things."""
    if arguments[0] == "plan":
        command = [sys.executable, "-m", "limbeck", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode, done.stdout, done.stderr
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said), mock.patch.object(sys, "argv", ["limbeck", *arguments]):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), said.getvalue()


def commands(count: int, seed: int) -> int:
    """``generate``, and now and then ``plan``, which takes a second, with odd arguments."""
    return _commands(count, seed, lambda number: "plan" if number % 10 == 9 else "generate")


def looks(count: int, seed: int) -> int:
    """``show`` and ``check`` with odd arguments."""
    return _commands(count, seed, lambda number: ("show", "check")[number % 2])


def _commands(count: int, seed: int, command: Callable[[int], str]) -> int:
    before, environment = os.getcwd(), dict(os.environ)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            arguments = _arguments(command(number), _things(root, rng), root, rng)
            try:
                os.chdir(root)
                code, printed, said = run(arguments)
                assert code in (0, 1, 2), f"exit code {code}"
                assert "Traceback" not in said, said
                if code == 1 and arguments[0] != "check":  # it prints a line for everything damaged
                    assert len(said.strip().splitlines()) == 1, f"no single line: {said!r}"
                assert code == 0 or said.strip() or printed.strip(), "nothing said"
            except Exception as error:
                shown = json.dumps(arguments)
                raise AssertionError(f"seed {seed}, command {number} {shown}: {type(error).__name__}: {error}") from error
            finally:
                os.chdir(before)
                os.environ.clear()
                os.environ.update(environment)
    return count
