"""Bad input is refused in one line: short runs of the fuzzers, and what long ones found, one by one."""

import json
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from limbeck.config import Dataset, View
from limbeck.data import decoding
from limbeck.data.folders import class_files
from limbeck.data.paths import package_path
from limbeck.data.pickles import plain
from limbeck.data.preprocessing import apply_view, cut_windows
from limbeck.data.sources import open_source
from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.priors import sizes
from tests import miniatures
from tests.chaos.bad_commands import run
from tests.chaos.bad_configs import ROOT
from tests.chaos.bad_files import SOURCES, read_all
from tests.chaos.bad_images import files, peak
from tests.chaos.bad_input import FAULTS


@pytest.mark.parametrize(("name", "fault", "count"), [fault[:3] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_no_fault_is_more_than_an_error_in_one_line(name: str, fault: Callable[[int, int], int], count: int):
    assert fault(count, 2026) >= count, name


def plan_with(**changes: Any) -> Plan:
    """Of the default config, with values at some keys joined by two underscores."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = config
        for name in parents:
            node = node[name]
        node[last] = value
    return Plan(config)


@pytest.mark.parametrize("base", [[], {"a": 1}, None, 3])
def test_a_base_of_another_kind_is_named_where_it_is_used_and_harmless_elsewhere(base):
    with pytest.raises(LimbeckError, match=r"^methods\.dit\.base: unknown base .*; choose one of "):
        plan_with(methods__dit={"base": base})
    assert "mgd_s3" in plan_with(methods__unused={"base": base}).made_by("keep")


def test_a_message_is_one_line_whatever_is_in_the_keys_that_it_quotes():
    with pytest.raises(LimbeckError, match=r"^config: run\.a\\n\\x1bb: Extra inputs"):
        plan_with(**{"run__a\n\x1bb": 1})
    assert str(LimbeckError("Ünï {'a': 1}: \udcff\u2028")) == "Ünï {'a': 1}: \\udcff\\u2028"


@pytest.mark.parametrize("key", ["results", "datasets__fashion-mini__path", "priors__fashion-dit__weights", "teachers__convnet3"])
@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 3000, "a\0b"])
def test_a_path_that_no_file_system_has_is_named(key, path):
    value = {"weights": path} if key.startswith("teachers") else path
    with pytest.raises(LimbeckError, match=rf"^{key.replace('__', '.')}(\.weights)?: no path has a NUL, a name of over 255 bytes"):
        plan_with(**{key: value})


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(LimbeckError, match=r"^results: .*/results is a file; move it, or set 'results' to another folder$"):
        plan_with(results=str(tmp_path / "results"))
    assert (tmp_path / "results").read_text() == "mine"


def test_the_home_of_nobody_is_no_folder():
    with pytest.raises(LimbeckError, match=r"^datasets\.fashion-mini: no file ~nobody-here/set.npz$"):
        plan_with(**{"datasets__fashion-mini__path": "~nobody-here/set.npz"})


def test_an_image_of_too_many_pixels_is_refused_by_its_header():
    canvas = (2**24 - 1 - 16).to_bytes(3, "little")
    webp = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + (16382).to_bytes(3, "little") * 2 + b"ALPH" + bytes(40)
    png = bytearray(files()["png"])
    png[16:24] = struct.pack(">II", 30_000, 30_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    before = peak()
    for content in (webp, webp.replace((16382).to_bytes(3, "little"), canvas), bytes(png)):
        for read in (decoding.decode, decoding.size):
            with pytest.raises(ValueError, match=r"^cannot be decoded \(over 89 million pixels by its header; if that is not"):
                read(content)
    assert peak() - before < 100_000  # kilobytes


@pytest.mark.parametrize("rule", ["resize_crop", "adm", "windows"])
def test_an_image_that_no_memory_holds_once_it_is_resized_is_refused(rule):
    view, read = View(size=256, resize=rule), cut_windows if rule == "windows" else apply_view
    with pytest.raises(ValueError, match=r"^is 1x20000: resized to 256x5120000 it is too large; leave it out, or cut it$"):
        read(np.zeros((20_000, 1), np.uint8), view, 1)


def test_an_npz_that_is_damaged_inside_is_named(tmp_path):
    path, values = tmp_path / "set.npz", np.arange(4) % 2
    good = {f"{split}_images": np.zeros((4, 8, 8), np.uint8) for split in ("train", "test")}
    good |= {f"{split}_labels": values for split in ("train", "test")}
    odd: list[dict[str, Any]] = [
        {"train_labels": values - 1},
        {"train_labels": values[:, None]},
        {"train_labels": np.array(["a", "b"])},
        {"train_ids": np.arange(2)},
        {"classes": np.array(5)},
    ]
    for changed in odd:
        np.savez(path, **{"classes": np.array(["a", "b"]), **good, **changed})
        with pytest.raises(LimbeckError, match=rf"^datasets\.own: {re.escape(str(path))}"):
            read_all("own", {"source": "npz", "path": str(path)})
    np.savez_compressed(path, classes=np.array(["a", "b"]), **good)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        at = file.getinfo("train_labels.npy").header_offset
    stored = at + 30 + len("train_labels.npy") + int.from_bytes(whole[at + 28 : at + 30], "little")
    deflated, method = bytearray(whole), bytearray(whole)
    deflated[stored : stored + 8] = b"\xff" * 8
    method[method.index(b"PK\x01\x02") + 10] = 99
    for content in (deflated, method):
        path.write_bytes(content)
        with pytest.raises(LimbeckError, match=r"^datasets\.own: .* is not the expected npz \("):
            read_all("own", {"source": "npz", "path": str(path)})


def test_tiny_imagenet_without_classes_is_named(tmp_path):
    root = miniatures.tiny_imagenet(tmp_path, ["n02086240"], 1)
    (root / "wnids.txt").write_text("\n \n")
    with pytest.raises(LimbeckError, match=r"^datasets\.own: .*wnids\.txt lists no class; unpack"):
        open_source("own", Dataset(source="tiny_imagenet", path=str(root)))


def test_a_folder_that_vanishes_while_parquet_files_are_looked_for_is_named(tmp_path, monkeypatch):
    def vanishing(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "gone")

    monkeypatch.setattr(Path, "rglob", vanishing)
    with pytest.raises(LimbeckError, match=r"^datasets\.own: cannot look through .*gone"):
        open_source("own", Dataset(source="parquet", path=str(tmp_path)))


def test_a_pickle_that_asks_for_gigabytes_of_memo_is_refused():
    before, asking = (
        peak(),
        pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 2) + pickle.STOP,
    )
    with pytest.raises(ValueError, match=r"^no pickle of plain data and arrays \(place 4294967294 in a memo\)$"):
        plain(asking)
    assert plain(asking.replace(struct.pack("<I", 2**32 - 2), bytes(4))) == {}
    assert peak() - before < 100_000  # kilobytes


def test_a_parquet_column_whose_name_is_no_utf8_is_named(tmp_path):
    root = SOURCES["parquet"](tmp_path)["path"]
    path = tmp_path / "train-0.parquet"
    path.write_bytes(path.read_bytes().replace(b"label", b"la\xe1el"))
    with pytest.raises(LimbeckError, match=rf"^datasets\.own: {re.escape(root)}/train-0.parquet is no parquet file"):
        open_source("own", Dataset(source="parquet", path=root))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model_index.json", b"\xff"),
        ("model_index.json", b"[]"),
        ("model_index.json", b"[[[1]]]"),
        ("model_index.json", b'{"id2label": {"x": "y"}, "vae": []}'),
        ("transformer/config.json", {"sample_size": "large"}),
        ("transformer/config.json", {"num_layers": [1]}),
        ("transformer/config.json", {"attention_head_dim": None}),
        ("vae/config.json", {"block_out_channels": []}),
        ("vae/config.json", {"block_out_channels": "16"}),
        ("vae/config.json", {"block_out_channels": None}),
    ],
)
def test_json_of_a_prior_that_is_not_diffusers_is_one_line(tmp_path, file, content):
    folder = shutil.copytree(package_path("package:fashion-dit"), tmp_path / "prior")
    if isinstance(content, dict):
        content = json.dumps(json.loads((folder / file).read_text()) | content).encode()
    (folder / file).write_bytes(content)
    with pytest.raises(LimbeckError, match=r"^priors\.fashion-dit\.weights: .*: fetch it again$|^prior .*|^priors\..*weights: "):
        plan_with(**{"priors__fashion-dit__weights": str(folder)})


def test_an_odd_number_that_only_sizes_a_job_does_not_matter(tmp_path):
    for name, value in (("patch_size", "two"), ("patch_size", 0), ("num_attention_heads", [None])):
        folder = tmp_path / "transformer"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({name: value, "attention_head_dim": 8}))
        assert name not in sizes._config(folder)
        assert sizes._config(folder)["attention_head_dim"] == 8


@pytest.mark.parametrize("folder", [[], {}, None, 3])
def test_a_table_of_folders_that_names_none_is_passed_over(tmp_path, folder):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(files()["png"])
    (tmp_path / "classes.json").write_text(json.dumps({"results": {"classes": [{"folder": folder, "name": folder}]}}))
    assert class_files(str(tmp_path), ["a", "b"], 1, "methods.mine.path")[1] == [tmp_path / "b/0.png"]


def test_a_prior_that_cannot_be_is_one_line(tmp_path):
    code, _, said = run(["generate", "statistics", "--ipc=1", f"--out={tmp_path}", f"--prior={'x' * 3000}"])
    assert (code, said.count("\n"), said[:26]) == (1, 1, "limbeck: error: no prior i")


def test_a_snakefile_that_is_none_is_one_line(tmp_path):
    (tmp_path / "other").write_bytes(b"\xcb\0")
    code, _, said = run(["plan", f"--snakefile={tmp_path / 'other'}"])
    assert code == 1
    assert re.fullmatch(rf"limbeck: error: {re.escape(str(tmp_path / 'other'))}: (no|not Limbeck's) Snakefile.*\n", said), said
