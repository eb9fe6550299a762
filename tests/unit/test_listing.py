import os
import pty
import re
import subprocess
import sys

import pytest
import yaml

from limbeck import listing
from limbeck.config import Config
from limbeck.errors import LimbeckError
from limbeck.methods import METHODS
from tests.conftest import ROOT

CODE = "import sys; sys.argv[0] = 'limbeck'; from limbeck.cli import main; main()"  # completion is of the installed script's name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a run would start: the repository's config.yaml, and an overlay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    overlay = {
        "run": {"datasets": ["mine", "fashion-mini"], "prior": "tuned", "ipc": [1, 50], "methods": {1: ["strong"], 50: ["random"]}},
        "datasets": {"mine": {"source": "folder", "path": "nowhere"}},
        "methods": {"strong": {"base": "mgd", "weight": {1: 0.3}, "solver": "ddpm"}},
        "priors": {
            "tuned": {"base": "fashion-dit", "finetune": {"dataset": "fashion-mini"}},
            "broken": {"weights": "./none"},
            "scratch": {"train": {"dataset": "mine"}},
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))
    return tmp_path


def table(section: str, folder, capsys, *names: str) -> dict[str, dict[str, str]]:
    """A section as piped: name -> title of a column -> text."""
    listing.show(section, [folder / "mine.yaml"], names)
    title, *lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert {len(line) for line in lines} == {len(title)}
    return {line[0]: dict(zip(title[1:], line[1:], strict=True)) for line in lines}


def test_methods_are_those_of_the_config_and_the_built_in_ones(folder, capsys):
    found = table("methods", folder, capsys)
    assert set(found) == {*METHODS, *Config().methods, "strong"}
    assert found["strong"] == {
        "base": "mgd",
        "IPC of the run": "1",
        "what it is": "mode guidance towards k-means centroids",
        "options set": 'solver: "ddpm", weight: {"1": 0.3}',
    }
    assert (found["random"]["IPC of the run"], found["mgd_ddpm"]["base"]) == ("50", "mgd")
    assert set(listing.ABOUT) == set(METHODS)
    assert list(table("methods", folder, capsys, "random", "d3hr")) == ["random", "d3hr"]


def test_priors_say_whether_their_weights_are_there(folder, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    index = folder / "results/priors/sdxl/model_index.json"
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    found = table("priors", folder, capsys)
    assert {name: row["weights"] for name, row in found.items() if name not in ("broken", "sd15")} == {
        "fashion-dit": "in the package",
        "fashion-dit-im": "made by the run",
        "dit-xl": "not here; offline: false fetches it",
        "dit-xl-512": "not here; offline: false fetches it",
        "sdxl": "stored among the results",
        "tuned": "made by the run",
        "scratch": "made by the run",
    }
    assert "none" in found["broken"]["weights"]
    assert found["tuned"]["from"] == "fashion-dit, tuned on fashion-mini (diffusion)"
    assert [name for name, row in found.items() if row["of the run"]] == ["tuned"]
    assert {row["family"] for row in found.values()} == {"dit", "sd", "sdxl"}
    (folder / "mine.yaml").write_text("offline: false\n" + (folder / "mine.yaml").read_text())
    assert table("priors", folder, capsys, "sd15")["sd15"]["weights"] == "to be fetched"


def test_datasets_say_whether_their_files_are_there(folder, capsys):
    found = table("datasets", folder, capsys)
    assert found["mine"]["there"].startswith("no folder nowhere")
    assert found["fashion-mini"] == {
        "source": "npz",
        "of the run": "yes",
        "classes": "10",
        "channels": "1",
        "views": "v32 (32 px)",
        "path": "package:fashion_mini.npz",
        "there": "yes",
    }


def test_what_cannot_be_listed_is_one_line(folder):
    def refused(said: str, *files: str, names: tuple[str, ...] = ()) -> None:
        with pytest.raises(LimbeckError, match=said):
            listing.show("methods", [folder / name for name in files], names)

    refused("methods: unknown name 'gmd'; known: coda, coda_real", names=("gmd",))
    refused("other.yaml: no such file", "other.yaml")
    (folder / "other.yaml").write_text("run: [")
    refused("other.yaml: Config file is not valid", "other.yaml")
    (folder / "other.yaml").write_bytes(b"run: \xff")
    refused("other.yaml: ", "other.yaml")
    (folder / "other.yaml").write_text("run: {ipcs: [1]}")
    refused("config: run.ipcs: Extra inputs", "other.yaml")
    (folder / "config.yaml").unlink()
    refused("config.yaml: no such file; run this where the Snakefile is")


def terminal(folder, *arguments: str, **env: str) -> str:
    """What a command writes to a terminal of 200 columns, standard error too."""
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "200", **env}
    with subprocess.Popen([sys.executable, "-c", CODE, *arguments], cwd=folder, env=env, stdin=side, stdout=side, stderr=side):
        os.close(side)
        found = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # Linux says so that the other end is closed
                break
            if not part:
                break
            found += part
    os.close(main)
    return found.decode()


def test_a_terminal_gets_colours_and_a_pipe_plain_lines(folder):
    shown = terminal(folder, "methods", "mgd", "nope")
    assert "\x1b[1;31mlimbeck: error: \x1b[0mmethods: unknown name 'nope'" in shown
    shown = terminal(folder, "methods", "mgd")
    assert "\x1b[36mmgd" in shown
    assert re.search(r"mgd *mgd *10 *mode guidance towards k-means centroids *weight: 0.1", re.sub(r"\x1b\[[0-9;]*m", "", shown))
    piped = subprocess.run([sys.executable, "-c", CODE, "methods", "--nope"], capture_output=True, text=True, check=False)
    assert piped.returncode == 2
    assert piped.stderr.splitlines()[-1] == "Error: No such option: --nope"


def test_a_shell_completes_commands_and_names_of_the_config(folder):
    def completed(*words: str) -> list[str]:
        said = {"_LIMBECK_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        return subprocess.run(
            [sys.executable, "-c", CODE], cwd=folder, env={**os.environ, **said}, capture_output=True, text=True, check=True
        ).stdout.split()

    assert completed("limbeck", "export", "--to", "p") == ["parquet"]
    assert completed("limbeck", "methods", "man") == ["manifoldgd", "manifoldgd_ddpm", "manifoldgd_expected"]
    assert completed("limbeck", "datasets", "--configfile", "mine.yaml", "m") == ["mine"]
