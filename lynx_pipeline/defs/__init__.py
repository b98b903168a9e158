"""The Dagster side: the only package that imports Dagster."""

# What a project without a dagster.yaml needs in it.
DAGSTER_YAML = "instance_class: {module: lynx_pipeline.defs.instance, class: LynxInstance}"
