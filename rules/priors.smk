# One rule per family: each file of a stored prior is a declared output, and families differ in theirs.
for family, files in FILES.items():

    rule:
        name:
            f"prior_{family}"
        input:
            images=prior_images,
            weights=prior_weights,
        output:
            *(f"{R}/priors/{{prior}}/{name}" for name in (*files[1:], RECORD, MANIFEST)),
            index=f"{R}/priors/{{prior}}/{INDEX}",
            prov=f"{R}/priors/{{prior}}/prior.prov.json",
        log:
            f"{R}/logs/prior/{{prior}}.log",
        benchmark:
            f"{R}/benchmarks/prior/{{prior}}.tsv"
        wildcard_constraints:
            prior=PLAN.priors_of(family),
        conda:
            ENVIRONMENT
        threads: 2
        params:
            spec=spec("prior"),
        shell:
            "exec python -m limbeck --threads {threads} --log {log} prior --spec {params.spec:q} --images '{input.images}' --index {output.index}"
            " --prov {output.prov}"
