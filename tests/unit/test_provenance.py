"""The fingerprint follows real edits and only those, per definition."""

from pathlib import Path

import pytest

from limbeck import provenance

SOURCES = {
    "stages/draw.py": "from limbeck.kernels.pen import ink\ndef run():\n    return ink()\n",
    "stages/wash.py": "def run():\n    from limbeck.kernels import water\n    return water.pour()\n",
    "kernels/pen.py": "TINT = 3\nOTHER = 4\ndef ink():\n    '''doc'''\n    return TINT\ndef unused():\n    return OTHER\n",
    "kernels/water.py": "from limbeck.kernels.pen import unused as u\ndef pour():\n    return u()\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in (".", "stages", "kernels"):
        (tmp_path / folder / "__init__.py").write_text("")

    def prints() -> tuple[str, str]:
        for cached in (provenance._module, provenance._definition, provenance.fingerprint):
            cached.cache_clear()
        return provenance.fingerprint("limbeck.stages.draw"), provenance.fingerprint("limbeck.stages.wash")

    yield tmp_path, prints
    for cached in (provenance._module, provenance._definition, provenance.fingerprint):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "draw", "wash"),
    [
        ("kernels/pen.py", "TINT = 3", "TINT = 3  # a comment", False, False),
        ("kernels/pen.py", "'''doc'''", "'''another docstring'''", False, False),
        ("kernels/pen.py", "return TINT", "return TINT + 1", True, False),
        ("kernels/pen.py", "TINT = 3", "TINT = 5", True, False),
        ("kernels/pen.py", "OTHER = 4", "OTHER = 5", False, True),
        ("kernels/water.py", "return u()", "return 2 * u()", False, True),
        ("stages/draw.py", "return ink()", "return -ink()", True, False),
    ],
)
def test_only_reachable_real_edits_change_a_fingerprint(package, file, old, new, draw, wash):
    root, prints = package
    before = prints()
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    after = prints()
    assert (before[0] != after[0], before[1] != after[1]) == (draw, wash)


def test_the_real_package_keeps_methods_apart():
    mode = provenance.closure(["limbeck.stages.sample", "limbeck.guidance.mode"])
    plain = provenance.closure(["limbeck.stages.sample"])
    assert ("limbeck.guidance.mode", "ModeGuidance") in mode
    assert ("limbeck.guidance.mode", "ModeGuidance") not in plain
    assert not any(module.startswith("limbeck.geometry") for module, _ in mode)
    manifold = provenance.closure(["limbeck.stages.sample", "limbeck.guidance.manifold", "limbeck.stages.planes"])
    assert ("limbeck.geometry.tangent", "lift") in manifold
    # a new row of a registry reruns nothing: what a job loads by name its caller adds
    for stage in ("sample", "select", "fit", "features", "patch_features"):
        found = {module for module, _ in provenance.closure([f"limbeck.stages.{stage}"])}
        assert not found & {"limbeck.components", "limbeck.methods", "limbeck.options"}
    # what a method's options are called belongs to its own stages alone
    for name in ("ManifoldGuidance", "DivisiveDiscovery"):
        assert not any(definition == name for _, definition in (*plain, *provenance.closure(["limbeck.stages.select"])))
    trees = provenance.closure(["limbeck.stages.fit", "limbeck.discovery.divisive"])
    assert ("limbeck.discovery.divisive", "fit") in trees
    assert not any(module == "limbeck.discovery.tree" for module, _ in trees)  # selection grows no tree again
    tangents = provenance.closure(["limbeck.stages.tangents"])
    # the cached tangents do not depend on what is projected onto them
    assert ("limbeck.geometry.tangent", "tangent") in tangents
    assert ("limbeck.guidance.manifold", "project") not in tangents
    assert ("limbeck.diffusion.sampling", "sample") in plain
    assert not any(module == "limbeck.students.training" for module, _ in plain)
