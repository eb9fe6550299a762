SPACE = f"{R}/{{dataset}}/{{view}}/{{vae}}"


rule reduce:
    input:
        points=embedding_points,
    output:
        embedding=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.zarr.zip",
        prov=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/reduce/{{dataset}}.{{view}}.{{vae}}.{{embedding}}.{{shard}}.log",
    wildcard_constraints:
        embedding="(umap|pca|none)-[0-9a-f]{6}",
    # a long chain waits for it
    priority: 20
    conda:
        ENVIRONMENT
    # UMAP takes seconds a class, the others less than the start of a worker
    threads: lambda w: TWO if w.embedding.startswith("umap") else 1
    resources:
        mem_mb=memory("reduce"),
        runtime=runtime("reduce"),
    params:
        spec=spec("reduce"),
    shell:
        "exec python -m limbeck --threads 1 --log {log:q} reduce --workers {threads} --spec {params.spec:q} --points {input.points:q}"
        " --embedding {output.embedding:q} --prov {output.prov:q}"


rule fit:
    input:
        points=fit_points,
    output:
        fit=f"{SPACE}/fits/{{fit}}/{{shard}}.zarr.zip",
        prov=f"{SPACE}/fits/{{fit}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/fit/{{dataset}}.{{view}}.{{vae}}.{{fit}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("fit"),
        runtime=runtime("fit"),
    params:
        spec=spec("fit"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} fit --spec {params.spec:q} --points {input.points:q} --fit {output.fit:q}"
        " --prov {output.prov:q}"


rule select:
    input:
        points=points,
        embedding=discovery_embedding,
        fit=discovery_fit,
    output:
        prototypes=f"{SPACE}/prototypes/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{SPACE}/prototypes/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/select/{{dataset}}.{{view}}.{{vae}}.{{discovery}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("select"),
        runtime=runtime("select"),
    params:
        spec=spec("select"),
        fitted=given("embedding", "fit"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} select --spec {params.spec:q} --points {input.points:q} {params.fitted}"
        " --prototypes {output.prototypes:q} --prov {output.prov:q}"
