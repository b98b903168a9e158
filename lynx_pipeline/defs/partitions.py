"""One partition per candidate; its key is the candidate's, such as an MLflow run id."""

from dagster import DynamicPartitionsDefinition

# Dagster's run tag for the partition.
PARTITION_TAG = "dagster/partition"

CANDIDATES = DynamicPartitionsDefinition(name="candidates")
