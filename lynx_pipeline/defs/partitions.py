"""One partition a candidate; its key is the MLflow run id."""

from dagster import DynamicPartitionsDefinition

CANDIDATES = DynamicPartitionsDefinition(name="candidates")
