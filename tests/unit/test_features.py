"""Named feature extractors, and discoveries that work in their features."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limbeck.artifacts import EMBEDDING, FEATURES, IMAGES
from limbeck.commit import digest
from limbeck.config import Config
from limbeck.discovery import kmeans
from limbeck.discovery.base import Pool
from limbeck.discovery.embedding import reduce as embed
from limbeck.errors import LimbeckError
from limbeck.methods import embedding_name, embedding_options
from limbeck.metrics.clip import ClipExtractor, load
from limbeck.metrics.files import folder_files
from limbeck.resolution import resolve
from limbeck.stages import features, reduce
from limbeck.store import Artifact, create
from tests.unit.test_methods import plan

KEY = "extractors.c.weights"


@pytest.fixture
def clip_folder(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(tiny_clip, tmp_path / "clip")


def embeddings(extractor: ClipExtractor, images: np.ndarray, size: int = 50) -> np.ndarray:
    return np.concatenate([values for values, _ in extractor.batches(images, size)])


def test_clip_features_are_transformers_image_embeddings(tiny_clip):
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)
    found = embeddings(ClipExtractor(str(tiny_clip), KEY), images, size=3)
    whole, processor = CLIPModel.from_pretrained(tiny_clip), CLIPImageProcessorPil.from_pretrained(tiny_clip)
    pixels = processor(images=[Image.fromarray(i) for i in images], return_tensors="pt")
    with torch.inference_mode():
        expected = whole.get_image_features(**pixels).pooler_output.numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert np.abs(found - found.mean(0)).max() > 0.1  # it does look at the image


def test_grayscale_is_repeated_to_three_channels(tiny_clip):
    extractor = ClipExtractor(str(tiny_clip), KEY)
    gray = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
    assert np.array_equal(embeddings(extractor, gray), embeddings(extractor, np.repeat(gray, 3, axis=-1)))


def test_half_precision_weights_compute_in_float32(clip_folder):
    path = clip_folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path, {"format": "pt"})
    extractor = ClipExtractor(str(clip_folder), KEY)
    assert {p.dtype for p in extractor.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (["config.json"], "config.json"),
        (["preprocessor_config.json"], "preprocessor_config.json or processor_config.json"),
        (["model.safetensors", "config.json"], "config.json, model.safetensors or model.safetensors.index.json"),
    ],
)
def test_missing_files_are_named_before_any_job(clip_folder, remove, message):
    for name in remove:
        (clip_folder / name).unlink()
    changes = {"extractors": {"c": {"kind": "clip", "weights": str(clip_folder)}}, "methods__coda_real__features": "c"}
    with pytest.raises(LimbeckError) as caught:
        plan(**changes)
    assert str(caught.value) == f"{KEY}: missing in {clip_folder}: {message}"
    with pytest.raises(LimbeckError, match=message):
        ClipExtractor(str(clip_folder), KEY)
    plan(**{**changes, "methods__coda_real__features": "vae"})  # nobody asks for it


def test_weights_in_several_files_are_all_needed(clip_folder):
    whole = load_file(clip_folder / "model.safetensors")
    names, where = sorted(whole), {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: whole[name] for name in part}, clip_folder / file, {"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(v.nbytes for v in whole.values())}, "weight_map": where}
    (clip_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    image = np.full((1, 32, 32, 3), 90, np.uint8)
    expected = embeddings(ClipExtractor(str(clip_folder), KEY), image)
    (clip_folder / "model.safetensors").unlink()
    assert np.allclose(embeddings(ClipExtractor(str(clip_folder), KEY), image), expected, atol=1e-5)
    (clip_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(LimbeckError, match=r"missing in .*: model-00002-of-00002\.safetensors"):
        folder_files(clip_folder, KEY)


@pytest.mark.parametrize("case", ["cut short", "tensor missing", "another shape", "broken config"])
def test_weights_that_are_not_whole_are_one_line(clip_folder, case):
    path = clip_folder / "model.safetensors"
    tensors = load_file(path)
    if case == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif case == "tensor missing":
        save_file({k: v for k, v in tensors.items() if k != "visual_projection.weight"}, path, {"format": "pt"})
    elif case == "another shape":
        save_file({**tensors, "visual_projection.weight": torch.zeros(3, 16)}, path, {"format": "pt"})
    else:
        (clip_folder / "config.json").write_text("{")
    with pytest.raises(LimbeckError, match=f"^{KEY}: ") as caught:
        ClipExtractor(str(clip_folder), KEY)
    assert str(clip_folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    if case == "tensor missing":
        assert "incomplete: no visual_projection.weight" in str(caught.value)


@pytest.mark.parametrize("name", ["nobody/clip-vit", "no such/name at all/x"])
def test_a_hub_name_that_is_not_here_says_what_is_looked_for_and_where(name, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LimbeckError, match=r"extractors\.c\.weights: no.*config\.json, .*model\.safetensors") as caught:
        load({"extractor": "c", "kind": "clip", "weights": name})
    assert name in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def write_images(path: Path, labels: list[int]) -> np.ndarray:
    pixels = np.random.default_rng(2).integers(0, 256, (len(labels), 32, 32, 1), dtype=np.uint8)
    shapes = {"images": pixels.shape, "labels": (len(labels),), "source_ids": (len(labels), 1)}
    with create(path, IMAGES, shapes, {}, {}, classes=["a", "b"], class_range=[0, 2]) as out:
        out.append("images", pixels)
        out.append("labels", np.array(labels))
        out.append("source_ids", np.zeros((len(labels), 1)))
    return pixels


def test_the_stage_writes_clip_features_that_an_embedding_is_made_from(tiny_clip, tmp_path):
    labels = [0] * 8 + [1] * 6
    pixels = write_images(tmp_path / "i.zarr.zip", labels)
    spec = {"extractor": "c", "kind": "clip", "weights": str(tiny_clip), "code": "x"}
    features.run(spec, tmp_path / "i.zarr.zip", tmp_path / "f.zarr.zip")
    expected = embeddings(ClipExtractor(str(tiny_clip), KEY), pixels)
    with Artifact(tmp_path / "f.zarr.zip", FEATURES) as found:
        assert "correct" not in found
        assert np.allclose(found["features"], expected, atol=1e-5)
        assert found.attrs["inputs"]["model.safetensors"] == digest(tiny_clip / "model.safetensors")
        assert found.attrs["params"] == {"extractor": "c", "kind": "clip"}  # the folder's place is none of its content
        stored = found["features"]
    options = {"features": "c", "reducer": "pca", "components": 3, "standardize": True}
    reduce.run({"embedding": options, "code": "x"}, tmp_path / "f.zarr.zip", tmp_path / "e.zarr.zip")
    with Artifact(tmp_path / "e.zarr.zip", EMBEDDING) as made:
        for label, at in ((0, slice(0, 8)), (1, slice(8, 14))):
            assert np.allclose(made["coordinates"][at], embed(stored[at], options, label).coordinates, atol=1e-5)


# Where a discovery works.


def names_of(**variants: dict) -> dict[str, dict]:
    config = Config(methods=variants, extractors={"c": {"weights": "some/clip"}})
    return {name: resolve(config, name, 10, "fashion-dit", "d").discovery for name in variants}


def test_latents_as_they_are_stay_what_they_were():
    found = names_of(
        a={"base": "kmeans"},
        b={"base": "kmeans", "features": "vae", "reducer": "none", "components": 7, "n_neighbors": 9},
        c={"base": "coda_real", "reducer": "none", "features": "vae"},
        d={"base": "coda_real"},
    )
    assert found["a"] == found["b"] == {"kind": "kmeans", "n_init": 3, "max_iter": 300, "algorithm": "lloyd"}
    assert embedding_options(found["a"]) is None
    assert embedding_options(found["c"]) == {"reducer": "none", "standardize": True}
    assert "features" not in found["d"]


@pytest.mark.parametrize("changes", [{"reducer": "pca"}, {"reducer": "umap"}, {"features": "c"}, {"features": "teacher"}])
def test_kmeans_and_density_share_an_embedding(changes):
    found = names_of(k={"base": "kmeans", **changes}, d={"base": "coda_real", "reducer": "none", **changes})
    options = embedding_options(found["k"])
    assert options == embedding_options(found["d"])
    assert options.get("features") == changes.get("features")
    assert embedding_name(options) != embedding_name(embedding_options(names_of(e={"base": "coda_real", "min_dist": 0.5})["e"]))


def test_kmeans_in_umap_takes_the_papers_neighbours_by_ipc():
    config = Config(methods={"k": {"base": "mgd", "reducer": "umap"}})
    assert [resolve(config, "k", ipc, "fashion-dit", "d").discovery["n_neighbors"] for ipc in (20, 21)] == [85, 40]


def test_an_embedding_of_features_reads_them_and_select_still_reads_latents():
    made = plan(methods__k={"base": "kmeans", "features": "teacher"}, run__methods=["k"])
    discovery = made.method("k", 10, "fashion-mini").discovery
    w = {"dataset": "fashion-mini", "view": "v32", "vae": "fashion-dit", "shard": "0", "ipc": "10"}
    name = embedding_name(embedding_options(discovery))
    assert made.embedding_points({**w, "embedding": name}) == "results/fashion-mini/features/teacher/train-0.zarr.zip"
    pca = plan(methods__k={"base": "kmeans", "reducer": "pca"}, run__methods=["k"])
    name = embedding_name(embedding_options(pca.method("k", 10, "fashion-mini").discovery))
    assert pca.embedding_points({**w, "embedding": name}) == "results/fashion-mini/v32/fashion-dit/latents/0.zarr.zip"
    assert made.method("k", 10, "fashion-mini").needs_prior


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods__coda__features": "clp"},
            r"methods\.coda\.features: unknown extractor 'clp'; known: \['vae', 'teacher', 'resnet18'\]",
        ),
        ({"methods__kmeans__features": "clp"}, r"methods\.kmeans\.features: unknown extractor"),
        ({"methods__manifoldgd__features": "teacher"}, r"methods\.manifoldgd\.features: unknown option"),
        ({"methods__kmeans__reducer": "tsne"}, r"methods\.kmeans\.reducer: .*'umap', 'pca' or 'none'"),
        ({"extractors": {"vae": {"weights": "x/y"}}}, r"extractors\.vae: the name is reserved"),
        ({"extractors": {"teacher": {"weights": "x/y"}}}, r"extractors\.teacher: the name is reserved"),
        ({"extractors": {"c": {"kind": "dino", "weights": "x/y"}}}, r"extractors\.c\.kind: Input should be 'clip'"),
        ({"extractors": {"c": {}}}, r"extractors\.c\.weights: Field required"),
    ],
)
def test_bad_extractors_are_one_line_that_names_the_key(changes, message):
    with pytest.raises(LimbeckError, match=message) as caught:
        plan(**changes)
    assert "\n" not in str(caught.value)


def test_a_hub_name_is_no_plan_time_error():
    made = plan(extractors={"c": {"weights": "some/clip"}}, methods__coda_real__features="c")
    assert made.extractor_files("c") == made.extractor_files("teacher") == []


def test_kmeans_in_an_embedding_clusters_there_and_averages_latents():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(3), [20, 14, 9])
    embedding = (np.eye(3)[groups] * 40 + rng.normal(size=(43, 3))).astype(np.float32)
    latents = rng.normal(size=(43, 6)).astype(np.float32)  # say nothing about the groups
    order = rng.permutation(43)
    groups, embedding, latents = groups[order], embedding[order], latents[order]
    options = {"kind": "kmeans", "n_init": 3, "max_iter": 100, "algorithm": "lloyd"}
    found = kmeans.discover(Pool(43, latents, embedding), 3, options, 0, 0)
    assert found.counts.tolist() == [20, 14, 9]
    for row, group in enumerate((0, 1, 2)):
        members = np.flatnonzero(groups == group)
        assert np.allclose(found.centroids[row], latents[members].astype(np.float64).mean(0), atol=1e-6)
        distance = np.linalg.norm(embedding[members].astype(np.float64) - embedding[members].astype(np.float64).mean(0), axis=1)
        assert found.indices[row] == members[distance.argmin()]
