"""What a config says, with everything resolved: its datasets, priors and methods, and what is behind the names of folders."""

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from limbeck import protocols
from limbeck.config import TEACHER, Config, Dataset
from limbeck.data.folders import class_files
from limbeck.data.paths import local_folder
from limbeck.data.sources import open_source
from limbeck.data.sources.base import Source, shard_classes
from limbeck.data.sources.subset import Subset
from limbeck.derived import inherit, lineage, most_images
from limbeck.errors import LimbeckError, first_line
from limbeck.methods import (
    FULL,
    LOW_IPC,
    METHODS,
    Method,
    embedding_name,
    embedding_options,
    fit_name,
    patching_name,
    scoring_name,
)
from limbeck.metrics.files import folder_files, script_file
from limbeck.priors.files import INDEX, OPTIONAL
from limbeck.priors.weights import (
    cache_alone,
    complaint,
    has_optional,
    hub_folder,
    native_size,
    not_cached,
    vae_complaint,
    vae_folder,
)
from limbeck.protocols import Protocol
from limbeck.resolution import check_reencoded, resolve
from limbeck.settings import Settings
from limbeck.specs import MAP, Wildcards
from limbeck.students.registry import STUDENTS

T = TypeVar("T")
PATHS = {"path", "weights", "vae", "results"}  # keys of files and folders
LONGEST = (255, 4000)  # bytes of a file's name, and of a path


class Lookup:
    """One config.

    Raises
    ------
    LimbeckError: one line that names the key, the value and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any]):
        _check_paths(config)
        try:
            self.config = inherit(Config.model_validate(dict(config)))
        except ValidationError as error:
            raise LimbeckError(f"config: {first_line(error)}") from None
        self.run = self.config.run
        self.root = self.config.results
        if Path(self.root).exists() and not Path(self.root).is_dir():
            raise LimbeckError(f"results: {self.root} is a file; move it, or set 'results' to another folder")

    def known(self, key: str, name: str, table: Mapping[str, Any]) -> None:
        """Refuse a name that a table does not have."""
        if name not in table:
            raise LimbeckError(f"{key}: unknown name {name!r}; known: {sorted(table)}")

    @property
    def reencodes(self) -> bool:
        """Whether the run's prior generates at another size than discovery works at."""
        prior = self.config.priors[self.run.prior]
        return prior.discovery != prior.view

    def local_weights(self, prior: str) -> Path | None:
        """The folder that a prior is copied from; None for one that is trained or has a hub name."""
        weights = self.config.priors[prior].weights
        return local_folder(weights) if weights else None

    def weights_at(self, prior: str) -> Path | None:
        """Where a prior's given weights can be looked at: its folder, or the hub's cache; None where there are none."""
        weights = self.config.priors[prior].weights
        return (local_folder(weights) or hub_folder(weights)) if weights else None

    def native_size(self, prior: str) -> int | None:
        """The side of the images that a DiT of given weights takes; None where that cannot be seen, or for other families."""
        folder = self.weights_at(prior) if self.config.priors[prior].family == "dit" else None
        vae = self.vae_at(prior)
        if folder is None or vae is None or not (folder / "transformer/config.json").is_file():
            return None
        return native_size(folder, vae)

    @functools.cache  # noqa: B019
    def weights_complaint(self, prior: str) -> str | None:
        """Why a prior's given weights cannot be loaded, as far as can be seen without loading them; one line, or None."""
        spec = self.config.priors[prior]
        fetched, folder, cache = self.local_weights(prior) is None, self.weights_at(prior), cache_alone(self.config.offline)
        if spec.weights is None or (fetched and Path(f"{self.root}/priors/{prior}/{INDEX}").is_file()):
            return None  # trained, or stored before
        if folder is not None:
            return complaint(folder, spec.family, spec.variant, spec.t5, partial=fetched and cache is None)
        return not_cached(spec.weights, cache) if cache else None

    def vae_at(self, prior: str) -> Path | None:
        """Where the VAE of a prior of given weights can be looked at; None where it cannot."""
        other, folder = self.config.priors[prior].vae, self.weights_at(prior)
        if other is None:
            found = folder and folder / "vae"
        else:
            given = local_folder(other) or hub_folder(other)
            found = given and vae_folder(given)
        return found if found and (found / "config.json").is_file() else None

    @functools.cache  # noqa: B019
    def vae_complaint(self, prior: str) -> str | None:
        """The same of the VAE that it has in place of its own."""
        other, cache = self.config.priors[prior].vae, cache_alone(self.config.offline)
        if other is None:
            return None
        local = local_folder(other)
        folder = local or hub_folder(other)
        if folder is not None and (local or cache):
            return vae_complaint(vae_folder(folder), self.config.priors[prior].family, self.weights_at(prior))
        return not_cached(other, cache) if cache and folder is None else None

    @functools.cache  # noqa: B019
    def layout(self, prior: str) -> str:
        """By which files a prior is stored, of ``priors.files.LAYOUTS``."""
        spec = self.config.priors[prior]
        if spec.family not in OPTIONAL or not spec.t5:
            return spec.family
        folder = self.weights_at(prior)
        # what is not seen yet is taken for what is published
        return f"{spec.family}_t5" if folder is None or has_optional(folder, spec.family) else spec.family

    def priors_of(self, layout: str) -> str:
        """A wildcard constraint: the priors of a layout that are not tuned from another."""
        names = [name for name, prior in self.config.priors.items() if prior.base is None and self.layout(name) == layout]
        return "|".join(map(re.escape, names)) or "(?!)"

    def tuned_priors(self, family: str, delta: bool) -> str:
        """A wildcard constraint: the priors tuned from one of a family, by DiffFit, which leaves a delta, or otherwise."""
        tuned = ((name, prior.finetune) for name, prior in self.config.priors.items() if prior.family == family)
        names = [name for name, how in tuned if how is not None and (how.mode == "difffit") == delta]
        return "|".join(map(re.escape, names)) or "(?!)"

    def vae_of(self, prior: str) -> str:
        """The prior whose VAE a prior has: the one that it is tuned from in the end, or itself."""
        return lineage(self.config, prior)[-1]

    @functools.cache  # noqa: B019
    def source(self, dataset: str) -> Source:
        """The opened source of a dataset, or of the one it is made of; of a subset, what it has of that one's."""
        spec = self.dataset(dataset)
        if spec.of is None:
            return open_source(dataset, spec)
        return Subset(dataset, spec, self.source(spec.of)) if spec.source == "subset" else self.source(spec.of)

    def counts(self, dataset: str) -> np.ndarray:
        """(C,) training images per class, or at most, where pseudo-labels decide."""
        counts, spec = self.source(dataset).counts("train"), self.dataset(dataset)
        return most_images(counts, spec) if spec.source == "pseudo" else counts

    def per_class(self, dataset: str) -> int:
        """Training images of the largest class, as protocols set their steps by it."""
        # ASSUME: pseudo-labels make no class much larger than the parent's largest, whatever the bound
        return int(min(self.counts(dataset).max(), self.source(dataset).counts("train").max()))

    def extractor_files(self, extractor: str | None) -> list[str]:
        """Files of an extractor that is loaded from local ones: changed weights are noticed. Missing ones are an error."""
        if extractor in (None, TEACHER):
            return []
        spec, key = self.config.extractors[extractor], f"extractors.{extractor}.weights"
        if spec.kind in ("torchscript", "inception"):
            return [str(script_file(spec.weights, key))]
        folder = local_folder(spec.weights)
        return [] if folder is None else [f"{folder}/{name}" for name in folder_files(folder, key)]

    @functools.cache  # noqa: B019
    def method(self, name: str, ipc: int, dataset: str) -> Method:
        """A method with its options resolved."""
        return resolve(self.config, name, ipc, self.run.prior, dataset)

    @functools.cache  # noqa: B019
    def imported(self, name: str, ipc: int, dataset: str, seed: int) -> tuple[str, list[list[Path]]]:
        """The folder of a method's ready-made images at a generation seed, and every class's files in it, checked."""
        options = self.method(name, ipc, dataset).imported
        assert options is not None
        path = options["path"].replace("{seed}", str(seed))  # no str.format: a path may have braces of its own
        return path, class_files(path, self.source(dataset).classes, ipc, f"methods.{name}.path")

    def dataset(self, name: str) -> Dataset:
        """A dataset's config."""
        self.known("datasets", name, self.config.datasets)
        return self.config.datasets[name]

    @functools.cache  # noqa: B019
    def protocol(self, name: str, key: str = "protocol") -> Protocol:
        """A protocol, of the config or built in; ``key`` names it in an error."""
        return protocols.get(name, key, self.config.protocols)

    def labellers(self, protocol: str) -> tuple[str, ...]:
        """The teachers whose soft labels a protocol's students learn, several for one that has members; none of hard labels."""
        found = self.protocol(protocol)
        if found.labels == "hard":
            return ()
        name = found.teacher or self.run.teacher
        return self.config.teachers[name].members or (name,)

    def settings(self, protocol: str, student: str, dataset: str, ipc: int, tiles: int = 1) -> Settings:
        """A protocol's numbers for a student on a set of so many images per class."""
        classes = len(self.source(dataset).classes)
        return self.protocol(protocol).settings(ipc, classes, STUDENTS[student].family, tiles)

    def seeds(self, ipc: int) -> tuple[int, ...]:
        """Generation seeds at an IPC."""
        return self._at(ipc, "seeds", self.run.seeds)

    def methods(self, ipc: int) -> tuple[str, ...]:
        """The run's methods at an IPC."""
        return self._at(ipc, "methods", self.run.methods)

    @staticmethod
    def _at(ipc: int, key: str, value: tuple[T, ...] | Mapping[int, tuple[T, ...]]) -> tuple[T, ...]:
        if isinstance(value, tuple):
            return value
        if ipc not in value:
            raise LimbeckError(f"run.{key}: no {key} for ipc {ipc}; it has {sorted(value)}")
        return value[ipc]

    def shards(self, dataset: str) -> range:
        """Shard numbers of a dataset."""
        return range(min(self.dataset(dataset).shards, len(self.source(dataset).classes)))

    @functools.cache  # noqa: B019
    def class_range(self, dataset: str, shard: int) -> range:
        """The classes of a shard."""
        return shard_classes(len(self.source(dataset).classes), len(self.shards(dataset)))[shard]

    def parent(self, dataset: str) -> str | None:
        """The dataset that a subset takes its artifacts from; None for any other."""
        spec = self.dataset(dataset)
        return spec.of if spec.source == "subset" else None

    def parent_shards(self, dataset: str, shard: int) -> list[int]:
        """The parent's shards that hold a class of a subset's shard."""
        parent = self.parent(dataset)
        assert parent is not None
        names, known = self.source(dataset).classes, self.source(parent).classes
        wanted = {known.index(names[c]) for c in self.class_range(dataset, shard)}
        return [number for number in self.shards(parent) if not wanted.isdisjoint(self.class_range(parent, number))]

    def prior_of(self, method: str, ipc: int, dataset: str) -> str:
        """The folder name a method lives under: its prior, or ``none``."""
        if method == FULL:
            return "none"
        found = self.method(method, ipc, dataset)
        return found.prior if found.needs_prior else "none"

    def _methods(self, ipc: int, dataset: str) -> Iterator[Method]:
        """Every method that can be resolved here, those of the run first: a target outside the run may ask for the others'."""
        of_run = self.rows(ipc) if ipc in self.run.ipc else ()
        for name in dict.fromkeys((*of_run, *self.config.methods, *METHODS)):
            if name != FULL:
                with contextlib.suppress(LimbeckError):
                    yield self.method(name, ipc, dataset)

    @functools.cache  # noqa: B019
    def discovery_options(self, discovery: str, ipc: int, dataset: str) -> dict[str, Any]:
        """The options behind a prototypes folder's name."""
        for method in self._methods(ipc, dataset):
            if method.discovery is not None and method.discovery_name == discovery:
                return method.discovery
        raise LimbeckError(f"no method in the config has the discovery {discovery!r} at ipc {ipc}")

    def _ipcs(self) -> list[int]:
        """IPCs at which any option may change: what is IPC-free belongs to a method at one of them."""
        mappings = (value for spec in self.config.methods.values() for value in spec.values() if isinstance(value, Mapping))
        named = (int(key) for mapping in mappings for key in mapping if str(key).isdigit())
        return list(dict.fromkeys((*self.run.ipc, LOW_IPC, LOW_IPC + 1, *named)))

    def _sharing(self, dataset: str) -> Iterator[Method]:
        """The methods, at any IPC, of a dataset and of the subsets that take from it."""
        subsets = [name for name in self.config.datasets if self.parent(name) == dataset]
        for each, ipc in itertools.product((dataset, *subsets), self._ipcs()):
            yield from self._methods(ipc, each)

    @functools.cache  # noqa: B019
    def fit_of(self, fit: str, dataset: str) -> dict[str, Any]:
        """The options behind a fit's folder name; it is IPC-free, so any IPC that has it will do."""
        for ipc in self._ipcs():
            for method in self._methods(ipc, dataset):
                if method.fit is not None and fit_name(method.fit) == fit:
                    return method.fit
        raise LimbeckError(f"no method in the config has the fit {fit!r}")

    @functools.cache  # noqa: B019
    def embedding_of(self, embedding: str, dataset: str) -> dict[str, Any]:
        """The options behind an embedding's folder name."""
        if embedding == embedding_name(MAP):
            return MAP
        for method in self._sharing(dataset):
            found = embedding_options(method.discovery) if method.discovery else None
            if found is not None and embedding_name(found) == embedding:
                return found
        raise LimbeckError(f"no method in the config has the embedding {embedding!r}")

    @functools.cache  # noqa: B019
    def judged(self, name: str, dataset: str) -> dict[str, Any]:
        """The options of a discovery that chooses by the scores, or among the patches, of a folder's name, whatever its IPC."""
        for method in self._sharing(dataset):
            if method.judge and method.discovery is not None:
                scores = [scoring_name(method.discovery)] if method.judge == "prior" else []
                if name in (*scores, patching_name(method.discovery)):
                    return method.discovery
        raise LimbeckError(f"no method in the config has the scores or patches {name!r}")

    def tangents_method(self, w: Wildcards) -> Method:
        """A method that has the tangents of a job."""
        return self._named("tangents", w["tangents"], int(w["ipc"]), w["dataset"], w["prior"])

    def start_method(self, w: Wildcards) -> Method:
        """A method that starts from the latents of a job."""
        return self._named("start", w["start"], int(w["ipc"]), w["dataset"], w["prior"])

    @functools.cache  # noqa: B019
    def inversion_of(self, inversion: str, dataset: str) -> dict[str, Any]:
        """The options behind an inversion folder's name."""
        for method in self._sharing(dataset):
            if method.inversion is not None and method.inversion_name == inversion:
                if self.reencodes:
                    check_reencoded(method, self.run.prior)
                return method.inversion
        raise LimbeckError(f"no method in the config has the inversion {inversion!r}")

    def sampled(self, w: Wildcards) -> Method:
        """The method of a sampling job: that of its cell, or one that has the candidates it is for."""
        if "candidates" in w.keys():  # noqa: SIM118  # Snakemake's wildcards are no mapping
            return self._named("candidates", w["candidates"], int(w["ipc"]), w["dataset"], w["prior"])
        return self.method(w["method"], int(w["ipc"]), w["dataset"])

    @functools.cache  # noqa: B019
    def _named(self, part: str, name: str, ipc: int, dataset: str, prior: str) -> Method:
        for method in self._methods(ipc, dataset):
            if getattr(method, f"{part}_name") == name and method.prior == prior:
                return method
        raise LimbeckError(f"no method in the config has the {part} {name!r} at ipc {ipc}")

    def rows(self, ipc: int) -> tuple[str, ...]:
        """Rows of the table at an IPC in order: references first."""
        return tuple(dict.fromkeys((*self.run.references, *self.methods(ipc))))

    def made_of(self, *sources: str) -> str:
        """A wildcard constraint: the datasets of some sources: pseudo, subset, or files, which are all others."""
        names = [name for name, spec in self.config.datasets.items() if (spec.source if spec.of else "files") in sources]
        return "|".join(map(re.escape, names)) or "(?!)"

    def made_by(self, stage: str) -> str:
        """A wildcard constraint: the methods whose distilled sets a stage makes: pick, sample, keep or imported."""
        names = [n for n in (*self.config.methods, *METHODS) if self._maker(n) == stage]
        return "|".join(map(re.escape, sorted(set(names)))) or "(?!)"

    def _maker(self, name: str) -> str:
        spec = self.config.methods.get(name, {"base": name})
        found = {**METHODS.get(str(spec.get("base", "")), {}), **spec}
        if "imported" in found:
            return "imported"
        if not found.get("generate", False):
            return "pick"
        return "sample" if found.get("keep", "all") == "all" else "keep"


def _check_paths(value: Any, *key: str) -> None:
    """Refuse what no file system can be asked for."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            _check_paths(each, *key, str(name))
    elif isinstance(value, str) and not PATHS.isdisjoint(key):
        name, whole = LONGEST
        content = value.encode(errors="surrogatepass")
        if b"\0" in content or len(content) > whole or max(map(len, content.split(b"/"))) > name:
            said = f"no path has a NUL, a name of over {name} bytes or over {whole} in all"
            raise LimbeckError(f"{'.'.join(key)}: {said} (got {value[:20]!r})")
