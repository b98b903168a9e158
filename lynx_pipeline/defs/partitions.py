"""One partition per candidate; its key is the MLflow run id."""

from dagster import DynamicPartitionsDefinition

# Dagster's run tag for the partition.
PARTITION_TAG = "dagster/partition"

CANDIDATES = DynamicPartitionsDefinition(name="candidates")
