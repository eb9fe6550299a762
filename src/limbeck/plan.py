"""From a validated config to paths, specs and targets: what the Snakefile asks.

A *spec* is the one ``params:`` string of a rule: sorted JSON of the config slice its stage reads, and under ``code`` the
fingerprint of the sources that stage can reach with that method. Snakemake reruns a job when the string changes.
"""

import functools
from collections.abc import Mapping
from typing import Any

from limbeck import checks, specs
from limbeck.data.paths import local_folder
from limbeck.lookup import Lookup
from limbeck.methods import (
    DISCOVERY,
    FULL,
    Method,
    embedding_name,
    embedding_options,
    fit_name,
    fit_options,
    patching_name,
    scoring_name,
)
from limbeck.priors.files import INDEX, LAYOUTS, MANIFEST
from limbeck.priors.weights import loaded_files, vae_files, vae_folder
from limbeck.specs import MAP, Wildcards

GROUPS = 1000  # sampling seeds set aside for the candidate groups of each generation seed


class Plan(Lookup):
    """Paths, specs and targets of one config.

    Raises
    ------
    LimbeckError: one line that names the key, the value and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any]):
        super().__init__(config)
        checks.check(self)

    @functools.cache  # noqa: B019
    def missing(self, dataset: str, ipc: int, method: str, protocols: tuple[str, ...]) -> list[str]:
        """Why a cell of a paper's table cannot be made on this machine, a line for each of what it lacks; none where it can."""
        return checks.missing(self, dataset, ipc, method, protocols)

    @functools.cache  # noqa: B019
    def stored_prior(self, prior: str, part: str = "") -> list[str]:
        """What jobs read of a stored prior: its index, its files or those of one part, and its manifest."""
        files = [name for name in LAYOUTS[self.layout(prior)][1:] if name.startswith(part)]
        return [f"{self.root}/priors/{prior}/{name}" for name in (INDEX, *files, MANIFEST)]

    def prior_files(self, prior: str) -> list[str]:
        """Local files that a prior of given weights is loaded from; what is fetched has none."""
        spec, folder = self.config.priors[prior], self.local_weights(prior)
        found = loaded_files(folder, spec.family, spec.variant, spec.t5) if folder else []
        other = local_folder(spec.vae) if spec.vae else None
        return list(map(str, [*found, *(vae_files(vae_folder(other)) if other else [])]))

    def tuning_latents(self, prior: str) -> list[str]:
        """The latents that a prior is tuned on; none where it is not tuned."""
        spec = self.config.priors[prior]
        if spec.finetune is None:
            return []
        folder = f"{self.root}/{spec.finetune.dataset}/{spec.view}/{self.vae_of(prior)}/latents"
        return [f"{folder}/{shard}.zarr.zip" for shard in self.shards(spec.finetune.dataset)]

    def images(self, dataset: str, split: str, view: str | None = None) -> list[str]:
        """All shards of a split."""
        spec = self.dataset(dataset)
        view = view or spec.view
        if spec.of and spec.source == "pseudo" and split == "test":
            dataset = spec.of
        return [f"{self.root}/{dataset}/{view}/images/{split}-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def held_out(self, dataset: str) -> str | None:
        """The real images that students select their epoch by; None where the run holds none out."""
        spec = self.dataset(dataset)
        return f"{self.root}/{dataset}/{spec.view}/images/held_out.zarr.zip" if self.run.held_out else None

    def online_teachers(self, protocol: str, ipc: int | str) -> tuple[str, ...]:
        """The teachers that look on while a protocol's students are trained."""
        return () if self._stores(ipc) else self.labellers(protocol)

    def soft_labels(self, dataset: str, method: str, ipc: int | str, seed: int, protocol: str) -> list[str]:
        """The stored labels of a cell's repeats; none where labels are hard or a teacher looks on."""
        if not self._stores(ipc) or not self.labellers(protocol):
            return []
        folder = f"{self.cell(dataset, method, int(ipc), seed)}/labels/{protocol}"
        return [f"{folder}/{repeat}.zarr.zip" for repeat in range(self.run.repeats)]

    def _stores(self, ipc: int | str) -> bool:
        # labels of every epoch of a whole training set would be larger than it
        return self.run.soft_labels == "cached" and ipc != "all"

    def features(self, dataset: str, split: str, extractor: str) -> list[str]:
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

    def cells(self, dataset: str, ipc: int) -> dict[str, dict[int, str]]:
        """row -> seed -> folder."""
        return {
            name: {seed: self.cell(dataset, name, ipc, seed) for seed in ((0,) if name == FULL else self.seeds(ipc))}
            for name in self.rows(ipc)
        }

    def target(self, dataset: str, ipc: int) -> str:
        """The page of a dataset at an IPC."""
        return f"{self.root}/{dataset}/ipc{ipc}/summary.html"

    @property
    def several_ipcs(self) -> bool:
        """Whether a dataset has a page over its IPCs too."""
        return len(self.run.ipc) > 1

    def targets(self) -> list[str]:
        """What ``snakemake`` builds when no target is named."""
        if self.run.table is not None:
            return [f"{self.root}/papers/{self.run.table}.html"]
        pages = [self.target(dataset, ipc) for dataset in self.run.datasets for ipc in self.run.ipc]
        return pages + [f"{self.root}/{dataset}/summary.html" for dataset in self.run.datasets if self.several_ipcs]

    def distilled(self, dataset: str, method: str, ipc: int, seed: int) -> list[str]:
        """The images a row is trained on: its distilled shards, or the training set for ``full``."""
        if method == FULL:
            return self.images(dataset, "train")
        return [f"{self.cell(dataset, method, ipc, seed)}/distilled-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def distilled_features(self, dataset: str, method: str, ipc: int, seed: int, extractor: str) -> list[str]:
        """Features of those images."""
        if method == FULL:
            return self.features(dataset, "train", extractor)
        cell = self.cell(dataset, method, ipc, seed)
        return [f"{cell}/features/{extractor}-{shard}.zarr.zip" for shard in self.shards(dataset)]

    def spec(self, stage: str, w: Wildcards) -> str:
        """The params string of ``stage`` for a job's wildcards."""
        return specs.build(self, stage, w)

    def first_seed(self, ipc: int) -> int:
        """The seed whose images and diagnostics the page shows."""
        return min(self.seeds(ipc))

    def diagnostics(self, dataset: str, ipc: int) -> dict[str, Any]:
        """What the page shows of the first seed, by row: distilled sets, prototypes, and the map under the prototypes.

        Of sampling, tangents and the prior's weights it shows what their sidecars say: what they took.
        """
        names = ("distilled", "prototypes", "targets", "shared", "tangents", "tangent_dims", "statistics", "subgroups", "sampling")
        shown = self.run.extractors[0]
        out: dict[str, Any] = {name: {} for name in (*names, "features", "weights")} | {
            "embedding": [],
            "scores": [],
            "placed": [],
            "real_features": self.features(dataset, "train", shown),
        }
        seed, shards = self.first_seed(ipc), self.shards(dataset)
        seen: set[Any] = set()
        shown_by: dict[Any, str] = {}
        for name in (row for row in self.rows(ipc) if row != FULL):
            method = self.method(name, ipc, dataset)
            out["distilled"][name] = self.distilled(dataset, name, ipc, seed)
            out["features"][name] = self.distilled_features(dataset, name, ipc, seed, shown)
            if method.needs_prior:
                out["embedding"] = self.embedding(dataset, embedding_name(MAP))
            if method.tangents:
                out["tangent_dims"][name] = method.tangents["d"]
            sampled = self.sampling_seeds(method, seed)
            if method.sampler:
                out["weights"][name] = f"{self.root}/priors/{method.prior}/prior.prov.json"
                groups = self.candidates(dataset, method, ipc, seed)
                made = [[f"{group}/{shard}.zarr.zip" for shard in shards] for group in groups] or [out["distilled"][name]]
                out["sampling"][name] = [[sidecar(path) for path in group] for group in made]
            if method.tangents_name:
                made = [[self.tangents(dataset, method, ipc, s, shard) or "" for shard in shards] for s in sampled]
                out["tangents"][name] = [[sidecar(path) for path in group] for group in made]
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
            if not (method.judge or method.imported) and self.vae_of(method.prior) == self.vae_of(self.run.prior):
                out["placed"].append(name)
            target = (*method.guidance, method.start or {})[0].get("target", "member")
            if method.discovery is not None and not method.judge:
                # rows that share their prototypes read them once
                first = out["shared"].setdefault(name, shown_by.setdefault((method.discovery_name, target, sampled[0]), name))
                if first == name:
                    out["prototypes"][name] = [self.prototypes(dataset, method, ipc, sampled[0], shard) for shard in shards]
                    out["targets"][name] = target
        if not (out["embedding"] and out["prototypes"]):  # the map has nothing to show, or nothing to show it in
            out |= {"embedding": [], "prototypes": {}, "placed": []}
        return out

    def report_inputs(self, dataset: str, ipc: int) -> dict[str, list[str]]:
        """The distilled sets that the report shows, the other artifacts behind its diagnostics, and the sidecars that it reads."""
        found = self.diagnostics(dataset, ipc)
        shown = [path for paths in found["distilled"].values() for path in paths]
        read = (paths for part in ("prototypes", "statistics", "subgroups", "features") for paths in found[part].values())
        behind = [*found["embedding"], *found["scores"], *found["real_features"], *(path for paths in read for path in paths)]
        taken = [found[part][name] for part in ("sampling", "tangents") for name in found[part]]
        times = [path for groups in taken for group in groups for path in group]
        cells = self.cells(dataset, ipc).items()
        jobs = [path for row, seeds in cells for cell in seeds.values() for path in self._jobs(dataset, row, cell)]
        return {"distilled": shown, "behind": behind, "sidecars": list(dict.fromkeys([*times, *found["weights"].values(), *jobs]))}

    def _jobs(self, dataset: str, row: str, cell: str) -> list[str]:
        """The sidecars of the jobs behind a cell of the table: its distilled shards' and its students'."""
        shards = [] if row == FULL else self.shards(dataset)
        pairs = [(protocol, student) for protocol in self.run.protocols for student in self.run.students]
        made = [f"{cell}/distilled-{shard}" for shard in shards] + [f"{cell}/students/{p}/{s}" for p, s in pairs]
        return [f"{path}.prov.json" for path in made]


def sidecar(artifact: str) -> str:
    """Where an artifact's provenance is."""
    return artifact.removesuffix(".zarr.zip") + ".prov.json"
