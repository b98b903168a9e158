"""Making a git repository a project: what is missing is planned, shown, and then written."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters import dvc_data
from lynx_pipeline.adapters.dvc_files import OnDisk, Tracked, find_if_tracked, own_record
from lynx_pipeline.adapters.dvc_versions import why_not_in_remote
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.release.owners import PLACES
from lynx_pipeline.domain.text import Say, number_of, without_secrets
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.baseline import propose
from lynx_pipeline.evaluation.candidate import candidate as candidate_folder
from lynx_pipeline.evaluation.candidate import choose, fresh_bundle
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.run import evaluate, hidden_folders
from lynx_pipeline.registry.authorization import require_dev
from lynx_pipeline.setup.files import File
from lynx_pipeline.setup.project import (
    BASELINE,
    check_committable,
    check_new_eval_set,
    find_eval_set,
    git_root,
    model_name,
    project_files,
    project_here,
    workflow_subject,
)
from lynx_pipeline.setup.workflows import (
    FOLDER,
    Action,
    installed_wheel,
    owners_file,
    workflow_files,
)

_FIRST_REMOTE = "data/dvc-remote"
_OWNER = re.compile(r"@?([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))")


@dataclass(frozen=True, slots=True)
class Initialization:
    """What ``init`` writes at ``root``. ``dvc_remote`` is the default remote that DVC gets, None if
    it has one. ``notes`` say what can't be written, and why."""

    root: Path
    eval_set: Path
    dvc_remote: str | None
    files: tuple[File, ...]
    notes: tuple[str, ...]

    def write(self) -> Iterator[str]:
        """Write the files, and put the eval set under DVC. Yields what was done.

        Raises:
            SystemFailed: DVC or the disk failed.
        """
        for file in self.files:
            file.write()
        if self.dvc_remote is not None:
            dvc_data.start_repository(self.root, self.dvc_remote)
            yield f"DVC keeps its data in {self.dvc_remote}."
        name = self.eval_set.relative_to(self.root)
        tracked = find_if_tracked(self.eval_set, OnDisk())
        if tracked is None:
            dvc_data.track(self.eval_set, None)
            yield f"DVC tracks the eval set {name}."
        elif self._was_not_pushed(tracked):
            dvc_data.push(self.eval_set)
            yield f"The eval set {name} is now in DVC's remote."

    def _was_not_pushed(self, tracked: Tracked) -> bool:
        """Whether an earlier run failed between tracking the eval set and pushing it."""
        if not tracked.by_hash or tracked.record != own_record(self.eval_set):
            return False
        return why_not_in_remote(self.eval_set, tracked.md5, tracked.remote) is not None

    def first_baseline(
        self,
        reference: str,
        model: str | None,
        warn: Callable[[str], None],
        say: Say,
        progress: Callable[[int, int], object],
    ) -> Iterator[str]:
        """Evaluate a candidate and write the baseline from it. Yields what was done.

        Raises:
            BadInput: there is a baseline already, or the candidate can't be evaluated.
            Refused: this is ``prod``.
            SystemFailed: MLflow, DVC or the disk failed.
        """
        settings = self._settings()
        require_dev(settings, "a first baseline")
        if settings.baseline.exists():
            raise BadInput(
                f"{settings.baseline} exists. A new one is proposed from an evaluation: "
                "lynx-pipeline baseline propose"
            )
        key = str(choose(settings, reference, model).key)
        output = candidate_folder(settings, key).evidence / EVAL
        with fresh_bundle(settings, key, say) as (bundle, _, _):
            evidence = evaluate(
                bundle,
                read_eval_set(settings),
                output,
                settings.evaluation,
                candidate=key,
                env=settings.env,
                hidden=hidden_folders(settings),
                warn=warn,
                say=say,
                progress=progress,
            )
        propose(settings, output, f"The first baseline, measured on {key}.")
        counts = evidence.evaluation.counts
        buckets = number_of(len(counts.buckets), "bucket")
        yield (
            f"{settings.baseline.name} has {buckets}: {counts.correct} of {counts.n} right "
            f"({counts.correct / counts.n:.2%})."
        )

    def next_steps(self) -> Iterator[str]:
        """The commands that come next."""
        settings = self._settings()
        gate = f" --gate {settings.model}" if settings.gate else ""
        if not settings.baseline.exists():
            yield f"lynx-pipeline init --candidate RUN_ID{gate}   # makes the first baseline"
        else:
            yield "git add . && git commit -m 'Add a deploy gate'"
            yield (
                f"lynx-pipeline run RUN_ID v0.1.0-dev{gate}     # evaluates a candidate, and "
                "promotes it"
            )
        yield f"lynx-pipeline doctor{gate}                    # says what production still needs"

    def _settings(self) -> Settings:
        return load_settings(self.root)


def plan(
    root: Path,
    name: str | None,
    eval_set: Path | None,
    dvc_remote: str | None,
    owners: Sequence[str],
    source: Path | Action | None,
) -> Initialization:
    """What is missing at ``root``. Settings that exist take precedence over ``name`` and
    ``eval_set``. ``source`` is what the workflow installs; by default the installed wheel.

    Raises:
        BadInput: ``root`` is in no git repository or in another project, there is no usable eval
            set, or an argument is invalid.
    """
    top = git_root(root)
    project = project_here(root)
    if project is not None:
        name, eval_set = project.model, project.eval_set
    name = name or model_name(root)
    eval_set = Path(os.path.normpath(root / (eval_set or find_eval_set(root))))
    if find_if_tracked(eval_set, OnDisk()) is None:
        check_new_eval_set(eval_set, root)
    files = project_files(root, name, eval_set, has_table=project is not None)
    subject = name if project is None else workflow_subject(project)
    baseline = BASELINE if project is None else project.baseline.relative_to(root).as_posix()
    notes = []
    source = source or installed_wheel()
    if top != root:
        notes.append(
            f"the workflow and CODEOWNERS, since the repository's root is {top}: see docs/ci.md"
        )
    elif source is None:
        notes.append(
            f"the workflow and {FOLDER}, since lynx-pipeline was not installed from a wheel file, "
            "which the workflow's jobs install: give --wheel FILE, or --action OWNER/REPO@COMMIT"
        )
    else:
        files += workflow_files(root, subject, source)
    if top == root and not any((root / it).exists() for it in PLACES[1:]):
        files.append(owners_file(root, subject, baseline, _owners(owners)))
    for file in files:
        file.check(root)
    remote = _remote(root, dvc_remote)
    names = [it.path.relative_to(root).as_posix() for it in files]
    check_committable(root, names + ([f"{remote}/any"] if _is_inside(remote) else []))
    return Initialization(root, eval_set, remote, tuple(files), tuple(notes))


def _remote(root: Path, named: str | None) -> str | None:
    """The default remote that DVC needs; None if it has one.

    Raises:
        BadInput: the named one is not usable, or DVC has another.
    """
    current = dvc_data.default_remote(root)
    if named is None:
        return None if current else _FIRST_REMOTE
    if current:
        raise BadInput(
            f"DVC has a default remote here, {current!r}. Leave out --dvc-remote, or change the "
            "remote with 'dvc remote modify'."
        )
    if not named.strip("./") or not named.isprintable():
        raise BadInput(f"--dvc-remote {named!r:.80}: expected a URL, or a folder of its own.")
    if without_secrets(named) != named:
        raise BadInput(
            "--dvc-remote: the URL contains a password or a query, and would be committed. Give it "
            "without, and add the credentials with 'dvc remote modify --local'."
        )
    return named


def _is_inside(remote: str | None) -> bool:
    """Whether the remote is a folder in the repository, which has to be committed."""
    return remote is not None and "://" not in remote and not remote.startswith(("/", "../"))


def _owners(named: Sequence[str]) -> str:
    """The owners for ``CODEOWNERS``. Without a name it is a placeholder: the owner of a repository
    on GitHub may be an organization, which GitHub does not accept there."""
    for it in named:
        if not _OWNER.fullmatch(it):
            raise BadInput(f"--owner {it!r:.60}: expected the login of a person, such as @octocat.")
    return " ".join(f"@{it.removeprefix('@')}" for it in named or ["OWNER"])
