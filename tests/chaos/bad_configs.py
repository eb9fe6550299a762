"""Configs with values, keys and names that do not belong there: a plan, or one line that says what is wrong."""

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import yaml
from hypothesis import strategies as st
from snakemake.utils import update_config

from limbeck import resources
from limbeck.config import Config
from limbeck.errors import LimbeckError
from limbeck.methods import DISCOVERY, FULL, GUIDANCE
from limbeck.options import Sampler
from limbeck.plan import Plan
from limbeck.specs import Wildcards
from tests.chaos.messages import in_one_line

ROOT = Path(__file__).parents[2]
SWEEPS = ("coda_sweeps", "d3hr_sweeps", "ims3_sweeps", "manifoldgd_sweeps", "patches_sweeps")
OVERLAYS = (None, *SWEEPS, "coda_few_labels", "soft", "table")
Key = tuple[str | int, ...]


@functools.cache
def bases() -> list[dict[str, Any]]:
    """config.yaml, and the overlays over it whose data are embedded, laid as Snakemake lays them."""
    found = []
    for name in OVERLAYS:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        if name:
            update_config(config, yaml.safe_load((ROOT / f"workflow/configs/{name}.yaml").read_text()))
        config["run"]["methods"] = {10: _some(config["run"]["methods"])}
        config["run"] |= {"ipc": [10], "datasets": ["fashion-mini"], "seeds": [0]}
        found.append(config)
    return found


def _some(methods: Any) -> list[str]:
    """At most eight of a run's methods, spread over all, so that a plan takes a moment."""
    names = list(methods if isinstance(methods, list) else next(iter(methods.values())))
    return names[:: -(-len(names) // 8)]


@functools.cache
def words() -> list[str]:
    """Every key and every choice that the schema or an option's model knows, and every name of the configs."""
    found: set[str] = set()
    models = [each.options for each in DISCOVERY.values()] + list(GUIDANCE.values()) + [Sampler]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.update(map(str, node.get("properties", ())))
            found.update(value for value in node.get("enum", ()) if isinstance(value, str))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for model in (Config, *models):
        walk(model.model_json_schema())
    for config in bases():
        for table in config.values():
            found.update(map(str, table if isinstance(table, dict) else ()))
    return sorted(found)


def _deep(depth: int) -> list[Any]:
    out: list[Any] = []
    for _ in range(depth):
        out = [out]
    return out


ODD_NUMBERS = (0, -1, 1, 2, 3, 7, 10, 1000, 10**6, 10**9, 2**31, 2**63, 10**30, 10**400, -(10**30), 0.5, -0.0, 1e-300, 1e300)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
ODD_STRINGS = (
    "",
    " ",
    ".",
    "..",
    "/",
    "~",
    "~nobody",
    "a b",
    "../../x",
    "\0",
    "\n",
    "Ünï-çødé",
    "\udcff",
    "{seed}",
    "{x",
    "%s",
    "$(x)",
    "'",
)
ODD_STRINGS += (
    "{name}",
    "1",
    "-1",
    "1e5",
    "nan",
    "null",
    "true",
    "package:",
    "package:..",
    "package:fashion_mini.npz",
    "x" * 5000,
    "a/b",
    "a/b/c",
)


def scalars() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from(ODD_NUMBERS),
        st.sampled_from(NOT_FINITE),
        st.sampled_from(ODD_STRINGS),
        st.sampled_from(words()),
        st.none(),
        st.booleans(),
        st.integers(-5, 2000),
        st.floats(allow_nan=True),
        st.text(max_size=8),
        st.builds(lambda: _deep(500)),
    )


def values() -> st.SearchStrategy[Any]:
    keys = st.one_of(st.sampled_from(words()), st.integers(-1, 100), st.text(max_size=4), st.none(), st.floats())
    return st.recursive(
        scalars(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
    )


def nodes(value: Any, key: Key = ()) -> Iterator[Key]:
    """Where every value below one lies."""
    if key:
        yield key
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in pairs:
        yield from nodes(each, (*key, name))


def _at(config: Any, key: Key) -> Any:
    for name in key:
        config = config[name]
    return config


def mutated(config: dict[str, Any], changes: list[tuple[str, int, Any, str, int]]) -> dict[str, Any]:
    """A config after some changes: (what, which node, a value, a word, which other node)."""
    config = copy.deepcopy(config)
    for what, which, value, word, other in changes:
        keys = list(nodes(config))
        if not keys:
            return config
        key = keys[which % len(keys)]
        holder, name = _at(config, key[:-1]), key[-1]
        if what == "replace":
            holder[name] = value
        elif what == "delete":
            del holder[name]
        elif what == "word":
            holder[name] = word
        elif what == "copy":
            holder[name] = copy.deepcopy(_at(config, keys[other % len(keys)]))
        elif isinstance(holder, list):
            holder.insert(int(name), value)
        elif what == "rename":
            holder[word] = holder.pop(name)
        else:  # a key more
            holder[word] = value
    return config


def changes() -> st.SearchStrategy[list[tuple[str, int, Any, str, int]]]:
    what = st.sampled_from(("replace", "replace", "word", "copy", "rename", "add", "add", "delete"))
    one = st.tuples(what, st.integers(0, 10**6), values(), st.sampled_from(words()), st.integers(0, 10**6))
    return st.lists(one, min_size=1, max_size=3)


def jobs(plan: Plan) -> Iterator[tuple[str, Wildcards]]:
    """Some jobs of a run: everything behind the rows of its first page."""
    run = plan.run
    dataset, ipc = run.datasets[0], run.ipc[0]
    seed, view = plan.first_seed(ipc), plan.dataset(dataset).view
    w: dict[str, Any] = {"dataset": dataset, "ipc": str(ipc), "seed": str(seed), "shard": "0", "view": view, "split": "train"}
    w |= {"teacher": run.teacher, "protocol": run.protocols[0], "student": run.students[0], "extractor": run.extractors[0]}
    made = "label" if plan.dataset(dataset).source == "pseudo" else "take" if plan.dataset(dataset).of else "ingest"
    yield from ((stage, w) for stage in (made, "hold_out", "teacher", "features", "report"))
    yield "prior", {"prior": plan.vae_of(run.prior)}
    for name in plan.rows(ipc):
        yield "measure", {**w, "method": name}
        yield "train", {**w, "method": name, "ipc": "all" if name == FULL else str(ipc)}
        method = None if name == FULL else plan.method(name, ipc, dataset)
        if method is None:
            continue
        own = {**w, "method": name, "prior": method.prior, "vae": plan.vae_of(method.prior) if method.needs_prior else "none"}
        if method.imported:
            yield "imported", own
        if method.discovery is not None:
            yield "select", {**own, "discovery": method.discovery_name}
        if method.sampler is not None and method.keep is None:
            yield "sample", own
        if method.inversion_name:
            yield "invert", {**own, "inversion": method.inversion_name}
        if method.tangents_name:
            yield "tangents", {**own, "tangents": method.tangents_name}


def constrained(plan: Plan) -> None:
    """What the Snakefile asks when it is read."""
    for stage in ("pick", "sample", "keep", "imported"):
        re.compile(plan.made_by(stage))
    for family in ("dit", "sd", "sdxl"):
        re.compile(plan.tuned_priors(family, delta=True))
        re.compile(plan.priors_of(family))
    re.compile(plan.made_of("files"))


def judge(config: dict[str, Any]) -> bool:
    """Whether a config is accepted; what is not is refused in one line."""
    try:
        plan = Plan(config)
        targets = plan.targets()
        assert targets
        for dataset in plan.run.datasets:
            for ipc in plan.run.ipc:
                plan.report_inputs(dataset, ipc)
        for stage, w in jobs(plan):
            json.loads(plan.spec(stage, w))
            assert resources.memory_mb(plan, stage, w) > 0
            assert resources.runtime_min(plan, stage, w) > 0
        constrained(plan)
    except LimbeckError as error:
        in_one_line(error)
        return False
    return True


def configs(count: int, seed: int) -> int:
    """Changed configs, planned."""
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False
    )
    @hypothesis.given(st.integers(0, len(bases()) - 1), changes())
    def attempt(base: int, made: list[Any]) -> None:
        nonlocal tried
        tried += 1
        judge(mutated(bases()[base], made))

    _with_seed(attempt, seed)
    return tried


def _with_seed(attempt: Callable[[], None], seed: int) -> None:
    try:
        attempt()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        notes = "\n".join(getattr(error, "__notes__", ()))
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{notes}") from error
