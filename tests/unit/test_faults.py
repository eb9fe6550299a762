"""How faults of the machine are said (``tests/chaos`` has the faults themselves)."""

import errno
import os
from pathlib import Path

import pytest

from limbeck.errors import LimbeckError
from limbeck.faults import REMEDIES, check_writable, explained, writing


@pytest.mark.parametrize("number", REMEDIES)
def test_a_fault_names_the_file_and_what_to_do(number):
    said = explained(OSError(number, os.strerror(number), "/a/b"))
    assert said == f"/a/b: {os.strerror(number).lower()}; {REMEDIES[number]}, then run again"


def test_what_is_no_fault_of_the_machine_stays_a_bug():
    for error in (ValueError("x"), OSError("x"), OSError(errno.EBADF, "x"), RuntimeError("x"), ConnectionError("x")):
        assert explained(error) is None
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes")):
        assert "mem_mb" in explained(error)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "x"), "/r/x.zip"),
        (OSError(errno.ENOSPC, "x", "/in/y", None, "/r/.x.zip.abc.part"), "/r/x.zip"),  # as shutil.copyfile says it
        (OSError(errno.EACCES, "x", "/r/.x.zip.abc.part"), "/r/x.zip"),
        (OSError(errno.EACCES, "x", "/in/y"), "/in/y"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "/r/x.zip"),  # as safetensors
    ],
)
def test_a_write_names_the_file_that_was_meant(error, named):
    with pytest.raises(OSError) as caught, writing(Path("/r/x.zip")):  # noqa: PT011
        raise error
    assert caught.value.filename == named


def test_results_that_cannot_be_written_stop_a_run_but_no_dry_run(workflow):
    flow = workflow(results="/proc/nowhere")
    done = flow.snakemake()
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "results: /proc/nowhere: no such file or directory; " in said
    assert "Traceback" not in said
    assert "rule ingest" not in said
    assert ("ingest", "") in flow.planned()


def test_results_are_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(LimbeckError, match=r"results: .*file: file exists; move the file"):
        check_writable(tmp_path / "file")
