# Input functions. What depends on the config lives in limbeck.plan; here it is bound to wildcards.


def spec(stage):
    return lambda w: PLAN.spec(stage, w)


def memory(stage):
    """Megabytes; more after every attempt."""
    return lambda w, attempt: resources.memory_mb(PLAN, stage, w, attempt, GPUS > 0)


def runtime(stage):
    """Minutes; more after every attempt."""
    return lambda w, attempt: resources.runtime_min(PLAN, stage, w, attempt)


def points(w):
    return PLAN.select_points(w)


def parent_images(w):
    """All training images of the dataset that a pseudo-labelled one is made of."""
    return PLAN.images(PLAN.dataset(w.dataset).of, "train", w.view)


def parents_of(path):
    """Of a subset's artifact at `path`: those of the dataset it is a subset of, in the shards that hold its classes."""
    return lambda w: [
        path.format(**{**w, "dataset": PLAN.parent(w.dataset), "shard": shard})
        for shard in PLAN.parent_shards(w.dataset, int(w.shard))
    ]


def parent_features(w):
    """Their features, where any image is labelled by them."""
    spec = PLAN.dataset(w.dataset)
    return PLAN.features(spec.of, "train", spec.extractor) if spec.extractor else []


def prior_images(w):
    """Training images of a prior that is trained here."""
    prior = PLAN.config.priors[w.prior]
    return PLAN.images(prior.train.dataset, "train", prior.view) if prior.train else []


def prior_weights(w):
    """Files of a prior that is copied from a folder: changed weights are noticed."""
    return PLAN.prior_files(w.prior)


def stored_prior(wildcard, part=""):
    """Files of the stored prior that a wildcard names, or of one part of it; the index first, by which commands are told its folder."""
    return lambda w: PLAN.stored_prior(w[wildcard], part)


def tuning_base(w):
    """The prior that one is tuned from."""
    return PLAN.stored_prior(PLAN.config.priors[w.prior].base)


def tuning_latents(w):
    return PLAN.tuning_latents(w.prior)


def shard_images(w):
    return PLAN.images(w.dataset, "train")[int(w.shard)]


def given(*names):
    """Command-line options of those inputs that the job has; of several files the first."""

    def options(w, input):
        found = ((name, input.get(name)) for name in names)
        return " ".join(
            f"--{name} {shlex.quote(files if isinstance(files, str) else files[0])}"
            for name, files in found
            if files
        )

    return options


def discovery_fit(w):
    return PLAN.fit_path(w) or []


def fit_points(w):
    """What a fit reads: the embedding that its discovery works in, or the latents."""
    return (
        PLAN.embedding_path(w)
        or f"{R}/{w.dataset}/{w.view}/{w.vae}/latents/{w.shard}.zarr.zip"
    )


def embedding_points(w):
    return PLAN.embedding_points(w)


def discovery_embedding(w):
    return PLAN.embedding_path(w) or []


def judged_images(name):
    """The images that are scored and cut into patches, by the wildcard that names their maps or patches."""
    return lambda w: PLAN.images(
        w.dataset, "train", PLAN.judged(w[name], w.dataset)["view"]
    )[int(w.shard)]


def scored_latents(w):
    view = PLAN.judged(w.scoring, w.dataset)["view"]
    return f"{R}/{w.dataset}/{view}/{PLAN.vae_of(w.prior)}/latents/{w.shard}.zarr.zip"


def localized_scores(w):
    return PLAN.scores(w.dataset, w.prior, PLAN.judged(w.patching, w.dataset), w.shard)


def featured_patches(w):
    options = PLAN.embedding_of(w.embedding, w.dataset)
    return PLAN.patches(w.dataset, w.vae, options, 0, w.shard)


def patch_space(w):
    """Whose features patches are clustered by: the prior's, or an extractor's."""
    return PLAN.embedding_of(w.embedding, w.dataset)["features"]


def patch_prior(w):
    """The prior, where the features are its own."""
    return PLAN.stored_prior(w.vae) if patch_space(w) in OF_PRIOR else []


def patch_extractor(w):
    """Files of the extractor, where it is one that is loaded from a folder."""
    features = patch_space(w)
    return [] if features in OF_PRIOR else PLAN.extractor_files(features)


def picked_images(w):
    """The images that a method keeps, or cuts its patches from."""
    return PLAN.images(w.dataset, "train", method_of(w).patch_view)[int(w.shard)]


def method_of(w):
    return PLAN.sampled(w)


def cell_prototypes(w):
    return PLAN.prototypes(w.dataset, method_of(w), int(w.ipc), int(w.seed), w.shard)


def sample_prototypes(w):
    return cell_prototypes(w) if method_of(w).uses_prototypes else []


def shard_latents(w):
    return PLAN.latents(w.dataset, w.shard)


def sample_targets(w):
    """The chosen images at the prior's own size, where discovery works at another."""
    return (
        PLAN.targets_of(w.dataset, method_of(w), int(w.ipc), int(w.seed), w.shard) or []
    )


def targets_prototypes(w):
    return f"{PLAN.latent_folder(w.dataset)}/prototypes/{w.discovery}/ipc{w.ipc}/seed{w.seed}/{w.shard}.zarr.zip"


def sample_refiner(w):
    refiner = PLAN.config.priors[w.prior].refiner
    return PLAN.stored_prior(refiner) if refiner else []


def sample_latents(w):
    return shard_latents(w) if method_of(w).tangents else []


def sample_statistics(w):
    return PLAN.inverted(w.dataset, method_of(w), w.shard) or []


def sample_starts(w):
    return PLAN.starts(w.dataset, method_of(w), int(w.ipc), int(w.seed), w.shard) or []


def start_statistics(w):
    return PLAN.inverted(w.dataset, PLAN.start_method(w), w.shard)


def sample_tangents(w):
    return (
        PLAN.tangents(w.dataset, method_of(w), int(w.ipc), int(w.seed), w.shard) or []
    )


def tangents_prototypes(w):
    method = PLAN.tangents_method(w)
    return PLAN.prototypes(w.dataset, method, int(w.ipc), int(w.seed), w.shard)


def group_folders(w):
    return PLAN.candidates(w.dataset, method_of(w), int(w.ipc), int(w.seed))


def folders_of_groups(w, input):
    """The groups' folders."""
    shards = len(PLAN.shards(w.dataset))
    return [Path(path).parents[1] for path in input.candidates[::shards]]


def group_images(w):
    return [f"{folder}/{w.shard}.zarr.zip" for folder in group_folders(w)]


def group_features(w):
    """Features of all candidates, group by group."""
    names = [
        f"features/{method_of(w).keep['extractor']}-{shard}.zarr.zip"
        for shard in PLAN.shards(w.dataset)
    ]
    return [f"{folder}/{name}" for folder in group_folders(w) for name in names]


def centroid_features(w):
    """Features of the real images that the classes' centroids are of."""
    keep = method_of(w).keep
    if keep["centroids"] != "real":
        return []
    return PLAN.features(w.dataset, "train", keep["extractor"])


def real_images(w):
    return PLAN.images(w.dataset, w.split)[int(w.shard)]


def images(split):
    return lambda w: PLAN.images(w.dataset, split)


def teacher_file(name, extractor=lambda w: w.extractor):
    """A file of the run's teacher, where that is the extractor."""
    return lambda w: (
        f"{R}/{w.dataset}/teachers/{PLAN.run.teacher}/{name}"
        if extractor(w) == TEACHER
        else []
    )


def given_weights(w):
    """The state dict of a teacher that is not trained here."""
    return PLAN.config.teachers[w.teacher].weights or []


def teacher_files(dataset, names):
    """Weights and records of teachers."""
    folders = [f"{R}/{dataset}/teachers/{name}" for name in names]
    files = ("model.safetensors", "teacher.json")
    return [f"{folder}/{name}" for folder in folders for name in files]


def labelling_teachers(w):
    return teacher_files(w.dataset, PLAN.labellers(w.protocol))


def online_teachers(w):
    return teacher_files(w.dataset, PLAN.online_teachers(w.protocol, w.ipc))


def stored_labels(w):
    return PLAN.soft_labels(w.dataset, w.method, w.ipc, int(w.seed), w.protocol)


def held_out_images(w):
    return PLAN.held_out(w.dataset) or []


def extractor_files(w):
    return PLAN.extractor_files(w.extractor)


def real_features(split):
    return lambda w: PLAN.features(w.dataset, split, w.extractor)


def row_images(w):
    """A row's images: distilled, or the training set for `full`."""
    return PLAN.distilled(
        w.dataset, w.method, 0 if w.ipc == "all" else int(w.ipc), int(w.seed)
    )


def row_features(w):
    ipc = 0 if w.ipc == "all" else int(w.ipc)
    return PLAN.distilled_features(w.dataset, w.method, ipc, int(w.seed), w.extractor)


def report_cells(w):
    """Metrics, student results and PNGs of every cell of the table."""
    files = student_results(w.dataset, int(w.ipc))
    for row, seeds in PLAN.cells(w.dataset, int(w.ipc)).items():
        for cell in seeds.values():
            files += [f"{cell}/metrics/{name}.json" for name in PLAN.run.extractors]
            files += [f"{cell}/images/classes.json"] if row != "full" else []
    return files


def student_results(dataset, ipc):
    return [
        f"{cell}/students/{protocol}/{student}.json"
        for seeds in PLAN.cells(dataset, ipc).values()
        for cell in seeds.values()
        for protocol in PLAN.run.protocols
        for student in PLAN.run.students
    ]


def overview_cells(w):
    """Student results of a dataset at every IPC; of what no IPC changes once."""
    files = [path for ipc in PLAN.run.ipc for path in student_results(w.dataset, ipc)]
    return list(dict.fromkeys(files))


def paper_cells(w):
    """The results that a paper's table has of ours, where the run's config is that table's."""
    try:
        return papers.inputs(PLAN, w.paper, w.table)
    except LimbeckError as error:
        raise WorkflowError(str(error)) from None


def report_images(w):
    """The first seed's distilled shards of every row that has any."""
    return PLAN.report_inputs(w.dataset, int(w.ipc))["distilled"]


def report_diagnostics(w):
    return PLAN.report_inputs(w.dataset, int(w.ipc))["behind"]


def report_sidecars(w):
    """What sampling took, and the weights."""
    return PLAN.report_inputs(w.dataset, int(w.ipc))["sidecars"]
