rule prior:
    input:
        images=prior_images,
        weights=prior_weights,
    output:
        *(
            f"{R}/priors/{{prior}}/{name}"
            for name in (*PRIOR_FILES[1:], RECORD, MANIFEST)
        ),
        index=f"{R}/priors/{{prior}}/{PRIOR_FILES[0]}",
        prov=f"{R}/priors/{{prior}}/prior.prov.json",
    log:
        f"{R}/logs/prior/{{prior}}.log",
    benchmark:
        f"{R}/benchmarks/prior/{{prior}}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    params:
        spec=spec("prior"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} prior --spec {params.spec:q} --images '{input.images}' --index {output.index}"
        " --prov {output.prov}"
