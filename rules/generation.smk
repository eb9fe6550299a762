CELL = f"{R}/{{dataset}}/{{prior}}/{{method}}/ipc{{ipc}}/seed{{seed}}"
JOB = "{dataset}.{prior}.{method}.ipc{ipc}.seed{seed}"


rule pick:
    input:
        images=shard_images,
        prototypes=cell_prototypes,
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/pick/{JOB}.{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/pick/{JOB}.{{shard}}.tsv"
    wildcard_constraints:
        method=PLAN.generated(False),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec("pick"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} pick --spec {params.spec:q} --images {input.images} --prototypes {input.prototypes}"
        " --distilled {output.distilled} --prov {output.prov}"


rule sample:
    input:
        images=shard_images,
        prior=f"{R}/priors/{{prior}}/model_index.json",
        prototypes=sample_prototypes,
    output:
        distilled=f"{CELL}/distilled-{{shard}}.zarr.zip",
        prov=f"{CELL}/distilled-{{shard}}.prov.json",
    log:
        f"{R}/logs/sample/{JOB}.{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/sample/{JOB}.{{shard}}.tsv"
    wildcard_constraints:
        method=PLAN.generated(True),
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec("sample"),
        prototypes=lambda w, input: (
            f"--prototypes {input.prototypes}" if input.get("prototypes") else ""
        ),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} sample --spec {params.spec:q} --images {input.images} --prior {input.prior} {params.prototypes}"
        " --distilled {output.distilled} --prov {output.prov}"


rule export:
    input:
        distilled=row_images,
    output:
        classes=f"{CELL}/images/classes.json",
        prov=f"{CELL}/images.prov.json",
    log:
        f"{R}/logs/export/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/export/{JOB}.tsv"
    wildcard_constraints:
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec("export"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} export --spec {params.spec:q} --distilled '{input.distilled}' --classes {output.classes}"
        " --prov {output.prov}"
