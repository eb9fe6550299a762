"""ImageWoof of a miniature ImageNet: folders by WordNet id, other formats under .JPEG, defects; a tiny prior in DiT's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.artifacts import DISTILLED, IMAGES
from limbeck.data import benchmarks
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests import miniatures, tiny_priors

WOOF = benchmarks.members("imagewoof")
PER_CLASS = 6
CUT = "n02086240/n02086240_3.JPEG"


def rewritten(path: Path, how: str) -> None:
    """The same image otherwise stored, as some of ImageNet's are."""
    image = Image.open(path)
    image.load()
    if how == "cmyk":
        image.convert("CMYK").save(path, "JPEG", quality=95)
    elif how == "grey":
        image.convert("L").save(path, "JPEG", quality=95)
    elif how == "png":  # n02105855_2933.JPEG is one
        image.save(path, "PNG")
    elif how == "palette":
        image.quantize(64).save(path, "PNG")
    elif how == "alpha":
        image.putalpha(7)
        image.save(path, "PNG")
    elif how == "webp":
        image.save(path, "WEBP", quality=95)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying on its side
        image.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=95, exif=exif)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven classes, every image of one class stored otherwise, and one image cut short."""
    root = miniatures.folders(tmp_path_factory.mktemp("ILSVRC") / "CLS-LOC", (*sorted(WOOF), "n01440764"), PER_CLASS, 2)
    for number, how in enumerate(("cmyk", "png", "palette", "alpha", "webp", "exif")):
        rewritten(root / f"train/{WOOF[0]}/{WOOF[0]}_{number}.JPEG", how)
    rewritten(root / f"train/{WOOF[1]}/{WOOF[1]}_0.JPEG", "grey")
    whole = (root / "train" / CUT).read_bytes()
    (root / "train" / CUT).write_bytes(whole[: len(whole) // 2])
    (root / "train" / WOOF[0] / "._hidden.JPEG").write_bytes(b"of macOS")
    return root


@pytest.fixture
def keys(imagenet, tmp_path) -> dict:
    """ImageWoof of ImageNet, with a prior of ImageNet's 1,000 classes."""
    folder = {"source": "folder", "path": str(imagenet), "classes": "imagewoof", "bad_files": 1}
    prior = tiny_priors.dit(tmp_path / "dit", [text for _, text in benchmarks.imagenet()])
    return {
        "datasets": {"woof": {**folder, "views": {"v32": {"size": 32, "resize": "adm"}}}},
        "priors": {"tiny": {"weights": str(prior), "view": "v32", "cfg_scale": 1.5}},
        "run": {"datasets": ["woof"], "ipc": [2], "methods": ["random", "mgd"], "references": ["full"], "held_out": 0},
    }


def labels_by_colour(images: np.ndarray, members: tuple[str, ...]) -> list[int]:
    """Which class's colours every image has."""
    pictures = np.stack([miniatures.picture(member, 0, 32, 32) for member in members]).astype(float)
    return np.abs(images[:, None].astype(float) - pictures).mean((2, 3, 4)).argmin(1).tolist()


@pytest.mark.long
def test_from_imagenets_folders_to_the_page(workflow, keys):
    flow = workflow(**keys)
    flow.build()
    root = flow.results / "woof"
    with Artifact(root / f"v32/images/train-0{SUFFIX}", IMAGES) as found:
        assert found.attrs["left_out"] == [CUT]
        images, labels = found["images"], found["labels"]
        names = [bytes(each).rstrip(b"\0").decode() for each in found["source_ids"]]
    # whatever they were stored as, and in ImageWoof's order, not that of the folders
    assert [WOOF[label] for label in labels] == [name.split("/")[0] for name in names]
    grey = names.index(f"{WOOF[1]}/{WOOF[1]}_0.JPEG")
    assert np.ptp(images[grey].astype(int), axis=-1).max() == 0
    coloured = np.arange(len(labels)) != grey
    assert labels_by_colour(images[coloured], WOOF) == labels[coloured].tolist()
    assert len(labels) == 10 * PER_CLASS - 1
    with Artifact(root / f"none/random/ipc2/seed0/distilled-0{SUFFIX}", DISTILLED) as found:
        assert found["labels"].tolist() == [label for label in range(10) for _ in range(2)]
        assert [each.split(",")[0] for each in found.attrs["classes"][:3]] == ["Australian terrier", "Border terrier", "Samoyed"]
    table = json.loads((root / "tiny/mgd/ipc2/seed0/images/classes.json").read_text())["results"]["classes"]
    assert [row["wnid"] for row in table] == list(WOOF)
    assert [row["imagenet_index"] for row in table] == [193, 182, 258, 162, 155, 167, 159, 273, 207, 229]
    assert "Samoyed" in (root / "ipc2/summary.html").read_text()
    assert flow.planned() == []


@pytest.mark.long
def test_a_damaged_file_and_an_unknown_benchmark_are_one_line_each(workflow, keys):
    flow = workflow(**keys)
    flow.overlay["datasets"]["woof"]["bad_files"] = 0
    done = flow.snakemake("--quiet", "rules", "--show-failed-logs", f"{flow.results}/woof/v32/images/train-0{SUFFIX}")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "limbeck: error" in line]
    assert said
    assert f"datasets.woof: 1 image of train, 0 are allowed: {CUT} cannot be decoded (image file is truncated" in said[0]
    flow.overlay["datasets"]["woof"] |= {"bad_files": 1, "classes": "imagewuff"}
    done = flow.snakemake("-n", "--quiet")
    assert (
        "datasets.woof.classes" in done.stdout + done.stderr
        or "datasets.woof: no benchmark 'imagewuff'" in done.stdout + done.stderr
    )
