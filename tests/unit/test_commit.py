"""Files whole or not at all, what killed processes leave, and what sidecars say."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck import commit, records
from limbeck.errors import ArtifactError
from limbeck.finetune.training import Checkpoint, Progress
from limbeck.priors.files import verify
from limbeck.stages.classifiers import Checkpoint as TrainingState
from limbeck.stages.prior import run as store_prior

WRITER = """
import sys, time
from pathlib import Path
from limbeck.commit import replacing, scratch
with {how}(Path(sys.argv[1])) as part:
    print(part, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["replacing", "scratch"])
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path, how):
    target = tmp_path / "deep" / "a.zarr.zip"
    writer = subprocess.Popen([sys.executable, "-c", WRITER.format(how=how), str(target)], stdout=subprocess.PIPE, text=True)
    part = Path(writer.stdout.readline().strip())
    assert part.parent == target.parent
    assert commit.sweep(tmp_path) == []
    assert part.exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert part.exists()
    assert commit.sweep(tmp_path) == [part]
    assert os.listdir(target.parent) == []


def test_a_job_that_is_tried_again_removes_what_it_left_itself(tmp_path):
    left, other = tmp_path / ".a.json.abcdefgh.part", tmp_path / ".b.json.abcdefgh.part"
    for path in (left, other):
        path.write_text("half")
    commit.write_text(tmp_path / "a.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.json.abcdefgh.part", "a.json"]


def test_the_journal_has_the_hash_of_everything_committed(tmp_path):
    with commit.journal() as written:
        commit.write_text(tmp_path / "a.txt", "a")
        with pytest.raises(RuntimeError), commit.replacing(tmp_path / "b.txt"):
            raise RuntimeError("stopped")
    commit.write_text(tmp_path / "c.txt", "c")
    assert written == {tmp_path / "a.txt": commit.digest(tmp_path / "a.txt")}


def test_a_sidecar_that_was_edited_is_refused(tmp_path):
    commit.write_text(tmp_path / "a.txt", "a")
    records.write_sidecar(tmp_path / "a.prov.json", {"seconds": 1.5}, {tmp_path / "a.txt": commit.digest(tmp_path / "a.txt")})
    text = (tmp_path / "a.prov.json").read_text()
    assert records.read_sidecar(tmp_path / "a.prov.json")["seconds"] == 1.5
    for bad in (text.replace("1.5", "1.6"), text.replace("\n", "\n ", 1), text[:-1], "[]", ""):
        (tmp_path / "a.prov.json").write_text(bad)
        with pytest.raises(ArtifactError, match="rebuild it: snakemake --force"):
            records.read_sidecar(tmp_path / "a.prov.json")


def test_the_command_that_rebuilds_is_the_one_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = records.command(str(tmp_path / "Snakefile"), [tmp_path / "my files/a b.yaml"], ["run={'ipc': [1]}"])
    assert given == "snakemake --configfile 'my files/a b.yaml' --config 'run={'\"'\"'ipc'\"'\"': [1]}'"
    monkeypatch.setenv(records.COMMAND, given)
    assert records.rebuild("results/x y.json") == f"rebuild it: {given} --force 'results/x y.json'"


def test_a_stored_prior_with_other_files_is_refused(tmp_path, tiny_prior):
    index = tmp_path / "stored/model_index.json"
    store_prior({"weights": str(tiny_prior), "family": "dit", "train": None, "load": {"dtype": "float32"}}, [], index)
    verify(index.parent)
    weights = index.parent / "transformer/diffusion_pytorch_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    verify(index.parent, "vae/")
    with pytest.raises(ArtifactError, match=rf"^{weights}: changed since it was written; rebuild it: snakemake --force {index}$"):
        verify(index.parent)
    weights.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        verify(index.parent)


def test_a_checkpoint_with_any_flipped_bit_is_not_gone_on_from(tmp_path):
    """A training from the start is right; one from other weights would not be."""
    rng = np.random.default_rng(int(time.time_ns()) % 2**32)
    tensors = {"weights/a": torch.randn(5, 3), "criterion/step": torch.tensor(3.0), "average/b": torch.randn(4).to(torch.bfloat16)}
    checkpoint = Checkpoint(tmp_path / "c", "task", 0.0)
    checkpoint.save(Progress(step=3), tensors)
    progress, found = checkpoint.load()
    assert progress == Progress(step=3)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    good = (tmp_path / "c").read_bytes()
    state = TrainingState(tmp_path / "r.json", {"code": "x"}, [])
    state.saved = -1e9
    state.save({"weights": {"a": torch.randn(6)}, "epoch": 2})
    kept = state.path.read_bytes()
    assert state.load()["epoch"] == 2
    for _ in range(100):
        (tmp_path / "c").write_bytes(flipped(good, rng))
        again = checkpoint.load()
        # the padding of the header may differ: the same is read
        assert again is None or (again[0] == progress and all(torch.equal(again[1][n], tensors[n]) for n in tensors))
        state.path.write_bytes(flipped(kept, rng))
        assert state.load() == {}


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    bad = bytearray(content)
    bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
    return bytes(bad)
