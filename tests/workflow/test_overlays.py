"""The benchmarks' overlays: each plans the papers' settings on a miniature of its data set, and runs whole on it, made small."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from snakemake.utils import update_config

from limbeck import papers
from limbeck.artifacts import DISTILLED
from limbeck.data import benchmarks
from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.report import published
from limbeck.store import Artifact
from tests import miniatures, tiny_priors
from tests.conftest import ROOT, Workflow
from tests.unit.test_overlay_numbers import CONFIGS, LETTERS, config

# the benchmark's own list of its folders, ImageNet's for all that are picked from it: the overlay picks its own
WOOF = (
    *("n02096294", "n02093754", "n02111889", "n02088364", "n02086240"),
    *("n02089973", "n02087394", "n02115641", "n02099601", "n02105641"),
)
PLACES = ("airfield", "airplane_cabin", "airport_terminal", "alcove", "alley", "amphitheater", "amusement_arcade", "amusement_park")
PLACES += ("apartment_building-outdoor", "aquarium", "arcade")
IMAGES = 10  # of a class of a benchmark of ten classes


def _imagenet(classes: str, train: int) -> Callable[[Path], Path]:
    """Folders of a benchmark, and one that it does not have, as ImageNet's has others."""
    return lambda root: miniatures.folders(root, (*benchmarks.members(classes), "n99999999"), train)


TEN = (*LETTERS, "imagenette", "imageidc")
MINIATURES: dict[str, Callable[[Path], Path]] = {
    **{name: _imagenet(name, IMAGES) for name in TEN},
    "imagewoof": lambda root: miniatures.folders(root, WOOF, IMAGES),
    "imagenet100": _imagenet("imagenet100", 2),
    "imagenet1k": lambda root: miniatures.folders(root, benchmarks.members("imagenet1k"), 2, size=(32, 32)),
    "places365": lambda root: miniatures.folders(root, PLACES, IMAGES),
    "cifar10": lambda root: miniatures.cifar10(root, 6),
    "cifar100": lambda root: miniatures.cifar100(root, 64, test=5, binary=True),
    "tiny_imagenet": lambda root: miniatures.tiny_imagenet(root, [wnid for wnid, _ in benchmarks.imagenet()[:400:2]], 2),
}
# overlays that differ in their data set alone are planned and run together
TOGETHER = [LETTERS, *((name,) for name in MINIATURES if name not in LETTERS)]
FEW = {"imagenet100": 2, "imagenet1k": 2, "tiny_imagenet": 2}  # images per class where there are fewer than IMAGES
TEXT_PRIORS = ("imagenette", "imagewoof", "imageidc", "imagenet1k", "places365")
TABLES = [(paper, name) for paper, tables in published.papers().items() for name, table in tables.items() if not table.omitted]


def test_every_overlay_is_tested():
    own = {"coda_few_labels"}  # of the embedded benchmark
    found = {path.stem for path in CONFIGS.glob("*.yaml") if "datasets" in yaml.safe_load(path.read_text())}
    assert found - own == set(MINIATURES)
    assert len(MINIATURES) == 14


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The miniature of a benchmark, made when it is first asked for."""
    root = tmp_path_factory.mktemp("data")

    def made(name: str) -> Path:
        return root / name if (root / name).exists() else MINIATURES[name](root / name)

    return made


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Random networks in the layouts of the papers' priors, DiT-XL/2's with ImageNet's 1,000 classes at 256 and at 32 pixels."""
    folder = tmp_path_factory.mktemp("priors")
    names = [text for _, text in benchmarks.imagenet()]
    plain = {"variant": None, "dtype": "float32"}
    return {
        "dit-xl": {"weights": str(tiny_priors.dit(folder / "dit256", names, 256))},
        "dit-xl-512": {"weights": str(tiny_priors.dit(folder / "dit512", names, 512))},
        "small": {"weights": str(tiny_priors.dit(folder / "dit32", names))},
        "sdxl": {"weights": str(tiny_priors.sdxl(folder / "xl")), **plain},
        "sd15": {"weights": str(tiny_priors.sd(folder / "sd")), **plain},
        "sd3": {"weights": str(tiny_priors.sd3(folder / "sd3")), **plain},
    }


def planned_as_it_is(found: dict[str, Any], data: Callable[[str], Path], priors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Overlays with nothing changed but where their files are, and as many images of a class as there are."""
    names = found["run"]["datasets"]
    # a hub's name is not asked for, nor weights that are not here
    here = {
        "run": {"ipc": [FEW.get(names[0], IMAGES)]},
        "datasets": {name: {"path": str(data(name))} for name in names},
        "priors": {key: value for key, value in priors.items() if key not in ("small", "dit-xl-512", "sd3")},
        "methods": {"s3": {"extractor": "teacher"}, "ims3": {"extractor": "teacher"}},
        "teachers": {"resnet18": {"weights": None}},
    }
    update_config(found, deepcopy(here))
    if names == ["imagenet1k"]:
        found["datasets"]["imagenet1k"]["shards"] = 2
        found["methods"]["patches"]["mosaic"] = "single"  # two images of a class are no two mosaics
    return found


def together(names: tuple[str, ...]) -> dict[str, Any]:
    """The overlays of some benchmarks as one."""
    each = [config(CONFIGS / f"{name}.yaml") for name in names]
    assert [one["run"].pop("datasets") for one in each] == [[name] for name in names]
    assert all(one["run"] == each[0]["run"] for one in each)
    found = config(*(CONFIGS / f"{name}.yaml" for name in names))
    found["run"]["datasets"] = list(names)
    return found


def methods(found: dict[str, Any]) -> list[str]:
    """The rows that an overlay asks for at its one IPC."""
    listed = found["run"]["methods"]
    return listed[found["run"]["ipc"][0]] if isinstance(listed, dict) else listed


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: names[0])
def test_the_papers_settings_plan(names, data, priors, tmp_path):
    flow = Workflow(tmp_path, planned_as_it_is(together(names), data, priors))
    run, jobs = flow.overlay["run"], flow.planned()
    cells = {"full", "subset", *methods(flow.overlay)}
    trained = [method for rule, method in jobs if rule == "train"]
    assert set(trained) == cells
    for method in cells:
        trainings = len(run["protocols"]) * len(run["students"]) * len(names)
        assert trained.count(method) == trainings * (1 if method == "full" else len(run["seeds"]))
    assert [rule for rule, _ in jobs].count("report") == len(names)


@pytest.mark.parametrize("name", MINIATURES)
def test_every_ipc_of_an_overlay_has_its_rows_and_seeds(name):
    run = config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml")["run"]
    for key in ("methods", "seeds"):
        assert not isinstance(run[key], dict) or set(run[key]) == set(run["ipc"])


@pytest.mark.parametrize("name", TEXT_PRIORS)
def test_text_priors_lie_over_a_benchmarks_overlay(name, data, priors):
    found = config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml", CONFIGS / "text_priors.yaml")
    planned_as_it_is(found, data, priors)
    assert Plan(found).targets() == [f"results/{name}/ipc{found['run']['ipc'][0]}/summary.html"]


class Plenty(Plan):
    """A plan over data sets of which every class has thousands of images, whatever a miniature has."""

    def counts(self, dataset: str) -> np.ndarray:
        return np.full(len(self.source(dataset).classes), 5000)


@pytest.mark.parametrize(("paper", "name"), TABLES)
def test_a_papers_table_plans(paper, name, data, priors, tiny_clip):
    found = papers.config(paper, name)
    weights = {key: str(tiny_clip) for key in found["extractors"]}
    # a benchmark, or one of other sizes
    benchmarks_of = {each: re.sub(r"-\d+$", "", each) for each in found["run"]["datasets"]}
    update_config(
        found,
        {
            "datasets": {each: {"path": str(data(name))} for each, name in benchmarks_of.items() if name in MINIATURES},
            "priors": {key: value for key, value in priors.items() if key in found["priors"]},
            "extractors": {key: {"kind": "clip", "weights": path} for key, path in weights.items()},
            "teachers": {"resnet18": {"weights": None}},
        },
    )
    plan, run = Plenty(deepcopy(found)), found["run"]
    assert plan.targets() == [f"results/papers/{paper}/{name}.html"]
    # the run's lists are those of the numbers that are ours and of its prior, and all of these can be made
    ours = [number.where for number in published.table(paper, name).numbers if number.value and not number.why]
    here = [where for where in ours if where["prior"] == run["prior"]]
    for key, of in (("datasets", "dataset"), ("ipc", "ipc"), ("protocols", "protocol"), ("students", "student")):
        assert set(run[key]) == {each for where in here for each in published.listed(where[of])}
    assert {*run["methods"], *run["references"]} == {where["method"] for where in here}
    waited = {(parts[1], parts[3]) for path in papers.inputs(plan, paper, name) if (parts := path.split("/"))}
    assert waited == {(where["dataset"], where["method"]) for where in ours if papers.of_run(plan, where)}
    # and the others' in a run from theirs
    for prior in {where["prior"] for where in ours}:
        found["run"]["prior"] = prior
        plan = plan if prior == plan.run.prior else Plenty(deepcopy(found))
        assert [line for where in ours if where["prior"] == prior for line in papers.missing(plan, where)] == []
    # its head says how it is run
    head = papers.overlay_of(paper, name).read_text().partition("\nrun:")[0]
    assert " ".join(head.replace("#", "").replace("\\", "").split()).count(" ".join(papers.command(paper, name).split())) == 1


def test_a_papers_table_is_planned_by_snakemake(data, priors, tmp_path):
    found = papers.config("manifoldgd", "table8")
    update_config(found, {"datasets": {"imagenette": {"path": str(data("imagenette"))}}, "priors": {"dit-xl": priors["dit-xl"]}})
    jobs = Workflow(tmp_path, {key: value for key, value in found.items() if key != "results"}).planned()
    assert [jobs.count(("train", method)) for method in ("mgd", "manifoldgd")] == [3 * 3, 3 * 3]  # seeds, students
    assert [rule for rule, _ in jobs if rule in ("paper", "report", "measure")] == ["paper"]


@pytest.mark.parametrize("name", MINIATURES)
def test_a_path_that_is_not_there_is_one_line(name, priors, tmp_path):
    found = config(ROOT / "config.yaml", CONFIGS / f"{name}.yaml")
    planned_as_it_is(found, lambda _: tmp_path / "nowhere", priors)
    with pytest.raises(LimbeckError, match=rf"datasets\.{name}: .*{tmp_path}/nowhere") as error:
        Plan(found)
    assert "\n" not in str(error.value)


SHORT = {"steps": 2}
# what runs of each overlay, and the numbers that make it small
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "imagenette": {"manifoldgd_ddpm": {**SHORT, "t_stop": 2, "warmup": 0}},
    "imagewoof": {"random": {}, "ims3": {**SHORT, "groups": 2, "extractor": "teacher"}},
    "imageidc": {"d3hr": {**SHORT, "inversion_step": 1, "candidates": 20}},
    "imagenet-a": {"dit": SHORT},
    "imagenet100": {"mgd_ddpm": {**SHORT, "t_stop": 1}},
    "imagenet1k": {"dit": {"steps": 1}},
    "places365": {"coda": {**SHORT, "reducer": "pca", "components": 3, "prior_injection_steps": 1}},
    "cifar10": {"d3hr": {**SHORT, "inversion_step": 1, "candidates": 20}},
    "cifar100": {"rded": {}},
    "tiny_imagenet": {"dit": {"steps": 1}},
}


STEPS = {"imagenet100": 100, "imagenet1k": 250, "tiny_imagenet": 150}  # of a teacher of so many classes


def made_small(names: tuple[str, ...], data: Callable[[str], Path], priors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Overlays at 32 pixels and one image per class, one seed, few steps of everything."""
    found, runs = together(names), RUNS[names[0]]
    views = {name: {view: {"size": 32} for view in found["datasets"][name]["views"]} for name in names}
    small: dict[str, Any] = {
        "run": {
            **{"ipc": [1], "methods": list(runs), "references": [], "seeds": [0], "repeats": 1, "held_out": 0},
            **{"protocols": ["smoke"], "students": ["convnet3-w32"], "teacher": "smoke"},
        },
        "datasets": {name: {"path": str(data(name)), "shards": 1, "views": views[name]} for name in names},
        "priors": {"dit-xl": priors["small"], "sdxl": priors["sdxl"]},
        "methods": runs,
        "protocols": {"quick": {"base": "smoke-teacher", "steps": STEPS.get(names[0], 30)}},
        "teachers": {"smoke": {"student": "convnet3-w32", "protocol": "quick"}, "resnet18": {"weights": None}},
    }
    for tuned, prior in found.get("priors", {}).items():
        if "finetune" in prior:
            small["priors"][tuned] = {"finetune": {"epochs": 1, "batch_size": 64, "accumulate": 1}}
    update_config(found, deepcopy(small))
    return found


def expected_classes(name: str) -> list[str]:
    """A benchmark's classes as they are to be named, in its own order."""
    texts = dict(benchmarks.imagenet())
    if name == "imagewoof":
        return [texts[wnid] for wnid in WOOF]
    if name == "places365":
        return list(PLACES[:10])
    if name == "tiny_imagenet":
        return [benchmarks.class_name(wnid) for wnid, _ in benchmarks.imagenet()[:400:2]]
    if name.startswith("cifar"):
        return list(miniatures.CIFAR10 if name == "cifar10" else miniatures.CIFAR100)
    return [benchmarks.class_name(wnid) for wnid in benchmarks.members(name)]


@pytest.mark.long
@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: names[0])
def test_it_runs_whole(names, data, priors, tmp_path):
    flow = Workflow(tmp_path, made_small(names, data, priors))
    plan, method = flow.plan(), next(iter(RUNS[names[0]]))
    # one page; the others, and a thousand classes, whose metrics take longer than all else, to their accuracies
    pages = [plan.target(name, 1) for name in names[:1] if name != "imagenet1k"]
    trained = [f"{plan.cell(name, method, 1, 0)}/students/smoke/convnet3-w32.json" for name in names]
    flow.build(*pages, *trained)
    assert all(Path(path).is_file() for path in (*pages, *trained))
    for name in names:
        classes = expected_classes(name)
        for row in RUNS[names[0]]:
            with Artifact(Path(plan.distilled(name, row, 1, 0)[0]), DISTILLED) as found:
                assert list(found.attrs["classes"]) == classes
                assert found["labels"].tolist() == list(range(len(classes)))
                images = found["images"]
            if row == "random":  # of the class that its place says, by its colours
                pictures = np.stack([miniatures.picture(wnid, 0, 32, 32) for wnid in WOOF]).astype(float)
                distances = np.abs(images[:, None].astype(float) - pictures).mean((2, 3, 4))
                assert distances.argmin(1).tolist() == list(range(len(WOOF)))
