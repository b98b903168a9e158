"""The Dagster side: the only package that imports Dagster."""
