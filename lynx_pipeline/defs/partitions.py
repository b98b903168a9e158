"""One partition a candidate; its key is the MLflow run id."""

from dagster import DynamicPartitionsDefinition

# What Dagster calls the partition among a run's tags.
PARTITION_TAG = "dagster/partition"

CANDIDATES = DynamicPartitionsDefinition(name="candidates")
