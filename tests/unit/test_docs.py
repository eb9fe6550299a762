"""The documentation: links and anchors, commands that can be planned, tables of options, and the worked example."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field
from snakemake.utils import update_config

from limbeck import methods
from limbeck.config import Config, Model
from limbeck.errors import LimbeckError
from limbeck.methods import GUIDANCE, METHODS
from limbeck.plan import Plan
from limbeck.reference import MADE, allowed, filled, options_of
from limbeck.resolution import resolve

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), ROOT / "workflow/configs/README.md", ROOT / "results/README.md"]
EXAMPLES = DOCS / "examples"


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings, and mkdocs.yml's slugify too."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_navigation_once():
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r"([\w/]+\.md)$", text, re.MULTILINE)
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_named_method_has_its_table_of_options():
    found = [made for path in (DOCS / "methods").glob("*.md") for made in MADE.findall(path.read_text())]
    assert sorted(found) == sorted(("options", name) for name in {*METHODS} - {"subset"})


@pytest.mark.parametrize("page", sorted((DOCS / "methods").glob("*.md")), ids=lambda path: path.stem)
def test_its_command_can_be_planned(page):
    for found in re.findall(r"^\.venv/bin/snakemake --config 'run=(.+)'$", page.read_text(), re.MULTILINE):
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        update_config(config, {"run": json.loads(found)})
        assert Plan(config).targets() == ["results/fashion-mini/ipc10/summary.html"]


@pytest.mark.parametrize("name", ["README.md", "methods/README.md"])
def test_its_lines_of_config_can_be_planned(name):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, yaml.safe_load((DOCS / name).read_text().split("```yaml")[1].split("```")[0]))
    assert "mgd_strong" in Plan(config).run.methods


def test_a_table_has_a_models_defaults_bounds_and_choices(monkeypatch, tmp_path):
    class Options(Model):
        """Of this test."""

        pull: float | None = Field(None, gt=0, le=1.5, description="how | hard")
        parts: tuple[int, float] = (1, 2.0)
        kind: Literal["a", "b"] = "a"

    monkeypatch.setitem(GUIDANCE, "mode", Options)
    lines = options_of("mgd")
    start = lines.index("*guidance `mode`*: Of this test.")
    assert lines[start + 4 : start + 7] == [
        "| `pull` | `null` | number > 0, ≤ 1.5 or `null` | how \\| hard |",
        "| `parts` | `[1, 2.0]` | [integer, number] |  |",
        "| `kind` | `a` | `a`, `b` |  |",
    ]
    (tmp_path / "a.py").write_text("x = 1\n")
    marks = ["x", "<!-- {} {}: made by `limbeck schema .`, do not edit -->", "old", "<!-- end -->", "y", ""]
    for kind, name, shown in (("options", "mgd", lines), ("file", "a.py", ["```python", "x = 1", "```"])):
        page = filled("\n".join(marks).format(kind, name), tmp_path)
        assert page.splitlines() == ["x", marks[1].format(kind, name), "", *shown, "", "<!-- end -->", "y"]
        assert filled(page, tmp_path) == page
    with pytest.raises(LimbeckError, match="no such method"):
        options_of("mgdd")


def test_defaults_of_a_composition_are_its_own():
    assert any(line.startswith("| `target` | `member` |") for line in options_of("manifoldgd"))
    assert any(line.startswith("| `target` | `centroid` |") for line in options_of("mgd"))


def test_every_key_of_the_config_says_what_it_lets_pass():
    for model in Config.model_json_schema()["$defs"].values():
        for name, field in model["properties"].items():
            assert "anything" not in allowed(field), name


@pytest.fixture
def ball(monkeypatch):
    """The worked example in its place, without copying it there."""
    spec = importlib.util.spec_from_file_location("limbeck.guidance.ball", EXAMPLES / "ball.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "limbeck.guidance.ball", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(methods.GUIDANCE, "ball", module.BallOptions)
    return module


def test_the_worked_examples_own_test_passes(ball, monkeypatch):
    assert sum(len((EXAMPLES / name).read_text().splitlines()) for name in ("ball.py", "test_ball.py")) < 60
    given: dict = {}
    exec(compile((EXAMPLES / "test_ball.py").read_text(), "test_ball.py", "exec"), given)
    (test,) = (value for name, value in given.items() if name.startswith("test_"))
    test()
    # a guidance that lets everything pass is noticed
    monkeypatch.setattr(ball.BallGuidance, "__call__", lambda self, step, x_t, x0_hat: x_t - x_t)  # noqa: ARG005
    with pytest.raises(AssertionError):
        test()


@pytest.mark.usefixtures("ball")
def test_its_lines_of_config_are_those_of_the_page():
    page = (DOCS / "ADDING.md").read_text()
    assert {("file", "examples/ball.py"), ("file", "examples/test_ball.py")} == set(MADE.findall(page))
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, yaml.safe_load(page.split("```yaml")[1].split("```")[0]))
    made = Plan(config)
    tight = made.method("ball_tight", 10, "fashion-mini")
    assert tight.guidance == ({"kind": "ball", "radius": 0.25, "t_stop": 25, "target": "centroid"},)
    assert tight.modules() == ["limbeck.guidance.ball"]
    assert tight.discovery_name == made.method("mgd", 10, "fashion-mini").discovery_name
    config["methods"]["ball"]["radius"] = 0
    with pytest.raises(LimbeckError, match=r"methods\.ball\.radius"):
        resolve(Config.model_validate(config), "ball", 10, "fashion-dit", "fashion-mini")


def test_a_plan_reads_its_options_without_torch():
    tops = [line for line in (EXAMPLES / "ball.py").read_text().splitlines() if line.startswith(("import", "from"))]
    assert not any("torch" in line or "limbeck.guidance" in line for line in tops)
