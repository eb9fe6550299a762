rule ingest:
    output:
        images=f"{R}/{{dataset}}/{{view}}/images/{{split}}-{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/images/{{split}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/ingest/{{dataset}}.{{view}}.{{split}}-{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("files"),
    # bad images must be found before anything long has started
    priority: 100
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory("ingest"),
        runtime=runtime("ingest"),
    params:
        spec=spec("ingest"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} ingest --spec {params.spec:q} --images {output.images:q} --prov {output.prov:q}"


rule label:
    input:
        parents=parent_images,
        features=parent_features,
    output:
        images=f"{R}/{{dataset}}/{{view}}/images/train-{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/images/train-{{shard}}.prov.json",
    log:
        f"{R}/logs/label/{{dataset}}.{{view}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("pseudo"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("label"),
        runtime=runtime("label"),
    params:
        spec=spec("label"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} label --spec {params.spec:q} --parents "$(lines {input.parents:q})"'
        ' --features "$(lines {input.features:q})" --images {output.images:q} --prov {output.prov:q}'


rule take_images:
    input:
        parents=parents_of(
            f"{R}/{{dataset}}/{{view}}/images/{{split}}-{{shard}}.zarr.zip"
        ),
    output:
        taken=f"{R}/{{dataset}}/{{view}}/images/{{split}}-{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/images/{{split}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/take_images/{{dataset}}.{{view}}.{{split}}-{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("subset"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("take"),
        runtime=runtime("take"),
    params:
        spec=spec("take"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} take --spec {params.spec:q} --parents "$(lines {input.parents:q})"'
        " --taken {output.taken:q} --prov {output.prov:q}"


rule encode:
    input:
        images=f"{R}/{{dataset}}/{{view}}/images/train-{{shard}}.zarr.zip",
        prior=stored_prior("vae", "vae/"),
    output:
        latents=f"{R}/{{dataset}}/{{view}}/{{vae}}/latents/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/{{vae}}/latents/{{shard}}.prov.json",
    log:
        f"{R}/logs/encode/{{dataset}}.{{view}}.{{vae}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("files", "pseudo"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("encode"),
        runtime=runtime("encode"),
        gpu=GPUS,
    params:
        spec=spec("encode"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} encode --spec {params.spec:q} --images {input.images:q} --prior {input.prior[0]:q}"
        " --latents {output.latents:q} --prov {output.prov:q}"


use rule take_images as take_latents with:
    input:
        parents=parents_of(
            f"{R}/{{dataset}}/{{view}}/{{vae}}/latents/{{shard}}.zarr.zip"
        ),
    output:
        taken=f"{R}/{{dataset}}/{{view}}/{{vae}}/latents/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/{{vae}}/latents/{{shard}}.prov.json",
    log:
        f"{R}/logs/take_latents/{{dataset}}.{{view}}.{{vae}}.{{shard}}.log",
