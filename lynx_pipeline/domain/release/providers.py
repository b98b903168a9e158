"""CI systems whose identity prod can accept. Each is data: the names and forms of its claims.

An actor's fields have the names of GitHub's claims. The claims of another provider have other names
and the same meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GITHUB, GITLAB = "github", "gitlab"


@dataclass(frozen=True, slots=True)
class Provider:
    """A CI system.

    ``claims`` has the claim of each of an actor's fields that is not called like the field.
    ``workflow`` is the form of the claim that says which file defines the run, and ``run_page`` is
    the form of the address of a run's page. ``constant`` are further claims that must have this
    value, and are not recorded. ``unchecked`` are claims that are deliberately not checked, with
    the reason; so is any claim that the issuer adds.
    """

    workflow: str
    run_page: str
    claims: Mapping[str, str]
    constant: Mapping[str, str]
    unchecked: Mapping[str, str]


PROVIDERS = {
    GITHUB: Provider(
        workflow="{repository}/{workflow}@{ref}",
        run_page="{server}/{repository}/actions/runs/{run_id}",
        claims={},
        constant={},
        unchecked={
            "sub": "a repository can choose its form; each of its parts is pinned separately",
            "workflow": "the workflow's display name; workflow_ref says which file it is",
            "job_workflow_sha": "job_workflow_ref is pinned to a commit, or to a branch whose "
            "commit sha pins",
            "repository_owner": "a name; repository_owner_id is the owner",
            "repository_visibility": "a private repository's workflow is trusted no more than a "
            "public one",
            "ref_type": "ref starts with refs/heads/, so it is a branch",
            "ref_protected": "people without rights on the environment may change it",
            "head_ref": "only set on pull requests, whose ref is refused",
            "base_ref": "only set on pull requests, whose ref is refused",
            "run_number": "run_id is the run's identity",
            "enterprise": "the owner is pinned",
            "enterprise_id": "the owner is pinned",
        },
    ),
    # https://docs.gitlab.com/ci/secrets/id_token_authentication/
    GITLAB: Provider(
        workflow="{host}/{repository}//{workflow}@{ref}",
        run_page="{issuer}/{repository}/-/pipelines/{run_id}",
        claims={
            "repository": "project_path",
            "repository_id": "project_id",
            "repository_owner_id": "namespace_id",
            "workflow_ref": "ci_config_ref_uri",
            # GitLab has one claim for both: a job of an included file has the project's own file.
            "job_workflow_ref": "ci_config_ref_uri",
            "workflow_sha": "ci_config_sha",
            "ref": "ref_path",
            "event_name": "pipeline_source",
            "actor": "user_login",
            "actor_id": "user_id",
            "run_id": "pipeline_id",
            "run_attempt": "job_id",
        },
        # Who may push to another branch may not promote from there, even if it has the same name
        # as a tag.
        constant={"ref_protected": "true"},
        unchecked={
            "sub": "a project can choose its form; each of its parts is pinned separately",
            "ref": "ref_path is the branch",
            "ref_type": "ref_path starts with refs/heads/, so it is a branch",
            "namespace_path": "a name; namespace_id is the owner",
            "user_email": "user_id is recorded",
            "user_access_level": "the protected branch and environment say who may run the job",
            "user_identities": "user_id is recorded",
            "groups_direct": "the protected branch and environment say who may run the job",
            "environment_protected": "it is false where protected environments can't be bought",
            "environment_action": "the job can have another action, such as prepare",
            "deployment_tier": "the environment is pinned by name",
            "runner_id": "any runner of the pinned kind",
            "project_visibility": "a private project is trusted no more than a public one",
        },
    ),
}
