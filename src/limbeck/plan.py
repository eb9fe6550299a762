"""From a validated config to paths, specs and targets: what the Snakefile asks.

A *spec* is the one ``params:`` string of a rule: sorted JSON of the config slice its stage reads, and under ``code`` the
fingerprint of the sources that stage can reach with that method. Snakemake reruns a job when the string changes.
"""

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from limbeck import checks, specs
from limbeck.config import TEACHER, Config, Dataset
from limbeck.data.folders import class_files
from limbeck.data.sources import Source, Subset, local_folder, open_source, shard_classes
from limbeck.derived import inherit, lineage, most_images
from limbeck.errors import LimbeckError
from limbeck.methods import (
    DISCOVERY,
    FULL,
    LOW_IPC,
    METHODS,
    Method,
    check_reencoded,
    embedding_name,
    embedding_options,
    first_line,
    fit_name,
    fit_options,
    patching_name,
    resolve,
    scoring_name,
)
from limbeck.metrics.clip_files import clip_files
from limbeck.specs import EXTRACTOR, MAP, Wildcards

T = TypeVar("T")
GROUPS = 1000  # sampling seeds set aside for the candidate groups of each generation seed


class Plan:
    """Paths, specs and targets of one config.

    Raises
    ------
    LimbeckError: one line that names the key, the value and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any]):
        try:
            self.config = inherit(Config.model_validate(dict(config)))
        except ValidationError as error:
            raise LimbeckError(f"config: {first_line(error)}") from None
        self.run = self.config.run
        self.root = self.config.results
        checks.check(self)

    def known(self, key: str, name: str, table: Mapping[str, Any]) -> None:
        """Refuse a name that a table does not have."""
        if name not in table:
            raise LimbeckError(f"{key}: unknown name {name!r}; known: {sorted(table)}")

    # Look-ups.

    @property
    def reencodes(self) -> bool:
        """Whether the run's prior generates at another size than discovery works at."""
        prior = self.config.priors[self.run.prior]
        return prior.discovery != prior.view

    def local_weights(self, prior: str) -> Path | None:
        """The folder that a prior is copied from; None for one that is trained or has a hub name."""
        weights = self.config.priors[prior].weights
        return local_folder(weights) if weights else None

    def priors_of(self, family: str, tuned: bool) -> str:
        """A wildcard constraint: the priors of a family that are tuned from another, or those that are not."""
        priors = self.config.priors.items()
        names = [name for name, prior in priors if prior.family == family and (prior.base is not None) == tuned]
        return "|".join(map(re.escape, names)) or "(?!)"

    def vae_of(self, prior: str) -> str:
        """The prior whose VAE a prior has: the one that it is tuned from in the end, or itself."""
        return lineage(self.config, prior)[-1]

    def tuning_latents(self, prior: str) -> list[str]:
        """The latents that a prior is tuned on; none where it is not tuned."""
        spec = self.config.priors[prior]
        if spec.finetune is None:
            return []
        folder = f"{self.root}/{spec.finetune.dataset}/{spec.view}/{self.vae_of(prior)}/latents"
        return [f"{folder}/{shard}.zarr.zip" for shard in self.shards(spec.finetune.dataset)]

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
        """Files of an extractor that is loaded from a local folder: changed weights are noticed. Missing ones are an error."""
        if extractor in (None, TEACHER):
            return []
        weights = self.config.extractors[extractor].weights
        folder = local_folder(weights)
        key = f"extractors.{extractor}.weights"
        return [] if folder is None else [f"{folder}/{name}" for name in clip_files(folder, key)]

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

    def fit_of(self, fit: str, dataset: str) -> dict[str, Any]:
        """The options behind a fit's folder name; it is IPC-free, so any IPC that has it will do."""
        for ipc in self._ipcs():
            for method in self._methods(ipc, dataset):
                if method.fit is not None and fit_name(method.fit) == fit:
                    return method.fit
        raise LimbeckError(f"no method in the config has the fit {fit!r}")

    def embedding_of(self, embedding: str, dataset: str) -> dict[str, Any]:
        """The options behind an embedding's folder name."""
        if embedding == embedding_name(MAP):
            return MAP
        for method in self._sharing(dataset):
            found = embedding_options(method.discovery) if method.discovery else None
            if found is not None and embedding_name(found) == embedding:
                return found
        raise LimbeckError(f"no method in the config has the embedding {embedding!r}")

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

    def _named(self, part: str, name: str, ipc: int, dataset: str, prior: str) -> Method:
        for method in self._methods(ipc, dataset):
            if getattr(method, f"{part}_name") == name and method.prior == prior:
                return method
        raise LimbeckError(f"no method in the config has the {part} {name!r} at ipc {ipc}")

    # Paths.

    def images(self, dataset: str, split: str, view: str | None = None) -> list[str]:
        """All shards of a split."""
        spec = self.dataset(dataset)
        view = view or spec.view
        if spec.of and spec.source == "pseudo" and split == "test":
            dataset = spec.of
        return [f"{self.root}/{dataset}/{view}/images/{split}-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def features(self, dataset: str, split: str, extractor: str = EXTRACTOR) -> list[str]:
        """All shards of the real features of a split."""
        return [f"{self.root}/{dataset}/features/{extractor}/{split}-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def cell(self, dataset: str, method: str, ipc: int, seed: int) -> str:
        """The folder of one method at one IPC and seed. ``full`` depends on neither."""
        if method == FULL:
            return f"{self.root}/{dataset}/none/{FULL}/ipcall/seed0"
        return f"{self.root}/{dataset}/{self.prior_of(method, ipc, dataset)}/{method}/ipc{ipc}/seed{seed}"

    def prototypes(self, dataset: str, method: Method, ipc: int, seed: int, shard: int | str) -> str:
        """The prototypes a method starts from."""
        if method.patch_view is not None:
            folder = f"{self.root}/{dataset}/{method.patch_view}/{method.prior}"
        elif method.needs_prior:
            folder = self.latent_folder(dataset)
        else:
            folder = f"{self.root}/{dataset}/{self.dataset(dataset).view}/none"
        return f"{folder}/prototypes/{method.discovery_name}/ipc{ipc}/seed{seed}/{shard}.zarr.zip"

    def latent_folder(self, dataset: str) -> str:
        """Where everything lives that is computed in the latents of the run's prior."""
        return f"{self.root}/{dataset}/{self.config.priors[self.run.prior].discovery}/{self.vae_of(self.run.prior)}"

    def scores(self, dataset: str, prior: str, options: Mapping[str, Any], shard: int | str) -> str:
        """The typicality maps that a discovery of these options chooses by."""
        return f"{self.root}/{dataset}/{prior}/scores/{scoring_name(options)}/{shard}.zarr.zip"

    def patches(self, dataset: str, prior: str, options: Mapping[str, Any], seed: int | str, shard: int | str) -> str:
        """The patches that it chooses among: by the prior's scores, or the teacher's."""
        if "crops" in options:
            return f"{self.root}/{dataset}/crops/{self.run.teacher}/{patching_name(options)}/seed{seed}/{shard}.zarr.zip"
        return f"{self.root}/{dataset}/{prior}/localized/{patching_name(options)}/{shard}.zarr.zip"

    def select_points(self, w: Wildcards) -> str:
        """What prototypes are chosen among: patches, latents, or images where a discovery needs neither."""
        options = self.discovery_options(w["discovery"], int(w["ipc"]), w["dataset"])
        if DISCOVERY[options["kind"]].judge:
            return self.patches(w["dataset"], w["vae"], options, w["seed"], w["shard"])
        if w["vae"] == "none":
            return self.images(w["dataset"], "train", w["view"])[int(w["shard"])]
        return f"{self._space(w)}/latents/{w['shard']}.zarr.zip"

    def latents(self, dataset: str, shard: int | str) -> str:
        """Latents of a shard's training images."""
        return f"{self.latent_folder(dataset)}/latents/{shard}.zarr.zip"

    def fit_path(self, w: Wildcards) -> str | None:
        """The fit that a prototypes job starts from; None where its discovery has none."""
        fit = fit_options(self.discovery_options(w["discovery"], int(w["ipc"]), w["dataset"]))
        return None if fit is None else f"{self._space(w)}/fits/{fit_name(fit)}/{w['shard']}.zarr.zip"

    def embedding_path(self, w: Wildcards) -> str | None:
        """The embedding that a fit or prototypes job works in; None where that is the latents themselves."""
        if "fit" in w.keys():  # noqa: SIM118  # Snakemake's wildcards are no mapping
            options = self.fit_of(w["fit"], w["dataset"])
        else:
            options = self.discovery_options(w["discovery"], int(w["ipc"]), w["dataset"])
        found = embedding_options(options)
        return None if found is None else f"{self._space(w)}/embeddings/{embedding_name(found)}/{w['shard']}.zarr.zip"

    def embedding_points(self, w: Wildcards) -> str:
        """What an embedding is made from: the training images' features under an extractor, or their latents."""
        extractor = self.embedding_of(w["embedding"], w["dataset"]).get("features")
        if extractor is None:
            return f"{self._space(w)}/latents/{w['shard']}.zarr.zip"
        return self.features(w["dataset"], "train", extractor)[int(w["shard"])]

    def _space(self, w: Wildcards) -> str:
        return f"{self.root}/{w['dataset']}/{w['view']}/{w['vae']}"

    def targets_of(self, dataset: str, method: Method, ipc: int, seed: int, shard: int | str) -> str | None:
        """The chosen images' latents at the size that the prior generates; None where the prototypes have them."""
        if not self.reencodes or not method.uses_prototypes:
            return None
        return f"{self.root}/{dataset}/{method.prior}/targets/{method.discovery_name}/ipc{ipc}/seed{seed}/{shard}.zarr.zip"

    def inverted(self, dataset: str, method: Method, shard: int | str) -> str | None:
        """The statistics of inverted latents that a method draws from; None where it starts from noise."""
        name = method.inversion_name
        return f"{self.root}/{dataset}/{method.prior}/inverted/{name}/{shard}.zarr.zip" if name else None

    def starts(self, dataset: str, method: Method, ipc: int, seed: int, shard: int | str) -> str | None:
        """Which draws from them; None where it starts from noise."""
        folder = f"{self.root}/{dataset}/{method.prior}/starts/{method.start_name}"
        return f"{folder}/ipc{ipc}/seed{seed}/{shard}.zarr.zip" if method.start_name else None

    def candidates(self, dataset: str, method: Method, ipc: int, seed: int) -> list[str]:
        """The folders of a method's candidate groups, each its own sampling seed; none where all that is sampled is kept."""
        if method.keep is None:
            return []
        folder = f"{self.root}/{dataset}/{method.prior}/candidates/{method.candidates_name}/ipc{ipc}"
        return [f"{folder}/seed{each}" for each in self.sampling_seeds(method, seed)]

    @staticmethod
    def sampling_seeds(method: Method, seed: int) -> list[int]:
        """Under which seeds a method samples at a generation seed: one per candidate group, none of them any row's own."""
        return [seed] if method.keep is None else [(seed + 1) * GROUPS + group for group in range(method.keep["groups"])]

    def tangents(self, dataset: str, method: Method, ipc: int, seed: int, shard: int | str) -> str | None:
        """The cached tangents of a method; None where it has none."""
        folder = f"{self.root}/{dataset}/{method.prior}/tangents/{method.tangents_name}"
        return f"{folder}/ipc{ipc}/seed{seed}/{shard}.zarr.zip" if method.tangents_name else None

    def embedding(self, dataset: str, embedding: str) -> list[str]:
        """All shards of an embedding of the latents."""
        return [f"{self.latent_folder(dataset)}/embeddings/{embedding}/{shard}.zarr.zip" for shard in self.shards(dataset)]

    def rows(self, ipc: int) -> tuple[str, ...]:
        """Rows of the table at an IPC in order: references first."""
        return tuple(dict.fromkeys((*self.run.references, *self.methods(ipc))))

    def cells(self, dataset: str, ipc: int) -> dict[str, dict[int, str]]:
        """row -> seed -> folder."""
        return {
            name: {seed: self.cell(dataset, name, ipc, seed) for seed in ((0,) if name == FULL else self.seeds(ipc))}
            for name in self.rows(ipc)
        }

    def target(self, dataset: str, ipc: int) -> str:
        """The page of a dataset at an IPC."""
        return f"{self.root}/{dataset}/ipc{ipc}/summary.html"

    def targets(self) -> list[str]:
        """What ``snakemake`` builds when no target is named."""
        return [self.target(dataset, ipc) for dataset in self.run.datasets for ipc in self.run.ipc]

    def distilled(self, dataset: str, method: str, ipc: int, seed: int) -> list[str]:
        """The images a row is trained on: its distilled shards, or the training set for ``full``."""
        if method == FULL:
            return self.images(dataset, "train")
        return [f"{self.cell(dataset, method, ipc, seed)}/distilled-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def distilled_features(self, dataset: str, method: str, ipc: int, seed: int) -> list[str]:
        """Features of those images."""
        if method == FULL:
            return self.features(dataset, "train")
        cell = self.cell(dataset, method, ipc, seed)
        return [f"{cell}/features/{EXTRACTOR}-{shard}.zarr.zip" for shard in self.shards(dataset)]

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
        found = {**METHODS.get(spec.get("base", ""), {}), **spec}
        if "imported" in found:
            return "imported"
        if not found.get("generate", False):
            return "pick"
        return "sample" if found.get("keep", "all") == "all" else "keep"

    def spec(self, stage: str, w: Wildcards) -> str:
        """The params string of ``stage`` for a job's wildcards."""
        return specs.build(self, stage, w)

    def first_seed(self, ipc: int) -> int:
        """The seed whose images and diagnostics the page shows."""
        return min(self.seeds(ipc))

    def diagnostics(self, dataset: str, ipc: int) -> dict[str, Any]:
        """What the page shows of the first seed, by row: distilled sets, prototypes, tangents, and the map under the prototypes."""
        names = ("distilled", "prototypes", "targets", "tangents", "tangent_dims", "statistics", "subgroups", "candidates")
        out: dict[str, Any] = {name: {} for name in (*names, "features", "weights")} | {
            "embedding": [],
            "scores": [],
            "real_features": self.features(dataset, "train"),
        }
        seed, shards = self.first_seed(ipc), self.shards(dataset)
        seen: set[Any] = set()
        for name in (row for row in self.rows(ipc) if row != FULL):
            method = self.method(name, ipc, dataset)
            out["distilled"][name] = self.distilled(dataset, name, ipc, seed)
            out["features"][name] = self.distilled_features(dataset, name, ipc, seed)
            if method.needs_prior:
                out["embedding"] = self.embedding(dataset, embedding_name(MAP))
            if method.tangents:
                out["tangent_dims"][name] = method.tangents["d"]
            sampled = self.sampling_seeds(method, seed)
            if method.needs_prior:
                out["weights"][name] = f"{self.root}/priors/{method.prior}"
            if method.tangents_name:
                out["tangents"][name] = [[self.tangents(dataset, method, ipc, s, shard) for shard in shards] for s in sampled]
            if method.inversion_name and (method.prior, method.inversion_name) not in seen:
                seen.add((method.prior, method.inversion_name))
                out["statistics"][name] = [self.inverted(dataset, method, shard) for shard in shards]
            if method.patch_view and method.discovery and not out["scores"]:
                out["scores"] = [
                    self.images(dataset, "train", method.patch_view)[0],
                    self.scores(dataset, method.prior, method.discovery, 0),
                    self.patches(dataset, method.prior, method.discovery, seed, 0),
                ]
            if method.keep:
                out["subgroups"][name] = [f"{self.cell(dataset, name, ipc, seed)}/subgroups.zarr.zip"]
                groups = self.candidates(dataset, method, ipc, seed)
                out["candidates"][name] = [[f"{group}/{shard}.zarr.zip" for shard in shards] for group in groups]
            target = method.guidance[0]["target"] if method.guidance else "member"
            if method.discovery is not None and not method.judge and (method.discovery_name, target, sampled[0]) not in seen:
                seen.add((method.discovery_name, target, sampled[0]))  # rows that share their prototypes show them once
                out["prototypes"][name] = [self.prototypes(dataset, method, ipc, sampled[0], shard) for shard in shards]
                out["targets"][name] = target
        if not (out["embedding"] and out["prototypes"]):  # the map has nothing to show, or nothing to show it in
            out |= {"embedding": [], "prototypes": {}}
        return out

    def report_inputs(self, dataset: str, ipc: int) -> dict[str, list[str]]:
        """The distilled sets that the report shows, and the other artifacts behind its diagnostics."""
        found = self.diagnostics(dataset, ipc)
        shown = [path for paths in found["distilled"].values() for path in paths]
        read = (paths for part in ("prototypes", "statistics", "subgroups", "features") for paths in found[part].values())
        behind = [*found["embedding"], *found["scores"], *found["real_features"], *(path for paths in read for path in paths)]
        return {"distilled": shown, "behind": behind}
