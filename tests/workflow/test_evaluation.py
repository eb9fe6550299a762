"""Evaluation by real runs: soft labels, failed students, permuted classes, interrupted trainings."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limbeck.artifacts import DISTILLED, HELD_OUT, IMAGES, SOFT_LABELS
from limbeck.data.folders import folder_name
from limbeck.records import SUFFIX, read_json
from limbeck.stages.classifiers import Checkpoint
from limbeck.stages.train import run as train
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

STUDENT = "convnet3-w32"
CELL = "fashion-mini/none/random/ipc2/seed0"


@pytest.fixture(scope="module")
def built(tmp_path_factory, tiny_prior) -> Workflow:
    flow = make_workflow(
        tmp_path_factory.mktemp("evaluation"),
        tiny_prior,
        run={"methods": ["random"], "references": [], "repeats": 2},
        protocols={"mean": {"base": "smoke-soft", "teacher": "both"}, "top": {"base": "smoke-soft", "top_k": 3}},
        teachers={"other": {"student": STUDENT, "protocol": "smoke-teacher", "seed": 1}, "both": {"members": ["smoke", "other"]}},
    )
    flow.build(result(flow, "smoke-soft"))
    return flow


def result(flow, protocol, student=STUDENT):
    return str(flow.results / CELL / f"students/{protocol}/{student}.json")


def accuracies(flow, protocol):
    return [r["curve"] for r in read_json(result(flow, protocol), "student")["repeats"]]


@pytest.mark.parametrize("protocol", ["smoke-soft", "top", "mean"])
def test_cached_labels_give_the_students_of_the_online_teacher(flow, protocol):
    flow.build(result(flow, protocol))
    online = accuracies(flow, protocol)
    flow.overlay["run"]["soft_labels"] = "cached"
    jobs = flow.planned(result(flow, protocol))
    assert jobs == [("soft_labels", "random"), ("soft_labels", "random"), ("train", "random")]
    flow.build(result(flow, protocol))
    assert accuracies(flow, protocol) == online
    files = [flow.results / CELL / f"labels/{protocol}/{repeat}{SUFFIX}" for repeat in (0, 1)]
    with Artifact(files[0], SOFT_LABELS) as found:
        assert found.shape("logits") == (15, 20, 3 if protocol == "top" else 10)
        assert ("indices" in found) == (protocol == "top")
        assert set(found.attrs["inputs"]) >= ({"teacher-smoke", "teacher-other"} if protocol == "mean" else {"teacher-smoke"})
    assert files[0].read_bytes() != files[1].read_bytes()
    described = read_json(result(flow, protocol), "student")["labels"]
    bytes_ = sum(file.stat().st_size for file in files) // 2
    assert described == {"kind": "soft", "teacher": "both" if protocol == "mean" else "smoke", "bytes": bytes_}


def test_held_out_images_are_real_and_not_those_the_student_saw(flow):
    folder = flow.results / "fashion-mini/v32/images"
    with Artifact(folder / f"held_out{SUFFIX}", HELD_OUT) as found, Artifact(folder / f"train-0{SUFFIX}", IMAGES) as source:
        held, labels = found["images"], found["labels"]
        real = {(image.tobytes(), int(label)) for image, label in zip(source["images"], source["labels"], strict=True)}
    assert np.bincount(labels).tolist() == [50] * 10
    assert {(image.tobytes(), int(label)) for image, label in zip(held, labels, strict=True)} <= real
    with Artifact(flow.results / CELL / f"distilled-0{SUFFIX}", DISTILLED) as found:
        trained = {image.tobytes() for image in found["images"]}
    kept = [image.tobytes() not in trained for image in held]
    found = read_json(result(flow, "smoke-soft"), "student")
    assert found["held_out_images"] == sum(kept)
    for repeat in found["repeats"]:
        best = max(repeat["curve"], key=lambda point: point["held_out"])
        assert repeat["selected"] == {"epoch": best["epoch"], "accuracy": best["test"], "held_out": best["held_out"]}
        assert repeat["best"]["accuracy"] == max(point["test"] for point in repeat["curve"])
        assert repeat["accuracy"] == repeat["curve"][-1]["test"]
        confused = np.array(repeat["confusion"])
        assert confused.sum() == found["test_images"]
        assert np.trace(confused) / confused.sum() == pytest.approx(repeat["accuracy"])
        assert np.diag(confused) / confused.sum(axis=1) == pytest.approx(repeat["per_class"])


def test_the_whole_training_set_holds_nothing_out(flow):
    target = flow.results / f"fashion-mini/none/full/ipcall/seed0/students/smoke/{STUDENT}.json"
    flow.build(str(target))
    found = read_json(target, "student")
    assert found["held_out_images"] == 0
    assert [repeat["selected"] for repeat in found["repeats"]] == [None, None]


def test_a_student_that_diverges_is_reported_as_failed_and_the_run_goes_on(flow):
    flow.overlay["protocols"]["wild"] = {"base": "smoke", "lr": 1e30}
    flow.build(result(flow, "wild"))
    for repeat in read_json(result(flow, "wild"), "student")["repeats"]:
        assert repeat["accuracy"] is None
        assert "the loss is" in repeat["failed"]
        assert "at epoch" in repeat["failed"]


def folder_set(flow, root, swap=()):
    """fashion-mini's images as a folder per class; the test images of two classes may lie in one another's folders."""
    for split in ("train", "test"):
        with Artifact(flow.results / f"fashion-mini/v32/images/{split}-0{SUFFIX}", IMAGES) as source:
            images, labels, names = source["images"], source["labels"], source.attrs["classes"]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = names[label].replace("/", "-")
            if split == "test" and name in swap:
                name = swap[1 - swap.index(name)]
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(root / split / name / f"{number}.png")


def test_a_permuted_class_folder_stops_the_run_and_is_named(flow, tmp_path):
    folder_set(flow, tmp_path / "set", ("Bag", "Trouser"))
    flow.overlay["run"]["datasets"] = ["swapped"]
    flow.overlay["datasets"] = {
        "swapped": {
            "source": "folder",
            "path": str(tmp_path / "set"),
            "channels": 1,
            "views": {"v32": {"size": 32, "resize": "pad"}},
        }
    }
    target = flow.results / "swapped/teachers/smoke/teacher.json"
    done = flow.snakemake("--quiet", "rules", "--", str(target))
    assert done.returncode != 0
    for said in ("teachers.smoke: its classes are in another order", "'Bag' look like 'Trouser'", "'Trouser' look like 'Bag'"):
        assert said in done.stderr
    assert not list(target.parent.glob("*"))


def test_given_weights_are_a_teacher_and_wrong_ones_are_refused(flow, tmp_path):
    weights = flow.results / "fashion-mini/teachers/smoke/model.safetensors"
    before = read_json(weights.parent / "teacher.json", "teacher")
    shutil.copy(weights, tmp_path / "given.safetensors")
    flow.overlay["teachers"]["given"] = {
        "student": STUDENT,
        "protocol": "smoke-teacher",
        "weights": str(tmp_path / "given.safetensors"),
    }
    target = flow.results / "fashion-mini/teachers/given/teacher.json"
    flow.build(str(target))
    assert read_json(target, "teacher")["accuracy"] == before["accuracy"]
    state = load_file(weights)
    cases = {
        "rolled": (
            {**state, "head.weight": state["head.weight"].roll(1, 0), "head.bias": state["head.bias"].roll(1)},
            "another order",
        ),
        "chance": ({name: torch.zeros_like(value) for name, value in state.items()}, "near chance for 10 classes"),
        "other": ({"fc.weight": torch.zeros(2, 2)}, "is no state dict of convnet3-w32"),
    }
    for name, (values, message) in cases.items():
        save_file({k: v.contiguous() for k, v in values.items()}, tmp_path / f"{name}.safetensors")
        flow.overlay["teachers"][name] = {
            "student": STUDENT,
            "protocol": "smoke-teacher",
            "weights": str(tmp_path / f"{name}.safetensors"),
        }
        done = flow.snakemake("--quiet", "rules", "--", str(flow.results / f"fashion-mini/teachers/{name}/teacher.json"))
        assert done.returncode != 0
        assert f"teachers.{name}" in done.stderr
        assert message in done.stderr


def test_a_teacher_labels_no_set_of_another_class_order(flow, tmp_path):
    """The set's own labels against what the teacher sees: here each class's images lie in the next one's folder."""
    with Artifact(flow.results / f"fashion-mini/v32/images/train-0{SUFFIX}", IMAGES) as source:
        images, labels, names = source["images"], source["labels"], source.attrs["classes"]
    for label in range(10):
        folder = tmp_path / folder_name((label + 1) % 10, names[(label + 1) % 10], 10)
        folder.mkdir()
        for number, image in enumerate(images[labels == label][:20]):
            Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    flow.overlay["methods"]["theirs"] = {"base": "imported", "path": str(tmp_path)}
    flow.overlay["run"] |= {"methods": ["theirs"], "ipc": [20]}
    done = flow.snakemake(
        "--quiet", "rules", "--", str(flow.results / f"fashion-mini/none/theirs/ipc20/seed0/students/smoke-soft/{STUDENT}.json")
    )
    assert done.returncode != 0
    assert "do not agree on the order of classes" in done.stderr


def test_an_interrupted_training_goes_on_where_it_was(flow, tmp_path, monkeypatch):
    """Stopped in the second repeat after a state was saved; the same result, byte for byte, as without."""
    monkeypatch.setattr(Checkpoint, "EVERY", 0.0)
    params = json.loads((flow.results / CELL / f"students/smoke-soft/{STUDENT}.json").read_text())["params"]
    params["settings"] |= {"evaluations": 4, "labels": "hard"}
    spec = {**params, "teachers": [], "code": "x"}
    inputs = ([flow.results / CELL / f"distilled-0{SUFFIX}"], [flow.results / f"fashion-mini/v32/images/test-0{SUFFIX}"])
    held = flow.results / f"fashion-mini/v32/images/held_out{SUFFIX}"
    train(spec, *inputs, tmp_path / "whole.json", held)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.json"]
    saved, save = [], Checkpoint.save

    def stopping(self, state):
        save(self, state)
        saved.append(self.path)
        if len(saved) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(spec, *inputs, tmp_path / "again.json", held)
    assert (tmp_path / "again.state").exists()
    monkeypatch.setattr(Checkpoint, "save", save)
    steps = []
    monkeypatch.setattr("limbeck.stages.train._Watch.__call__", _counted(steps))
    train(spec, *inputs, tmp_path / "again.json", held)
    assert len(steps) == 2  # of the second repeat's four tests
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not (tmp_path / "again.state").exists()


def _counted(steps):
    from limbeck.stages.train import _Watch

    call = _Watch.__call__

    def counting(self, *arguments):
        steps.append(arguments[0])
        call(self, *arguments)

    return counting


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_state_of_something_else_is_not_taken(tmp_path, content):
    state = Checkpoint(tmp_path / "r.json", {"a": 1}, [])
    state.saved -= 100
    state.save({"repeats": [1]})
    if content is not None:
        state.path.write_bytes(content)
    other = Checkpoint(tmp_path / "r.json", {"a": 2 if content is None else 1}, [])
    assert other.load() == {}
    assert not state.path.exists()
