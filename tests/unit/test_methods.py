import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from snakemake.utils import update_config

from limbeck.config import Config
from limbeck.derived import inherit
from limbeck.errors import LimbeckError
from limbeck.inspection import generated
from limbeck.methods import embedding_name, embedding_options, fit_name, fit_options
from limbeck.plan import Plan
from limbeck.resolution import resolve

ROOT = Path(__file__).parents[2]


def plan(**changes: object) -> Plan:
    """A plan of the default config with some keys changed by dotted path."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = config
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return Plan(config)


def test_config_yaml_is_the_packages_defaults():
    assert Config.model_validate(yaml.safe_load((ROOT / "config.yaml").read_text())) == Config()


def test_generated_files_are_in_step():
    found = generated(ROOT)
    assert len(found) > 10
    for path, text in found.items():
        assert path.read_text() == text, f"{path.name}; run: limbeck schema ."


# those of papers/ lie over a benchmark's: tests/workflow/test_overlays.py
@pytest.mark.parametrize("path", sorted((ROOT / "workflow/configs").glob("*.yaml")), ids=lambda p: p.name)
def test_ready_made_configs_validate(path):
    base, over = (yaml.safe_load(p.read_text()) for p in (ROOT / "config.yaml", path))
    update_config(base, over)
    config = inherit(Config.model_validate(base))
    run = config.run
    assert run.prior in config.priors
    assert set(run.datasets) <= set(config.datasets)
    for ipc in run.ipc:
        for name in run.methods if isinstance(run.methods, tuple) else run.methods[ipc]:
            assert resolve(config, name, ipc, run.prior, run.datasets[0]).name == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods__mgd__wieght": 0.1}, r"methods\.mgd\.wieght: unknown option; allowed: .*'weight'"),
        ({"run__ipcs": [10]}, r"run\.ipcs: Extra inputs are not permitted"),
        ({"run__ipc": ["ten"]}, r"run\.ipc\.0: .*'ten'"),
        ({"run__ipc": [501]}, r"run\.ipc: 501 images per class asked of .*, but class 'T-shirt/top' of fashion-mini has 500"),
        ({"run__prior": "dalle"}, r"run\.prior: unknown name 'dalle'; known: \['dit-xl', .*'fashion-dit', .*\]"),
        ({"run__methods": ["mdg"]}, r"run\.methods: unknown method 'mdg'"),
        ({"run__datasets": ["cifar"]}, r"run\.datasets: unknown name 'cifar'"),
        (
            {"run__students": ["vit"], "datasets__fashion-mini__views": {"v32": {"size": 24}}},
            r"vit under tiny-hard on fashion-mini: .*24",
        ),
        ({"run__teacher": "two", "teachers__two": {"members": ["convnet3"]}}, r"run\.teacher: 'two' has members"),
        ({"teachers__two": {"members": ["none"]}}, r"teachers\.two\.members: unknown name 'none'"),
        ({"teachers__two": {"members": ["convnet3"], "seed": 1}}, r"teachers\.two: .*'seed' is not read"),
        ({"teachers__two": {"protocol": "rded-soft"}}, r"teachers\.two\.protocol: 'rded-soft' has soft labels"),
        ({"teachers__two": {"weights": "nowhere.pt"}}, r"teachers\.two\.weights: no file nowhere\.pt"),
        (
            {"run__protocols": ["p"], "protocols__p": {"base": "rded-soft", "teacher": "q"}},
            r"protocols\.p\.teacher: unknown name 'q'",
        ),
        ({"run__protocols": ["tiny"]}, r"run\.protocols: unknown protocol 'tiny'; choose one of"),
        ({"run__students": ["resnet"]}, r"run\.students: unknown name 'resnet'"),
        ({"methods__mgd__weight": 2}, r"methods\.mgd\.weight: .*less than or equal to 1 \(got 2\)"),
        ({"methods__manifoldgd__t_stop": 51}, r"methods\.manifoldgd\.t_stop: 51 is beyond the 50 steps"),
        ({"methods__manifoldgd__k": 3}, r"methods\.manifoldgd: .*k 3 is fewer than d \+ 2 = 5 neighbours"),
        ({"methods__manifoldgd__k": 0}, r"methods\.manifoldgd\.k.*"),
        ({"methods__manifoldgd__lam_man": 1.5}, r"methods\.manifoldgd: .*lam_man 1\.5 removes more than the normal component"),
        ({"methods__manifoldgd__radius": 2}, r"methods\.manifoldgd: .*radius 2 is no quantile"),
        ({"methods__manifoldgd__s_start": 9}, r"methods\.manifoldgd: .*s_start 9 is beyond depth 8"),
        (
            {"methods__manifoldgd__depth": 2},
            r"methods\.manifoldgd\.depth: a tree of depth 2 has at most 7 nodes to choose, IPC is 10",
        ),
        ({"methods__manifoldgd__t_stop": 5}, r"methods\.manifoldgd\.warmup: 5 of 5 guided steps leave none to anneal"),
        ({"methods__manifoldgd__guidance": ["mode", "manifold"]}, r"methods\.manifoldgd\.guidance: 'manifold' corrects its own"),
        ({"methods__tangents": {"base": "mgd"}}, r"methods\.tangents: the name is reserved"),
        ({"methods__coda__prior_injection_steps": 51}, r"methods\.coda\.prior_injection_steps: 51 is beyond the 50 steps"),
        ({"methods__coda__min_cluster_size": 1}, r"methods\.coda\.min_cluster_size: .*greater than or equal to 2"),
        ({"methods__coda__variant": "relased"}, r"methods\.coda\.variant: .*'paper' or 'released' \(got 'relased'\)"),
        ({"methods__mgd__t_stop": 51}, r"methods\.mgd\.t_stop: 51 is beyond the 50 steps"),
        ({"methods__mgd__base": "mgdd"}, r"methods\.mgd\.base: unknown base 'mgdd'"),
        ({"methods__random__guidance": ["mode"]}, r"methods\.random\.guidance: keeps real images"),
        ({"methods__dit__guidance": ["mode"]}, r"methods\.dit\.guidance: has no prototypes"),
        ({"methods__mgd__weight": {50: 0.2}}, r"methods\.mgd\.weight: no value for ipc 10"),
        ({"run__seeds": {50: [0]}}, r"run\.seeds: no seeds for ipc 10"),
        ({"run__seeds": []}, r"config: run\.seeds: .*at least 1 item"),
        ({"run__seeds": [0, 0]}, r"config: run\.seeds: 0 stands there twice \(got \[0, 0\]\)$"),
        ({"run__seeds": [-1]}, r"config: run\.seeds\.0: .*greater than or equal to 0"),
        ({"run__methods": ["dit", "dit"]}, r"config: run\.methods: 'dit' stands there twice"),
        ({"run__protocols": ["tiny-hard", "tiny-hard"]}, r"config: run\.protocols: 'tiny-hard' stands there twice"),
        ({"run__ipc": []}, r"config: run\.ipc: .*at least 1 item"),
        ({"datasets__ipc10": {"source": "npz", "path": "x"}}, r"datasets\.ipc10: the name is reserved"),
        ({"priors__fashion-dit__train": {"dataset": "fashion-mini"}}, "exactly one of 'weights', 'train' and 'base'"),
        ({"priors__fashion-dit__weights": "package:nothing"}, r"weights: missing in .*model_index\.json"),
        ({"priors__fashion-dit__view": "v64"}, r"priors\.fashion-dit\.view: 'v64' is not a view of dataset fashion-mini"),
        ({"results": "my {results}"}, r"results: .*has braces"),
    ],
)
def test_bad_config_is_one_line_that_names_the_key(changes, message):
    with pytest.raises(LimbeckError, match=message) as caught:
        plan(**changes)
    assert "\n" not in str(caught.value)


def test_a_missing_idx_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(LimbeckError, match="dataset-fashion-mnist"):
        plan(run__datasets=["fashion_mnist"], datasets__fashion_mnist__path=str(tmp_path))


def test_options_may_be_mappings_by_ipc_dataset_and_prior():
    config = Config(methods={"m": {"base": "mgd", "weight": {10: 0.2, 50: 0.4}, "steps": {"fashion-mini": 40}}})
    assert resolve(config, "m", 10, "fashion-dit", "fashion-mini").guidance[0]["weight"] == 0.2
    assert resolve(config, "m", 50, "fashion-dit", "fashion-mini").sampler["steps"] == 40
    with pytest.raises(LimbeckError, match=r"methods\.m\.steps: no value"):
        resolve(config, "m", 10, "fashion-dit", "other")


def test_variants_share_a_discovery_unless_its_options_differ():
    config = Config(methods={"a": {"base": "mgd"}, "b": {"base": "kmeans"}, "c": {"base": "mgd", "n_init": 7}})
    names = [resolve(config, n, 10, "fashion-dit", "d").discovery_name for n in "abc"]
    assert names[0] == names[1] != names[2]


def test_specs_hold_only_what_their_stage_reads():
    p, q = plan(), plan(methods__mgd__weight=0.3)
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "method": "mgd", "ipc": "10", "seed": "0", "shard": "0"}
    assert p.spec("sample", w) != q.spec("sample", w)
    assert p.spec("sample", {**w, "method": "dit"}) == q.spec("sample", {**w, "method": "dit"})
    assert json.loads(q.spec("sample", w))["guidance"][0]["weight"] == 0.3
    encode = {"dataset": "fashion-mini", "view": "v32", "vae": "fashion-dit", "shard": "0"}
    assert p.spec("encode", encode) == q.spec("encode", encode)


def test_the_conda_environment_has_the_lock_files_pins():
    pins = {line.split("==")[0].lower(): line for line in (ROOT / "constraints.txt").read_text().split()}
    wanted = yaml.safe_load((ROOT / "envs/cpu.yaml").read_text())["dependencies"][-1]["pip"]
    assert [pins[line.split("==")[0].lower()] for line in wanted] == wanted
    cuda = yaml.safe_load((ROOT / "envs/cuda.yaml").read_text())["dependencies"][-1]["pip"]
    # faiss for CUDA is a package of its own, of which there is no release for every other
    assert [line for line in cuda if not line.startswith("faiss-gpu")] == [
        line for line in wanted if not line.startswith("faiss-cpu")
    ]
    assert len(cuda) == len(wanted)


def test_tangents_are_named_by_what_they_depend_on_alone():
    variants = {
        "a": {},
        "b": {"lam_man": 0.5},
        "c": {"kernel": "imq", "correction": "pull"},
        "d": {"d": 4},
        "e": {"solver": "ddpm"},
        "f": {"s_start": 2},
        "g": {"query": "online"},
        "h": {"correction": "none"},
        "i": {"t_stop": 0},
    }
    config = Config(methods={name: {"base": "manifoldgd", **change} for name, change in variants.items()})
    found = {name: resolve(config, name, 10, "fashion-dit", "d") for name in variants}
    assert found["a"].tangents_name == found["b"].tangents_name == found["c"].tangents_name
    assert len({found[name].tangents_name for name in "adef"}) == 4
    assert found["g"].tangents_name is None
    assert found["g"].tangents is not None
    assert found["h"].tangents is found["i"].tangents is None
    assert found["a"].fit == found["f"].fit == {"kind": "divisive", "depth": 8, "n_init": 3}
    assert found["a"].guidance[0]["target"] == "member"  # the composition's own default


def test_a_method_that_is_not_run_stops_no_other():
    """Its tree could not give this IPC; nobody asks it to."""
    made = plan(run__methods=["kmeans", "manifoldgd"], run__ipc=[50], methods__shallow={"base": "manifoldgd", "depth": 2})
    method = made.method("manifoldgd", 50, "fashion-mini")
    assert made.discovery_options(method.discovery_name, 50, "fashion-mini") == method.discovery
    assert (
        made.tangents_method({"tangents": method.tangents_name, "ipc": 50, "dataset": "fashion-mini", "prior": "fashion-dit"})
        == method
    )
    broken = plan(run__methods=["kmeans"], methods__broken={"base": "nothing"})
    kmeans = broken.method("kmeans", 10, "fashion-mini")
    assert broken.discovery_options(kmeans.discovery_name, 10, "fashion-mini") == kmeans.discovery


def test_the_page_shows_one_first_seed_throughout():
    made = plan(run__seeds=[10, 2])
    spec = json.loads(made.spec("report", {"dataset": "fashion-mini", "ipc": "10"}))
    assert spec["first_seed"] == 2
    of_one = [name for name in spec["distilled"] if name not in spec["subgroups"]]  # the others sample under groups' seeds
    shown = [p for key in ("distilled", "prototypes") for name in of_one for p in spec[key].get(name, [])]
    shown += [p for part in ("sampling", "tangents") for name in of_one for group in spec[part].get(name, []) for p in group]
    assert len(shown) > 10
    assert all("/seed2/" in path for path in shown)
    inputs = made.report_inputs("fashion-mini", 10)
    declared = {path.removeprefix(f"{made.root}/") for paths in inputs.values() for path in paths}
    assert {p for key in ("distilled", "prototypes") for paths in spec[key].values() for p in paths} <= declared
    assert {p for part in ("sampling", "tangents") for groups in spec[part].values() for g in groups for p in g} <= declared


def test_what_the_paper_sets_by_ipc_is_filled_in():
    config = Config()
    low, high = (resolve(config, "coda", ipc, "fashion-dit", "d") for ipc in (20, 21))
    assert (low.discovery["n_neighbors"], low.discovery["min_cluster_size"]) == (85, 55)
    assert (high.discovery["n_neighbors"], high.discovery["min_cluster_size"]) == (40, 15)
    assert [m.guidance[0][key] for m in (low, high) for key in ("gamma", "prior_injection_steps")] == [1.0, 15, 0.8, 8]
    assert resolve(Config(methods={"c": {"base": "coda", "gamma": 0.1}}), "c", 50, "fashion-dit", "d").guidance[0]["gamma"] == 0.1


def test_an_embedding_depends_on_what_its_reducer_reads():
    variants = {"a": {}, "b": {"min_cluster_size": 9}, "c": {"n_neighbors": 9}, "d": {"reducer": "pca"}}
    variants["e"] = {"reducer": "pca", "n_neighbors": 9}
    config = Config(methods={name: {"base": "coda_real", **change} for name, change in variants.items()})
    found = {name: resolve(config, name, 10, "fashion-dit", "d").discovery for name in variants}
    options = {name: embedding_options(discovery) for name, discovery in found.items()}
    names = {name: embedding_name(options[name]) for name in variants}
    assert names["a"] == names["b"] != names["c"]
    assert options["d"] == options["e"] == {"reducer": "pca", "components": 50, "standardize": True}
    assert fit_name(fit_options(found["d"])) == fit_name(fit_options(found["e"]))
    assert len({fit_name(fit_options(found[name])) for name in "abc"}) == 3


def test_a_variant_of_algorithm_2_shares_embedding_and_clusters():
    config = Config(methods={name: {"base": "coda_real", "variant": name} for name in ("paper", "released")})
    paper, released, default = (resolve(config, name, 10, "fashion-dit", "d") for name in ("paper", "released", "coda_real"))
    assert fit_name(paper.fit) == fit_name(released.fit)
    assert embedding_options(paper.discovery) == embedding_options(released.discovery)
    assert default.discovery_name == paper.discovery_name != released.discovery_name


def test_injection_steps_left_open_follow_the_number_of_steps():
    config = Config(methods={"c": {"base": "coda", "steps": 10}, "all": {"base": "coda", "steps": 10, "prior_injection_steps": 10}})
    assert resolve(config, "c", 10, "fashion-dit", "d").guidance[0]["prior_injection_steps"] == 3
    assert resolve(config, "all", 10, "fashion-dit", "d").guidance[0]["prior_injection_steps"] == 10  # the paper's PIS = 50


def test_a_target_outside_the_run_finds_its_fit_and_embedding():
    made = plan()  # run.ipc is [10]; at 50 CoDA's embedding and clusters are others
    method = made.method("coda", 50, "fashion-mini")
    fit, embedding = fit_options(method.discovery), embedding_options(method.discovery)
    assert made.fit_of(fit_name(fit), "fashion-mini") == fit
    assert made.embedding_of(embedding_name(embedding), "fashion-mini") == embedding
    other = plan(methods__own={"base": "coda", "n_neighbors": {10: 9, 37: 11}})
    options = embedding_options(other.method("own", 37, "fashion-mini").discovery)
    assert other.embedding_of(embedding_name(options), "fashion-mini")["n_neighbors"] == 11


@pytest.mark.parametrize("page", ["README.md", "docs/IMAGES.md"])
def test_the_overlay_for_ones_own_images_can_be_planned(tmp_path, page):
    text = (ROOT / page).read_text()
    over = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(100):
            Image.new("RGB", (40, 40)).save(tmp_path / name / f"{i}.png")
    over["datasets"]["mine"]["path"] = str(tmp_path)
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(base, over)
    assert Plan(base).run.datasets == ("mine",)
