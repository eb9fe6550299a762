"""A folder of one's own images: what is wrong in it, or in the config, is said before anything long has started."""

import pytest

OWN = {
    "run": {"datasets": ["own"], "ipc": [2], "methods": ["random", "kmeans", "mgd"], "references": ["full"], "prior": "mine"},
    "priors": {
        "mine": {
            "view": "v16",
            "train": {
                "dataset": "own",
                "vae": {"steps": 3, "batch_size": 4, "block_out_channels": [8, 8], "warmup": 1},
                "dit": {"steps": 3, "batch_size": 4, "layers": 1, "heads": 2, "head_dim": 8, "warmup": 1},
            },
        }
    },
}


def overlay(image_folder) -> dict:
    return {
        **OWN,
        "datasets": {"own": {"source": "folder", "path": str(image_folder), "views": {"v16": {"size": 16, "resize": "crop"}}}},
    }


@pytest.mark.long
def test_a_broken_image_stops_before_anything_long(workflow, image_folder):
    bad = image_folder / "train/cats & dogs/2.png"
    bad.write_bytes(bad.read_bytes()[:80])
    flow = workflow(**overlay(image_folder))
    done = flow.snakemake("--quiet", "rules", "--show-failed-logs")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "limbeck: error: datasets.own: 1 image of train, 0 are allowed" in text
    assert "cats & dogs/2.png" in text
    assert "Traceback" not in text
    assert not (flow.results / "priors").exists()
    assert not list(flow.results.rglob("train-0*zarr*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"mgd": {"base": "mgd", "wieght": 0.1}}}, "methods.mgd.wieght: unknown option"),
        ({"run": {"ipc": [501]}}, "501 images per class asked of random, but class 'T-shirt/top' of fashion-mini has 500"),
        ({"run": {"prior": "nothing"}}, "run.prior: unknown name 'nothing'"),
        ({"runs": {}}, "config: runs: Extra inputs are not permitted"),
    ],
)
def test_bad_config_fails_before_any_job(workflow, change, message):
    flow = workflow()
    for key, value in change.items():
        flow.overlay[key] = {**flow.overlay.get(key, {}), **value}
    done = flow.snakemake()
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not flow.results.exists()


def test_an_empty_class_fails_before_any_job(workflow, image_folder):
    for file in (image_folder / "test/b'irds").iterdir():
        file.unlink()
    flow = workflow(**overlay(image_folder))
    done = flow.snakemake()
    assert done.returncode != 0
    assert 'datasets.own: class "b\'irds" has no test images' in done.stdout + done.stderr
    assert not flow.results.exists()


def test_a_prior_for_other_classes_is_refused(workflow, image_folder):
    spec = overlay(image_folder)
    spec["datasets"]["own"]["views"] = {"v32": {"size": 32, "resize": "crop"}}
    flow = workflow(run={"datasets": ["own"]}, datasets=spec["datasets"])
    done = flow.snakemake()
    assert done.returncode != 0
    assert 'knows 10 classes but not "b\'irds"' in done.stdout + done.stderr
