"""What a run is said to take: chains and schedules against brute force and bounds, rates, sizes by the schemas."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import rates as benchmark
from limbeck import artifacts, resources
from limbeck.costs import disk, rates
from limbeck.costs.jobs import planned
from limbeck.costs.schedule import critical_path, levels, makespan
from limbeck.errors import LimbeckError
from limbeck.store import create

ROOT = Path(__file__).parents[2]


@st.composite
def graphs(draw: st.DrawFn, most: int = 9) -> tuple[np.ndarray, list[list[int]]]:
    """Jobs of whole seconds that wait for earlier ones, in any order."""
    n = draw(st.integers(1, most))
    after = [sorted(draw(st.sets(st.integers(0, job - 1), max_size=3))) if job else [] for job in range(n)]
    order = draw(st.permutations(range(n)))
    moved = [[order.index(before) for before in after[job]] for job in order]
    return np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), float), moved


def chains(after: list[list[int]], job: int) -> list[list[int]]:
    """Every chain of jobs that ends with one."""
    return [[job]] + [[*chain, job] for before in after[job] for chain in chains(after, before)]


@given(graphs())
def test_the_longest_chain_is_the_longest_of_all(graph):
    seconds, after = graph
    path = critical_path(seconds, after)
    every = [chain for job in range(len(after)) for chain in chains(after, job)]
    assert sum(seconds[path]) == max(sum(seconds[chain]) for chain in every)
    assert all(before in after[job] for before, job in pairwise(path))
    assert levels(after).tolist() == [max(map(len, chains(after, job))) - 1 for job in range(len(after))]


@given(graphs(), st.integers(1, 4), st.integers(1, 3), st.data())
def test_a_makespan_is_within_its_bounds(graph, cores, gpus, data):
    seconds, after = graph
    n = len(after)
    threads = np.array(data.draw(st.lists(st.integers(1, cores), min_size=n, max_size=n)))
    gpu = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    found, chain = makespan(seconds, after, threads, gpu, cores, gpus), sum(seconds[critical_path(seconds, after)])
    assert max(chain, sum(seconds * threads) / cores, sum(seconds * gpu) / gpus) - 1e-9 <= found <= sum(seconds) + 1e-9
    one = np.ones(n, int)
    assert makespan(seconds, after, one, gpu & False, 1, 0) == sum(seconds)
    # with room for all of them only chains take time; Graham's bound for list scheduling
    assert makespan(seconds, after, one, gpu & False, n, 0) == chain
    assert makespan(seconds, after, one, gpu & False, cores, 0) <= sum(seconds) / cores + chain * (1 - 1 / cores) + 1e-9


def test_a_job_that_never_fits_is_no_schedule():
    with pytest.raises(ValueError, match="more cores or GPUs than there are"):
        makespan(np.ones(1), [[]], np.array([3]), np.array([False]), 2, 0)
    assert critical_path(np.zeros(0), []) == []


def test_work_is_shared_out_over_devices_and_threads():
    found, _ = rates.load(None, "nowhere")
    cpu, cuda = found.cpu.rates, found.cuda.rates
    work = {"files": 100.0, "start_torch": 1.0, "denoiser": 1e12}
    start, decoded, evaluated = 1 / cpu["start_torch"], 100 / cpu["files"], 1e12 / cpu["denoiser"]
    assert found.split(work, 1, False) == pytest.approx((start + decoded + evaluated, 0, start + decoded + evaluated))
    assert found.split(work, 4, False) == pytest.approx((start + (decoded + evaluated) / 4, 0, start + decoded + evaluated))
    there = 1e12 / cuda["denoiser"]
    assert found.split(work, 4, True) == pytest.approx((there + start + decoded / 4, there, start + decoded))


def test_own_rates_go_before_the_shipped_ones(tmp_path):
    shipped, source = rates.load(None, str(tmp_path))
    assert (source, shipped.cpu.measured, shipped.cuda.measured) == (rates.SHIPPED, True, False)
    own = {**shipped.cpu.model_dump(), "rates": {**shipped.cpu.rates, "umap": 7.0}}
    (tmp_path / rates.NAME).write_text(json.dumps({"cpu": own}))
    found, source = rates.load(None, str(tmp_path))
    assert (source, found.cpu.rates["umap"], found.cuda) == (tmp_path / rates.NAME, 7, shipped.cuda)
    assert rates.load(rates.SHIPPED, str(tmp_path)) == (shipped, rates.SHIPPED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"umap": 0.0}, r"rates.json: cpu.rates: umap: 0.0 per second is no rate"),
        ({"snark": 1.0}, r"rates.json: cpu.rates: unknown kind of work 'snark'; known: denoiser, .*"),
        (None, r"rates.json: cpu: no rate of denoiser, .*; run python -m benchmarks.rates"),
        ("{", r"rates.json: no file of rates \(.*\); python -m benchmarks.rates writes one"),
    ],
)
def test_bad_rates_are_one_line(tmp_path, change, message):
    about = json.loads(rates.SHIPPED.read_text())
    about["cpu"]["rates"] = {**about["cpu"]["rates"], **change} if isinstance(change, dict) else {}
    (tmp_path / "rates.json").write_text(change if isinstance(change, str) else json.dumps(about))
    with pytest.raises(LimbeckError, match=message) as error:
        rates.load(tmp_path / "rates.json", "nowhere")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LimbeckError, match=f"{tmp_path}/mine.yaml: no such file"):
        planned([tmp_path / "mine.yaml"], snakefile=ROOT / "Snakefile", cores=1)
    with pytest.raises(LimbeckError, match="Snakefile: no such file"):
        planned([], snakefile=tmp_path / "Snakefile", cores=1)


def test_every_rule_has_the_stage_of_its_params():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    text = re.sub(r"^    +rule:\s+name:\s+f\"(\w+)_\{.*", r"rule \1_x:", text, flags=re.M)  # one per family
    rules = re.split(r"^(?=(?:use )?rule )", text, flags=re.M)
    stages: dict[str, str] = {}
    for body in rules[1:]:
        name, parent = re.match(r"(?:use )?rule (\w+)(?: as (\w+))?", body).groups()
        used = re.search(r'spec=spec\("(\w+)"\)', body)
        stages[parent or name] = used.group(1) if used else stages[name]
    assert {"candidates", "take_latents", "embed_candidates", "prior_x", "finetune_x", "report"} <= set(stages)
    assert {rule: resources.stage_of(rule) for rule in stages} == stages
    assert resources.stage_of("all") is None
    assert set(disk.WRITTEN) == set(resources.ESTIMATES)


def test_work_is_of_known_kinds_and_its_limit_is_above_what_is_expected():
    assert set(resources.KINDS) == set(rates.load(None, "nowhere")[0].cpu.rates)
    found = resources.Need(0, {"denoiser": 3600 * resources.CORE, "files": 10})
    assert found.seconds == pytest.approx(3600 * (1 + resources.CORE / resources.GPU) + 10 * resources.KINDS["files"].slow)
    much = 1e6 * resources.CORE  # of which all but so many hours per training are given to a GPU
    assert resources.Need(0, {"training": much}, 3).seconds == 3 * resources.LONG + much / resources.GPU
    for kind, rate in rates.load(None, "nowhere")[0].cpu.rates.items():
        slow = resources.KINDS[kind].slow or (1 / resources.CORE if resources.KINDS[kind].unit == resources.FLOPS else math.inf)
        assert slow > 1 / rate, kind


def test_a_machine_is_asked_for_every_kind(tmp_path):
    cases = {**benchmark.small("cpu"), **benchmark.arrays(), **benchmark.files(tmp_path)}
    assert {*cases, *benchmark.STARTS, *resources.NETWORKS, "fetched"} == set(resources.KINDS)
    for kind, (amount, call) in cases.items():
        if kind not in ("umap", "draws"):  # seconds each
            call()
        assert amount > 0
    found = benchmark.measured({"io": (2.0, lambda: None)}, iter((0.0, 0.5, 0.9, 4.0)).__next__)
    assert found == {"io": 1.0}  # two units in each of two calls, in four seconds


def test_an_artifact_is_as_large_as_its_schema_says(tmp_path):
    from tests.unit.test_resources import plan

    n, shape = 700, {"latent_channel": 4, "latent_height": 8, "latent_width": 8}
    shapes = {"latents": (n, 4, 8, 8), "labels": (n,)}
    names = list(plan().source("fashion-mini").classes)
    with create(tmp_path / "a.zarr.zip", artifacts.LATENTS, shapes, {}, {}, classes=names) as out:
        out.append("latents", np.random.default_rng(0).normal(size=shapes["latents"]))
        out.append("labels", np.repeat(np.arange(10), n // 10))
    said = disk.stored(plan(), "fashion-mini", artifacts.LATENTS, {"image": n, **shape})
    assert said == pytest.approx((tmp_path / "a.zarr.zip").stat().st_size, rel=0.02)
