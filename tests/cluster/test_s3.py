"""Results in a bucket of an S3 server on loopback: the bytes of a local run, and a fresh clone that goes on from them."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Workflow, make_workflow, write_small

pytestmark = pytest.mark.long
BUCKET, FOLDER = "limbeck", "demo"
DATASET = {"source": "npz", "path": "small.npz", "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
TUNED = {"base": "tiny", "finetune": {"dataset": "small", "epochs": 1, "batch_size": 64}}
METHODS = {
    "mgd": {"base": "mgd", "weight": 0.1, "steps": 3, "t_stop": 2},
    "d3hr": {"base": "d3hr", "steps": 3, "inversion_step": 2, "candidates": 20},
    "s3": {"base": "ims3", "prior": "tuned", "steps": 3, "groups": 2},
}
CELL, PAGE = "small/tiny/mgd/ipc2/seed0", "small/ipc2/summary.html"
MGD = sorted([*((rule, "mgd") for rule in ("sample", "pngs", "embed", "measure", "train")), ("report", "")])


class Clone(Workflow):
    """A checkout that has its results in the bucket, by the profile of docs/CLUSTER.md."""

    def snakemake(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        prefix = ("--default-storage-prefix", f"s3://{BUCKET}/{FOLDER}")
        return super().snakemake("--profile", str(ROOT / "profiles/s3"), *prefix, *arguments, **options)


@dataclass
class Stored:
    """A run whose results went into a bucket, and the same run on disk."""

    local: Workflow
    first: Clone
    bucket: Any

    def objects(self) -> dict[str, str]:
        """Name below the results folder -> SHA-256."""
        found = {each.key: hashlib.sha256(each.get()["Body"].read()).hexdigest() for each in self.bucket.objects.all()}
        assert all(key.startswith(f"{FOLDER}/results/") for key in found)
        return {key.removeprefix(f"{FOLDER}/results/"): value for key, value in found.items()}

    def delete(self, *names: str) -> None:
        for name in names:
            self.bucket.Object(f"{FOLDER}/results/{name}").delete()

    def clone(self, folder: Path) -> Clone:
        """A fresh one: the config and the data, neither metadata nor local copies."""
        folder.mkdir()
        shutil.copy2(self.first.folder / "small.npz", folder)  # with its time, by which changed data are noticed
        made = Clone(folder, deepcopy(self.first.overlay))
        made.env = {**self.first.env, "XDG_CACHE_HOME": str(folder / "cache")}
        return made


def pipeline(folder: Path, prior: Path) -> Workflow:
    """A tenth of the embedded benchmark: real, guided and drawn images, and those of a tuned prior of which groups are kept."""
    folder.mkdir()
    write_small(folder / "small.npz")
    run = {"datasets": ["small"], "ipc": [2], "methods": ["random", *METHODS], "references": [], "repeats": 1, "held_out": 0}
    run |= {"prior": "tiny", "protocols": ["smoke"], "teacher": "smoke"}
    flow = make_workflow(folder, prior, results="results", run=run, datasets={"small": DATASET}, methods=METHODS)
    flow.overlay["priors"]["tuned"] = TUNED
    return flow


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Iterator[Stored]:
    if (os.environ.get("LIMBECK_S3") or "0") == "0":
        pytest.skip("LIMBECK_S3 is not set (make test-cluster)")
    # a second to import, of every worker that collects
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("s3")
    local = pipeline(folder / "local", tiny_prior)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        named = {"ENDPOINT_URL": url, "ACCESS_KEY": "key", "SECRET_KEY": "secret"}
        first = pipeline(folder / "first", tiny_prior)
        first = Clone(first.folder, first.overlay)
        first.env |= {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in named.items()}
        client = boto3.resource("s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret")
        local.build()
        first.build()
        yield Stored(local, first, client.Bucket(BUCKET))
    finally:
        server.stop()


def reproducible(names: Iterable[str]) -> set[str]:
    """Those whose bytes depend on neither time nor machine."""
    return {n for n in names if not n.startswith("logs/") and not n.endswith((".prov.json", "summary.html"))}


def shown(page: str) -> list[str]:
    """Its headings and pictures, which are there where their artifacts were."""
    return re.findall(r"<h2>.*?</h2>|<img", page)


def test_the_bucket_has_the_bytes_of_a_local_run_and_nothing_undeclared_is_left_out(stored):
    here = {str(p.relative_to(stored.local.results)): p for p in stored.local.results.rglob("*") if p.is_file()}
    there = stored.objects()
    assert set(there) == {n for n in here if not (n.endswith(".png") and "/images/" in n)}  # images.zip has those
    same = reproducible(there)
    assert {"priors/tuned/delta.safetensors", f"{CELL}/images.zip", "small/tuned/s3/ipc2/seed0/subgroups.zarr.zip"} < same
    assert {n: there[n] for n in same} == {n: hashlib.sha256(here[n].read_bytes()).hexdigest() for n in same}
    page = stored.bucket.Object(f"{FOLDER}/results/small/ipc2/summary.html").get()["Body"].read().decode()
    assert shown(page) == shown(here["small/ipc2/summary.html"].read_text())


def test_a_copy_of_the_bucket_is_whole(stored, tmp_path):
    from limbeck.checking import check_folder

    for name in stored.objects():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        stored.bucket.download_file(f"{FOLDER}/results/{name}", str(tmp_path / name))
    assert check_folder(tmp_path).damaged == []
    archive = tmp_path / CELL / "images.zip"
    archive.write_bytes(archive.read_bytes().replace(b"IDAT", b"IDAX", 1))
    assert check_folder(tmp_path).again == [archive]


def test_no_artifact_stays_on_the_machine(stored):
    assert not [p for p in stored.first.folder.rglob("*") if p.name.endswith((".zarr.zip", ".safetensors"))]


def test_a_fresh_clone_has_nothing_to_do(stored, tmp_path):
    assert stored.clone(tmp_path / "clone").planned() == []


def test_a_fresh_clone_notices_changed_parameters_by_the_metadata_alone(stored, tmp_path):
    clone = stored.clone(tmp_path / "clone")
    clone.overlay["methods"]["mgd"]["weight"] = 0.2
    assert clone.planned() == []
    shutil.copytree(stored.first.folder / ".snakemake/metadata", clone.folder / ".snakemake/metadata", dirs_exist_ok=True)
    assert clone.planned() == MGD


def test_a_fresh_clone_makes_only_what_is_missing(stored, tmp_path):
    before = stored.objects()
    clone = stored.clone(tmp_path / "clone")
    stored.delete(f"{CELL}/metrics/teacher.json", PAGE)
    assert clone.planned() == [("measure", "mgd"), ("report", "")]
    clone.build()
    after = stored.objects()
    assert set(after) == set(before)
    assert {n: after[n] for n in reproducible(after)} == {n: before[n] for n in reproducible(before)}
    assert clone.planned() == []
    # and what depends on it
    stored.delete(f"{CELL}/distilled-0.zarr.zip", PAGE)
    assert clone.planned() == MGD
