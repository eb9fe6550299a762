"""Snakemake in a fork of a process that has imported it: a second and more off each of the suite's hundreds of runs.

Everything else is as in a process of its own: arguments, folder, environment, streams, exit status.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

CONTEXT = get_context("forkserver")
# what the Snakefile imports of ours too; it reads the sources of a stage anew
CONTEXT.set_forkserver_preload(["snakemake.cli", "snakemake.executors.local", "limbeck.plan", "limbeck.resources", "limbeck.warm"])


def snakemake(arguments: Sequence[str], folder: Path, env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """``python -m snakemake ARGUMENTS`` in a folder and environment.

    Raises
    ------
    subprocess.TimeoutExpired: it took longer.
    """
    with tempfile.TemporaryDirectory() as said:
        streams = [f"{said}/out", f"{said}/err"]
        process = CONTEXT.Process(target=_run, args=(list(arguments), str(folder), dict(env), streams))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired("snakemake", seconds)
        out, err = (Path(path).read_text() for path in streams)
    return subprocess.CompletedProcess(["snakemake", *arguments], process.exitcode, out, err)


def _run(arguments: list[str], folder: str, env: dict[str, str], streams: list[str]) -> None:
    for number, path in enumerate(streams, 1):
        opened = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()
