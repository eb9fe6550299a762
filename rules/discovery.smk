rule select:
    input:
        points=points,
    output:
        prototypes=f"{R}/{{dataset}}/{{view}}/{{vae}}/prototypes/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/{{vae}}/prototypes/{{discovery}}/ipc{{ipc}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/select/{{dataset}}.{{view}}.{{vae}}.{{discovery}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/select/{{dataset}}.{{view}}.{{vae}}.{{discovery}}.ipc{{ipc}}.seed{{seed}}.{{shard}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec("select"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} select --spec {params.spec:q} --points {input.points} --prototypes {output.prototypes}"
        " --prov {output.prov}"
