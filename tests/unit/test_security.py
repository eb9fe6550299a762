"""Nothing that is read runs: no pickles, no eval, no shell, no code of a model's own; and hostile files, tried."""

import ast
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.config import Dataset
from limbeck.data.pickles import plain
from limbeck.data.sources import open_source
from limbeck.errors import LimbeckError
from limbeck.stages import prior
from limbeck.stages.teacher import _loaded
from tests.conftest import ROOT

# where a name that could run what is in a file may stand, and why
ALLOWED = {
    ("src/limbeck/data/pickles.py", "pickle"): "a reader that imports nothing a pickle names, of CIFAR's published files",
    ("src/limbeck/metrics/torchscript.py", "torch.jit.load"): "a program that the user names, as the docs say",
}
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
CALLS |= {"torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def trees() -> Iterator[tuple[str, ast.AST]]:
    """Every Python file, and the Python of the Snakefile and the rules."""
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
    for path in sorted([ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]):
        yield str(path.relative_to(ROOT)), ast.parse(as_python(path.read_text()))


def as_python(text: str) -> str:
    """A Snakefile in which ``rule x:``, ``use rule x as y with:`` and ``input:`` are calls and blocks."""
    text = re.sub(r"^( *)(?:use )?rule\b.*:$|^( *)onstart:$", r"\1\2if rule:", text, flags=re.M)
    lines, out, depth = text.splitlines(), [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth is not None and line.strip() and indent <= depth:
            out.append(" " * depth + ")")
            depth = None
        keyword = re.fullmatch(r"( *)(\w+):( *(?:#.*)?)", line)
        if keyword and keyword[2] not in ("else", "try", "finally"):
            out.append(f"{keyword[1]}{keyword[2]}(")
            depth = indent
        else:
            one = re.fullmatch(r"( +)(threads|priority|default_target|include|configfile): (.*)|(include|configfile): (.*)", line)
            out.append(f"{one[1] or ''}{one[2] or one[4]}({one[3] or one[5]})" if one and depth is None else line)
    return "\n".join([*out, *([" " * depth + ")"] if depth is not None else [])]) + "\n"


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(tree: ast.AST) -> Iterator[str]:
    """What could run what is in a file or a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name, options = dotted(node.func), {key.arg: key.value for key in node.keywords}
            said = {key: value.value for key, value in options.items() if key and isinstance(value, ast.Constant)}
            if name in CALLS or name.endswith("read_pickle"):
                yield name
            if name == "torch.load" and said.get("weights_only") is not True:
                yield "torch.load without weights_only=True"
            if said.get("allow_pickle") or said.get("shell") or said.get("trust_remote_code"):
                yield f"{name} with {sorted(set(said) & {'allow_pickle', 'shell', 'trust_remote_code'})}"


def test_nothing_is_called_that_runs_what_it_reads():
    found = {(path, name) for path, tree in trees() for name in findings(tree)}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "torch.jit.load(x)",
        "yaml.load(x)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "pd.read_pickle(x)",
    ],
)
def test_what_is_looked_for_is_found(code):
    assert list(findings(ast.parse(code)))


def test_it_is_found_in_a_rule_too():
    rule = "rule a:\n    input:\n        'b',\n    params:\n        c=lambda w: eval(w.x),\n    shell:\n        'true'\n"
    assert list(findings(ast.parse(as_python(rule)))) == ["eval"]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def bomb(tmp_path):
    armed = Bomb(tmp_path / "pwned")
    pickle.loads(pickle.dumps(armed))
    assert armed.path.exists()  # it works
    armed.path.unlink()
    yield armed
    assert not armed.path.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_cifar_batch_runs_nothing(bomb, protocol):
    for content in (bomb, {b"data": bomb}, {b"labels": [bomb]}):
        with pytest.raises(ValueError, match="no pickle of plain data"):
            plain(pickle.dumps(content, protocol))


def test_a_hostile_npz_runs_nothing(bomb, tmp_path):
    path = tmp_path / "x.npz"
    names = ("train_images", "train_labels", "test_images", "test_labels", "classes")
    np.savez(path, **{name: np.array([bomb], dtype=object) for name in names})
    with pytest.raises(LimbeckError, match=r"datasets\.x"):
        open_source("x", Dataset(source="npz", path=str(path))).labels("train")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_hostile_teacher_weights_run_nothing(bomb, tmp_path, suffix):
    path = tmp_path / f"teacher{suffix}"
    torch.save({"weight": bomb}, path)
    with pytest.raises(LimbeckError):
        _loaded(torch.nn.Linear(1, 1), path, {"teacher": "x", "architecture": {"name": "linear"}})


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_hostile_bin_of_a_prior_runs_nothing(bomb, tiny_prior, tmp_path, part):
    folder = Path(shutil.copytree(tiny_prior, tmp_path / "prior"))
    (folder / part / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"weight": bomb}, folder / part / "diffusion_pytorch_model.bin")
    spec = {"weights": str(folder), "family": "dit", "train": None, "load": {"dtype": "float32", "variant": None}, "code": "x"}
    with pytest.raises(LimbeckError):
        prior.run(spec, [], tmp_path / "stored/model_index.json")
