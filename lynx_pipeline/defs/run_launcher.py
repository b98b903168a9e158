"""The run launcher of a team's server: Dagster's default launcher with monitored workers.

With the default launcher, a run whose worker died together with the code server stays "started"
until the maximum run time, and blocks its slot in the queue. The code server knows its workers, so
the daemon's run monitoring asks it.
"""

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches like the default launcher, and reports whether a run still has its worker."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Tells the daemon that it can ask for a worker's health."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's code server still has a worker for it.

        An unreachable server raises, and the daemon asks again later: it may be starting. A run
        without a server, such as one of ``dagster job execute``, counts as running.
        """
        client: DagsterGrpcClient | None
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "the code server has no worker for this run"
        )
