"""What a benchmark measures of a command: its own time and memory, and its workers'; and what it was to measure."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks.__main__ as suite
from benchmarks.measure import alone, judged, together

MB = 1 << 20


def holding(megabytes: int) -> list[str]:
    """Arguments of timeit, that hold so much."""
    return ["-n", "1", "-r", "1", f"x = bytearray({megabytes * MB}); x[::4096] = b'1' * len(x[::4096])"]


def test_memory_is_the_commands_own_whatever_this_process_has_had():
    np.ones(700 * MB, np.uint8)
    small = alone(holding(1), module="timeit").peak_mb
    assert small < 100
    assert 290 < alone(holding(300), module="timeit").peak_mb - small < 330


def test_commands_run_beside_each_other_and_are_told_apart():
    wait = ["-n", "1", "-r", "1", "import time; time.sleep(1)"]
    first, second = together(wait, holding(300), module="timeit")
    assert first.peak_mb < 100 < 300 < second.peak_mb
    assert first.seconds >= 1


def test_workers_count_too():
    worker = "import time; x = bytes(range(256)) * (1 << 20); time.sleep(1)"
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{worker}'])"
    assert alone(["-n", "1", "-r", "1", work], module="timeit").peak_mb > 256


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="failed"):
        alone(["-n", "1", "1 / 0"], module="timeit")


@pytest.mark.parametrize(
    ("limits", "words", "met"),
    [
        ({"ratio": (2, None)}, "ratio ≥ 2", True),
        ({"ratio": (3.5, None)}, "ratio ≥ 3.5", False),
        ({"peak_mb": (None, 2000)}, "peak mb ≤ 2,000", True),
        ({"peak_mb": (None, 1999)}, "peak mb ≤ 1,999", False),
        ({"ratio": (2, 3)}, "ratio ≥ 2, ratio ≤ 3", True),
        ({"ratio": (2.9, None), "peak_mb": (None, 1)}, "ratio ≥ 2.9, peak mb ≤ 1", False),
        ({"ratio": (None, 1), "peak_mb": (None, 2000)}, "ratio ≤ 1, peak mb ≤ 2,000", False),
        ({"lost": (None, 0.01)}, "lost ≤ 0.01", True),
    ],
)
def test_a_target_is_met_where_every_limit_is_kept(limits, words, met):
    line = {"ratio": 3.0, "peak_mb": 2000.0, "lost": -0.5}
    assert judged(line, **limits) == {**line, "target": words, "met": met}


def test_the_table_says_which_targets_are_missed(tmp_path, monkeypatch, capsys):
    line = {"benchmark": "b", "case": "c", "seconds": 1.0, "peak_mb": 2.0, "ratio": 3.0, "of": "x"}
    lines = [judged(line, ratio=(3, None)), judged(line, ratio=(4, None)), line]
    monkeypatch.setattr(suite, "ALL", (SimpleNamespace(__name__="benchmarks.b", run=lambda _: lines),))
    monkeypatch.chdir(tmp_path)
    suite.main(["b"])
    said = capsys.readouterr().out
    assert said.count("met") == said.count("missed") == 1
    assert json.loads((tmp_path / "results/benchmarks.json").read_text()) == lines
    written = (tmp_path / "results/benchmarks.md").read_text().splitlines()
    assert {text.count("|") for text in written} == {len(suite.HEADER) + 1}
    assert written[2:] == [
        "| b | c | 1 | 2 | 3.00 | x | ratio ≥ 3: met |  |  |  |",
        "| b | c | 1 | 2 | 3.00 | x | ratio ≥ 4: missed |  |  |  |",
        "| b | c | 1 | 2 | 3.00 | x |  |  |  |  |",
    ]
    with pytest.raises(SystemExit, match="no benchmark"):
        suite.main(["c"])
