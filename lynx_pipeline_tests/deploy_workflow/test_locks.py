"""The lock files of the deploy workflow's jobs."""

import re

from lynx_pipeline_tests.deploy_workflow.workflow_rules import LOCKS
from lynx_pipeline_tests.support import REPO


def test_each_job_installs_only_what_it_needs() -> None:
    """Versions are the same in all jobs. What only runs models is in the job that runs one."""
    locked = {
        job: dict(re.findall(r"(?m)^([\w.-]+)(?:\[.*\])?==([^ ;]+)", (REPO / lock).read_text()))
        for job, lock in LOCKS.items()
    }
    of_models = {"dagster", "mlflow", "pandas", "scikit-learn"}
    of_evidence = {"duckdb", "pyarrow", "scipy"}
    assert locked["request"].items() < locked["promote"].items() < locked["evaluate"].items()
    assert locked["report"].items() < locked["promote"].items()
    assert of_models | of_evidence < locked["evaluate"].keys()
    assert not of_models & locked["promote"].keys()
    assert not of_evidence & locked["request"].keys()
    assert not {"fastapi", "mlflow-skinny"} & locked["report"].keys()
