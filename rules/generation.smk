CELL = f"{R}/{{dataset}}/{{prior}}/{{method}}/ipc{{ipc}}/seed{{seed}}"
JOB = "{dataset}.{prior}.{method}.ipc{ipc}.seed{seed}"
GROUP = f"{R}/{{dataset}}/{{prior}}/candidates/{{candidates}}/ipc{{ipc}}/seed{{seed}}"
GROUP_JOB = "{dataset}.{prior}.{candidates}.ipc{ipc}.seed{seed}"


rule pick:
    input:
        images=picked_images,
        prototypes=cell_prototypes,
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/pick/{JOB}.{{shard}}.log",
    wildcard_constraints:
        method=PLAN.made_by("pick"),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("pick"),
        runtime=runtime("pick"),
    params:
        spec=spec("pick"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} pick --spec {params.spec:q} --images {input.images:q} --prototypes {input.prototypes:q}"
        " --distilled {output.distilled:q} --prov {output.prov:q}"


rule imported:
    input:
        images=shard_images,
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/imported/{JOB}.{{shard}}.log",
    wildcard_constraints:
        method=PLAN.made_by("imported"),
        ipc=r"\d+",
    # bad images must be found before anything long has started
    priority: 100
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("imported"),
        runtime=runtime("imported"),
    params:
        spec=spec("imported"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} imported --spec {params.spec:q} --images {input.images:q}"
        " --distilled {output.distilled:q} --prov {output.prov:q}"


rule invert:
    input:
        latents=shard_latents,
        prior=stored_prior("prior"),
        refiner=sample_refiner,
    output:
        statistics=f"{R}/{{dataset}}/{{prior}}/inverted/{{inversion}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/inverted/{{inversion}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/invert/{{dataset}}.{{prior}}.{{inversion}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("files", "pseudo"),
    # long, and much waits for it
    priority: 20
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("invert"),
        runtime=runtime("invert"),
        gpu=GPUS,
    params:
        spec=spec("invert"),
        refined=given("refiner"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} invert --spec {params.spec:q} --latents {input.latents:q}"
        " --prior {input.prior[0]:q} {params.refined} --statistics {output.statistics:q} --prov {output.prov:q}"


use rule take_images as take_statistics with:
    input:
        parents=parents_of(
            f"{R}/{{dataset}}/{{prior}}/inverted/{{inversion}}/{{shard}}.zarr.zip"
        ),
    output:
        taken=f"{R}/{{dataset}}/{{prior}}/inverted/{{inversion}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/inverted/{{inversion}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/take_statistics/{{dataset}}.{{prior}}.{{inversion}}.{{shard}}.log",


rule draw:
    input:
        statistics=start_statistics,
    output:
        starts=f"{R}/{{dataset}}/{{prior}}/starts/{{start}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/starts/{{start}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/draw/{{dataset}}.{{prior}}.{{start}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: TWO
    resources:
        mem_mb=memory("draw"),
        runtime=runtime("draw"),
    params:
        spec=spec("draw"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} draw --spec {params.spec:q} --statistics {input.statistics:q}"
        " --starts {output.starts:q} --prov {output.prov:q}"


rule reencode:
    input:
        images=shard_images,
        prototypes=targets_prototypes,
        prior=stored_prior("prior", "vae/"),
    output:
        targets=f"{R}/{{dataset}}/{{prior}}/targets/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/targets/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/reencode/{{dataset}}.{{prior}}.{{discovery}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("reencode"),
        runtime=runtime("reencode"),
        gpu=GPUS,
    params:
        spec=spec("reencode"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} reencode --spec {params.spec:q} --images {input.images:q}"
        " --prototypes {input.prototypes:q} --prior {input.prior[0]:q} --targets {output.targets:q} --prov {output.prov:q}"


rule tangents:
    input:
        latents=shard_latents,
        prototypes=tangents_prototypes,
        scheduler=f"{R}/priors/{{prior}}/scheduler/scheduler_config.json",
    output:
        tangents=f"{R}/{{dataset}}/{{prior}}/tangents/{{tangents}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/tangents/{{tangents}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/tangents/{{dataset}}.{{prior}}.{{tangents}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("tangents"),
        runtime=runtime("tangents"),
    params:
        spec=spec("tangents"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} tangents --spec {params.spec:q} --latents {input.latents:q}"
        " --prototypes {input.prototypes:q} --scheduler {input.scheduler:q} --tangents {output.tangents:q} --prov {output.prov:q}"


rule sample:
    input:
        images=shard_images,
        prior=stored_prior("prior"),
        refiner=sample_refiner,
        prototypes=sample_prototypes,
        targets=sample_targets,
        latents=sample_latents,
        tangents=sample_tangents,
        statistics=sample_statistics,
        starts=sample_starts,
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/sample/{JOB}.{{shard}}.log",
    wildcard_constraints:
        method=PLAN.made_by("sample"),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("sample"),
        runtime=runtime("sample"),
        gpu=GPUS,
    params:
        spec=spec("sample"),
        given=given(
            "refiner",
            "prototypes",
            "targets",
            "latents",
            "tangents",
            "statistics",
            "starts",
        ),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} sample --spec {params.spec:q} --images {input.images:q} --prior {input.prior[0]:q} {params.given}"
        " --distilled {output.distilled:q} --prov {output.prov:q}"


# a candidate group is the method's sampling under a seed of its own, so one more group samples only that one
use rule sample as candidates with:
    output:
        distilled=f"{GROUP}/{{shard}}.zarr.zip",
        prov=f"{GROUP}/{{shard}}.prov.json",
    log:
        f"{R}/logs/candidates/{GROUP_JOB}.{{shard}}.log",


rule choose:
    input:
        candidates=group_features,
        real=centroid_features,
    output:
        subgroups=f"{CELL}/subgroups.zarr.zip",
        prov=f"{CELL}/subgroups.prov.json",
    log:
        f"{R}/logs/choose/{JOB}.log",
    wildcard_constraints:
        method=PLAN.made_by("keep"),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("choose"),
        runtime=runtime("choose"),
    params:
        spec=spec("choose"),
        # not the features of every shard in them: a command has a length limit
        groups=folders_of_groups,
        shards=lambda w: len(PLAN.shards(w.dataset)),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} choose --spec {params.spec:q} --candidates "$(lines {params.groups:q})"'
        ' --shards {params.shards} --real "$(lines {input.real:q})" --subgroups {output.subgroups:q} --prov {output.prov:q}'


rule keep:
    input:
        candidates=group_images,
        subgroups=f"{CELL}/subgroups.zarr.zip",
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/keep/{JOB}.{{shard}}.log",
    wildcard_constraints:
        method=PLAN.made_by("keep"),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("keep"),
        runtime=runtime("keep"),
    params:
        spec=spec("keep"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} keep --spec {params.spec:q} --candidates "$(lines {input.candidates:q})"'
        " --subgroups {input.subgroups:q} --distilled {output.distilled:q} --prov {output.prov:q}"


rule pngs:
    input:
        distilled=row_images,
    output:
        classes=f"{CELL}/images/classes.json",
        archive=f"{CELL}/images.zip",
        prov=f"{CELL}/images.prov.json",
    log:
        f"{R}/logs/pngs/{JOB}.log",
    wildcard_constraints:
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("pngs"),
        runtime=runtime("pngs"),
    params:
        spec=spec("pngs"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} pngs --spec {params.spec:q} --distilled "$(lines {input.distilled:q})" --classes {output.classes:q}'
        " --archive {output.archive:q} --prov {output.prov:q}"
