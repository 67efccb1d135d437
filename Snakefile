# The entry: `snakemake` makes the demo, `snakemake --configfile params/chavez2021.yaml` another experiment.
include: "workflow/Snakefile"


# An include runs nothing by itself: the default target is set back after it.
workflow.default_target = "all"
