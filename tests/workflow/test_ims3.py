"""Selective subgroup sampling through Snakemake: any sampler's groups, what is kept, what reruns."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, FEATURES, SUBGROUPS
from limbeck.errors import LimbeckError
from limbeck.plan import GROUPS
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

S3 = {"base": "ims3", "prior": None, "steps": 3, "groups": 3}
D3HR = {
    "base": "d3hr",
    "keep": "subgroup",
    "groups": 2,
    "steps": 3,
    "inversion_step": 2,
    "candidates": 20,
    "centroids": "generated",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    made = make_workflow(
        tmp_path_factory.mktemp("ims3"),
        tiny_prior,
        run={"methods": ["ims3", "d3s3"], "ipc": [2], "references": [], "seeds": [1]},
        methods={"ims3": S3, "d3s3": D3HR, "dit": {"base": "dit", "steps": 3}},
    )
    made.build()
    return made


def groups_of(flow: Workflow, name: str) -> list[Path]:
    plan = flow.plan()
    return [Path(f) for f in plan.candidates("fashion-mini", plan.method(name, 2, "fashion-mini"), 2, 1)]


def read(path: Path, *names: str) -> list[np.ndarray]:
    with Artifact(path) as found:
        return [found[name] for name in names]


@pytest.mark.long
@pytest.mark.parametrize("name", ["ims3", "d3s3"])
def test_every_class_keeps_the_group_of_the_lowest_score(built, name):
    cell, folders = built.results / f"fashion-mini/tiny/{name}/ipc2/seed1", groups_of(built, name)
    assert [folder.name for folder in folders] == [f"seed{2 * GROUPS + group}" for group in range(len(folders))]
    with Artifact(cell / f"subgroups{SUFFIX}", SUBGROUPS) as found:
        chosen = found["groups"]
    # Eqs. 8-10, written out from the features
    features = np.array([read(folder / f"features/teacher-0{SUFFIX}", "features")[0] for folder in folders], np.float64)
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    unit = unit.reshape(len(folders), 10, 2, -1)
    centres = unit.mean(axis=2).transpose(1, 0, 2)
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    if name == "d3s3":
        references = unit.mean(axis=(0, 2))
    else:
        with Artifact(built.results / f"fashion-mini/features/teacher/train-0{SUFFIX}", FEATURES) as real:
            values, labels = real["features"].astype(np.float64), real["labels"]
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        references = np.stack([values[labels == c].mean(axis=0) for c in range(10)])
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    for c in range(10):
        others = centres[np.arange(10) != c].reshape(-1, centres.shape[-1])
        scores = [0.4 * np.log(1 - g @ references[c]) - 0.9 * np.log(1 - others @ g).mean() for g in centres[c]]
        assert chosen[c] == int(np.argmin(scores))
    with Artifact(cell / f"distilled-0{SUFFIX}", DISTILLED) as kept:
        images, latents = kept["images"], kept["latents"]
    assert len(set(chosen.tolist())) > 1
    for c in range(10):
        whole = read(folders[chosen[c]] / f"0{SUFFIX}", "images", "latents")
        for ours, theirs in zip((images, latents), whole, strict=True):
            assert np.array_equal(ours[2 * c : 2 * c + 2], theirs[2 * c : 2 * c + 2])


@pytest.mark.long
def test_a_group_is_what_the_sampler_gives_under_that_seed(flow):
    target = flow.results / f"fashion-mini/tiny/dit/ipc2/seed{2 * GROUPS + 2}/distilled-0{SUFFIX}"
    flow.build(str(target))
    (alone,), (group,) = read(target, "images"), read(groups_of(flow, "ims3")[2] / f"0{SUFFIX}", "images")
    assert np.array_equal(alone, group)


@pytest.mark.long
def test_the_page_shows_the_groups_and_counts_them_all(built):
    html = (built.results / "fashion-mini/ipc2/summary.html").read_text()
    assert "Candidate groups" in html
    seconds = [json.loads((folder / "0.prov.json").read_text())["seconds_per_image"] for folder in groups_of(built, "ims3")]
    assert re.search(rf'<th scope="row">ims3</th>\s*<td>{sum(seconds):.3f}</td>', html)
    assert built.planned() == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "rules", "groups"),
    [
        ({"alpha": 0.1}, {"choose", "keep"}, 0),
        ({"subgroup_variant": "released"}, {"choose", "keep"}, 0),
        ({"real_images": 7}, {"choose", "keep"}, 0),
        ({"groups": 5}, {"candidates", "embed_candidates", "choose", "keep"}, 2),
        ({"steps": 4}, {"candidates", "embed_candidates", "choose", "keep"}, 3),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, options, rules, groups):
    flow.overlay["methods"]["ims3"] |= options
    planned = flow.planned()
    assert {rule for rule, _ in planned} == rules | {"embed", "pngs", "measure", "train", "report"}
    assert sum(rule == "candidates" for rule, _ in planned) == groups
    assert {method for _, method in planned} == {"", "ims3"}


@pytest.mark.long
def test_another_extractor_samples_nothing_again(flow, tiny_clip):
    flow.overlay["extractors"] = {"clip": {"kind": "clip", "weights": str(tiny_clip)}}
    flow.overlay["methods"]["ims3"] |= {"extractor": "clip", "groups": 2, "real_images": 5}
    target = flow.results / f"fashion-mini/tiny/ims3/ipc2/seed1/distilled-0{SUFFIX}"
    assert {rule for rule, _ in flow.planned(str(target))} == {"features", "embed_candidates", "choose", "keep"}


def test_the_page_is_of_the_seeds_that_were_sampled(workflow):
    """Tangents and prototypes of a method that keeps one of several groups lie under the groups' seeds, and are all counted."""
    method = {"base": "manifoldgd", "keep": "subgroup", "groups": 2, "steps": 3, "t_stop": 2, "warmup": 0}
    plan = workflow(run={"methods": ["m"], "seeds": [4], "ipc": [2]}, methods={"m": method}).plan()
    shown = plan.diagnostics("fashion-mini", 2)
    assert [[path.split("/")[-2] for path in group] for group in shown["tangents"]["m"]] == [["seed5000"], ["seed5001"]]
    assert [path.split("/")[-2] for path in shown["prototypes"]["m"]] == ["seed5000"]
    assert [[path.split("/")[-2] for path in group] for group in shown["sampling"]["m"]] == [["seed5000"], ["seed5001"]]


def test_inversions_under_two_priors_are_both_shown(workflow):
    tuned = {"base": "tiny", "finetune": {"dataset": "fashion-mini"}}
    methods = {"a": {"base": "d3hr"}, "b": {"base": "d3hr", "prior": {2: "tuned"}}, "c": {"base": "d3hr", "candidates": 5}}
    plan = workflow(run={"methods": ["a", "b", "c"]}, methods=methods, priors={"tuned": tuned}).plan()
    shown = plan.diagnostics("fashion-mini", 2)
    folders = {name: [path.split("/")[-4] for path in paths] for name, paths in shown["statistics"].items()}
    assert folders == {"a": ["tiny"], "b": ["tuned"]}
    assert {name: Path(path).parent.name for name, path in shown["weights"].items()} == {"a": "tiny", "b": "tuned", "c": "tiny"}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"base": "kmeans", "keep": "subgroup"}, r"methods\.m\.keep: keeps real images, so there are no groups to choose among"),
        ({"base": "dit", "keep": "best"}, r"methods\.m\.keep: unknown component 'best'; choose one of \['all', 'subgroup'\]"),
        ({"base": "dit", "groups": 3}, r"methods\.m\.groups: unknown option"),
        ({**S3, "groups": 0}, r"methods\.m\.groups"),
        ({**S3, "extractor": "vae"}, r"methods\.m\.extractor: unknown extractor 'vae'; known: \['teacher', 'resnet18'\]"),
        ({**S3, "real_images": 501}, r"methods\.m\.real_images: 501 is more than the 500 of class"),
        ({**S3, "keep": {2: "subgroup"}}, r"methods\.m\.keep: decides which rules make the images, so it cannot be a mapping"),
        ({**S3, "keep": ["subgroup"]}, r"methods\.m\.keep: unknown component \['subgroup'\]"),
        ({**S3, "prior": ["tiny"]}, r"methods\.m\.prior: unknown name \['tiny'\]"),
        ({**S3, "prior": {3: "tiny"}}, r"methods\.m\.prior: no value for ipc 2"),
        ({**S3, "prior": "nowhere"}, r"methods\.m\.prior: unknown name 'nowhere'"),
        ({**S3, "prior": "fashion-dit"}, r"methods\.m\.prior: 'fashion-dit' has another VAE than run\.prior 'tiny'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_job(workflow, method, message):
    flow = workflow(run={"methods": ["m"]}, methods={"m": method})
    with pytest.raises(LimbeckError, match=message) as caught:
        flow.plan()
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_what_lies_on_the_disk_is_what_the_plan_says(built):
    said = built.costs("--all")
    sizes = {path: path.stat().st_size for path in built.results.rglob("*") if path.is_file()}
    left = sum(size for path, size in sizes.items() if built.results / "logs" not in path.parents)
    assert said["total"]["disk_bytes"] == pytest.approx(left, rel=0.2)
    assert said["makespan_hours"] >= said["critical_hours"] > 0
