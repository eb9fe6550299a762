rule report:
    input:
        cells=report_cells,
        distilled=report_images,
        diagnostics=report_diagnostics,
        # times are no reason to make a page again
        sidecars=ancient(report_sidecars),
    output:
        csv=f"{R}/{{dataset}}/ipc{{ipc}}/summary.csv",
        md=f"{R}/{{dataset}}/ipc{{ipc}}/summary.md",
        html=f"{R}/{{dataset}}/ipc{{ipc}}/summary.html",
        grid=f"{R}/{{dataset}}/ipc{{ipc}}/grid.png",
        prov=f"{R}/{{dataset}}/ipc{{ipc}}/summary.prov.json",
    log:
        f"{R}/logs/report/{{dataset}}.ipc{{ipc}}.log",
    wildcard_constraints:
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("report"),
        runtime=runtime("report"),
    params:
        spec=spec("report"),
        folder=subpath(output.csv, parent=True),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} report --spec {params.spec:q} --folder {params.folder:q} --prov {output.prov:q}"
