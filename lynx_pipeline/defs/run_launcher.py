"""The run launcher of a team's server: Dagster's default one, whose runs are watched.

With the default launcher a run whose worker went down together with the code server stays
"started" until it reaches the longest time a run may take, and holds its place in the queue for
as long. The code server knows its workers, so the daemon's run monitoring asks it.
"""

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches as the default launcher does, and says whether a run still has its worker."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """So that the daemon asks."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that got the run still has a worker for it.

        A server that can't be asked raises, and the run is asked about again: it may only be
        starting. A run that no server got, such as one of ``dagster job execute``, is taken to
        be running: nothing here knows better.
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
