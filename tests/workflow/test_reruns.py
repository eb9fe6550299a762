"""Only what depends on a change runs again: exact job lists from Snakemake itself."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck import warm
from limbeck.records import SUFFIX
from tests.chaos import corruption
from tests.conftest import ROOT, Workflow, make_workflow

MGD = sorted([*((rule, "mgd") for rule in ("sample", "pngs", "embed", "measure", "train")), ("report", "")])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """A small workflow run to its page."""
    made = make_workflow(tmp_path_factory.mktemp("reruns"), tiny_prior)
    made.build()
    return made


@pytest.fixture
def sources(flow: Workflow, tmp_path: Path) -> Path:
    """A copy of the package that the workflow then runs from."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    flow.env["PYTHONPATH"] = str(tmp_path / "src")
    return tmp_path / "src/limbeck"


@pytest.mark.long
def test_the_run_left_what_it_should(built):
    page = built.results / "fashion-mini/ipc2"
    assert {p.name for p in page.iterdir()} == {"summary.csv", "summary.md", "summary.html", "grid.png", "summary.prov.json"}
    assert not list(built.results.rglob("*.part"))
    for artifact in built.results.rglob(f"*{SUFFIX}"):
        assert artifact.with_name(artifact.name.removesuffix(SUFFIX) + ".prov.json").is_file()
    classes = json.loads((built.results / "fashion-mini/tiny/mgd/ipc2/seed0/images/classes.json").read_text())["results"]
    assert [c["index"] for c in classes["classes"]] == list(range(10))
    assert len(classes["sha256"]) == 20
    assert (built.results / "fashion-mini/tiny/mgd/ipc2/seed0/images/0-T-shirt-top/00001.png").is_file()


@pytest.mark.long
def test_check_reads_every_file_that_matters(built):
    from limbeck.checking import check_folder

    assert check_folder(built.results).damaged == []
    cell = built.results / "fashion-mini/tiny/mgd/ipc2/seed0"
    for path in (
        cell / "images/3-Dress/00001.png",
        cell / "distilled-0.zarr.zip",
        cell / "metrics/teacher.json",
        built.results / "priors/tiny/vae/diffusion_pytorch_model.safetensors",
        built.results / "fashion-mini/teachers/smoke/model.safetensors",
    ):
        good, status = path.read_bytes(), path.stat()
        half = len(good) // 2
        path.write_bytes(good[:half] + bytes([good[half] ^ 1]) + good[half + 1 :])
        found = check_folder(built.results)
        path.write_bytes(good)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert len(found.again) == 1, path
        assert path in (found.again[0], *found.again[0].parent.rglob("*")), path


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "count"),
    [
        (corruption.flipped, 200),
        (corruption.truncated, 40),
        (corruption.emptied, 20),
        (corruption.cut, 20),
        (corruption.appended, 20),
    ],
)
def test_damage_is_found_wherever_it_is(built, how, count):
    assert corruption.harm(built.results, count, 0, how) == count


@pytest.mark.long
def test_other_artifacts_in_a_place_are_found(built):
    assert corruption.swapped(built.results, 20, 0) == 20


@pytest.mark.long
def test_results_of_another_config_are_found(flow):
    """With their sidecars, from a run elsewhere: Snakemake knows nothing of their parameters."""

    def check() -> subprocess.CompletedProcess[str]:
        options = [f"--configfile={path}" for path in flow.configs()]
        command = [sys.executable, "-m", "limbeck", "check", str(flow.results), "--planned", *options]
        command += [f"--snakefile={ROOT / 'Snakefile'}"]
        return subprocess.run(command, cwd=flow.folder, env=flow.env, capture_output=True, text=True, check=False)

    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    flow.overlay["methods"]["mgd"]["weight"] = 0.2
    done, path = check(), flow.results / "fashion-mini/tiny/mgd/ipc2/seed0/distilled-0.zarr.zip"
    assert done.returncode == 1
    assert f"{path}: made with other parameters than the config has now; rebuild it: snakemake" in done.stdout


@pytest.mark.long
def test_a_second_run_has_nothing_to_do(flow):
    assert flow.planned() == []


@pytest.mark.long
def test_snakemakes_report_has_the_page_with_its_caption(flow):
    done = flow.snakemake("--report", str(flow.folder / "report.html"))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (flow.folder / "report.html").read_text()
    for part in ("fashion-mini/ipc2/summary.html", "fashion-mini/ipc2/grid.png", "how every row was made", "Distilled datasets"):
        assert part in text, part


@pytest.mark.long
def test_a_changed_weight_reruns_only_its_method(flow):
    flow.overlay["methods"]["mgd"]["weight"] = 0.2
    assert flow.planned() == MGD


@pytest.mark.long
def test_a_discovery_option_reaches_back_to_its_prototypes_alone(flow):
    flow.overlay["methods"]["mgd"]["n_init"] = 5
    assert flow.planned() == sorted([*MGD, ("select", "")])


@pytest.mark.long
def test_an_ipc_more_reuses_everything_ipc_free(flow):
    flow.overlay["run"]["ipc"] = [2, 3]
    rules = {rule for rule, _ in flow.planned()}
    assert rules == {"select", "pick", "sample", "pngs", "embed", "measure", "train", "report", "overview"}


@pytest.mark.long
def test_a_seed_more_does_not_recompute_the_others(flow):
    flow.overlay["run"]["seeds"] = [0, 1]
    done = flow.snakemake("-n")
    cells = [line for line in done.stdout.splitlines() if "wildcards:" in line and "seed=" in line]
    assert len(cells) >= 4 * 5
    assert all("seed=1" in line for line in cells)


@pytest.mark.long
def test_comments_and_docstrings_rerun_nothing(flow, sources):
    for name in ("guidance/mode.py", "stages/sample.py", "store.py", "data/sources/base.py"):
        path = sources / name
        path.write_text(path.read_text().replace('"""', '"""Edited. ', 1) + "\n# a comment\n")
    assert flow.planned() == []


@pytest.mark.long
def test_a_real_edit_in_mode_guidance_reruns_only_what_uses_it(flow, sources):
    path = sources / "guidance/mode.py"
    text = path.read_text()
    assert "return -self.weight *" in text
    path.write_text(text.replace("return -self.weight *", "return -1.0 * self.weight *"))
    assert flow.planned() == MGD


@pytest.mark.long
def test_a_real_edit_in_a_module_named_by_a_registry_is_noticed(flow, sources):
    path = sources / "priors/dit.py"
    text = path.read_text()
    assert "out[:, :channels]" in text
    path.write_text(text.replace("out[:, :channels]", "out[:, 0:channels]"))
    assert {"prior_dit", "sample"} <= {rule for rule, _ in flow.planned()}


@pytest.mark.long
def test_an_edited_page_template_reruns_the_report_alone(flow, sources):
    path = sources / "report/page.html.jinja"
    path.write_text(path.read_text().replace("<h2>Images</h2>", "<h2>Pictures</h2>"))
    assert flow.planned() == [("report", "")]


@pytest.mark.long
def test_a_rebuilt_artifact_of_equal_bytes_reruns_nothing_after_it(flow):
    prototypes = next((flow.results / "fashion-mini/v32/tiny/prototypes").rglob(f"*{SUFFIX}"))
    before = prototypes.read_bytes()
    prototypes.unlink()
    flow.build(str(prototypes))
    assert prototypes.read_bytes() == before
    log = max((flow.folder / ".snakemake/log").glob("*.log"), key=lambda p: p.stat().st_mtime)
    assert "(Rule: select)" in log.read_text()
    assert flow.planned() == []


# what docs/ADDING.md changes in methods.py: an import, and an entry of a table
REGISTRATION = {
    "from limbeck.options import (": "from limbeck.guidance.ball import BallOptions\nfrom limbeck.options import (",
    '"alignment": AlignmentGuidance}': '"alignment": AlignmentGuidance, "ball": BallOptions}',
}


@pytest.mark.long
def test_the_worked_example_gets_its_row_and_reruns_its_own_cells_alone(flow, sources):
    """From its file, its registration and the config. The last test, as it leaves a page of one row more."""
    kernel, registry = shutil.copy(ROOT / "docs/examples/ball.py", sources / "guidance"), sources / "methods.py"
    text = registry.read_text()
    for old, new in REGISTRATION.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    registry.write_text(text)
    flow.overlay["methods"]["ball"] = {"base": "dit", "discovery": "kmeans", "guidance": ["ball"], "steps": 3, "t_stop": 2}
    flow.overlay["run"]["methods"] = [*flow.overlay["run"]["methods"], "ball"]
    del flow.env[warm.VARIABLE]  # for a server of these sources
    flow.build()
    rows = csv.DictReader((flow.results / "fashion-mini/ipc2/summary.csv").read_text().splitlines())
    assert [row["method"] for row in rows] == ["subset", "random", "dit", "mgd", "ball"]
    made = {
        path.parts[-4] for path in flow.results.rglob("distilled-0.prov.json") if path.stat().st_mtime > registry.stat().st_mtime
    }
    assert made == {"ball"}
    path = Path(kernel)
    path.write_text(path.read_text().replace("* r - r", "* r - 1.0 * r"))
    assert flow.planned() == sorted([*((rule, "ball") for rule, method in MGD if method), ("report", "")])


@pytest.mark.parametrize("cores", [1, 3])
def test_a_prior_takes_one_core_of_any_number(tmp_path, tiny_prior, cores):
    """The weights of one that is trained depend on how many compute."""
    assert make_workflow(tmp_path, tiny_prior).threads("prior_dit", cores) == [1]
