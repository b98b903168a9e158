"""One branch of a remote and the annotated tags that belong to it, in a bare clone without files.

A push succeeds completely or not at all, and only if the branch has not moved since it was
fetched. Transport, credentials and signing are git's, as configured for the user; settings in the
project's own checkout don't apply to this clone.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from lynx_pipeline.adapters.git import Done, ended, ref_of, run, stderr_line, without_user
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.text import without_secrets
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed

NO_FILTER = "--no-filter"
# Override the user's settings that would block or change our pushes, such as hooks. Signing commits
# and tags is up to the user's settings.
_OVERRIDES = tuple(
    part
    for setting in (
        *("core.hooksPath=/dev/null", "push.gpgSign=false", "push.pushOption=", "gc.auto=0"),
        *("maintenance.auto=false", "protocol.version=2", "push.followTags=false"),
    )
    for part in ("-c", setting)
)
_CHECKPOINTS = "refs/lynx-witness/"  # in the clone
SIGNATURE = "\n-----BEGIN "  # in a tag's message; git's formats all start like this
_PERSON = re.compile(r"(.*) <(.*)> (.*)")
# What git says to, and of, a remote with another object format.
_OTHER_FORMAT = ("mismatched algorithms", "does not support this repository's hash algorithm")


def checkpoint_ref(model: str, witness: str) -> str:
    """The branch of a witness's checkpoint."""
    return f"refs/heads/lynx-witness/{model}/{witness}"


class Branch:
    """The branch of ``remote`` and its tags that start with one of ``prefixes``, in the empty
    ``folder``.

    With ``pinned``, git's configuration may change how the remote is reached, but not which remote
    it is. Every method raises SystemFailed if git or the remote failed.

    Raises:
        Refused: git's configuration redirects to another remote than the pinned one.
    """

    def __init__(self, folder: Path, remote: GitRemote, *prefixes: str, pinned: bool) -> None:
        self.folder = folder
        self.remote = remote
        self.ref = f"refs/heads/{remote.branch}"
        self.tags = [f"refs/tags/{prefix}*" for prefix in prefixes]
        self.published: str | None = None
        self.filter = "--filter=tree:0"
        # A unique name: git's configuration may contain settings for a remote named origin.
        self.name = f"lynx-{os.urandom(16).hex()}"
        self.git("init", "--quiet", "--bare", "--template=", ".")
        self.git("remote", "add", self.name, remote.url)
        if pinned:
            self._check_pinned()

    def fetch_checkpoints(self, model: str) -> None:
        """Make :meth:`fetch` also fetch what the witnesses of ``model`` have published."""
        self.published = checkpoint_ref(model, "*")

    def fetch(self) -> bool:
        """Fetch the branch and its tags as they are now. Returns whether the branch exists. Files
        are fetched only from a remote that can't serve them one by one later."""
        refs = [f"+{ref}:{ref}" for ref in (self.ref, *self.tags)]
        if self.published is not None:
            refs.append(f"+{self.published}:{_CHECKPOINTS}*")
        try:
            self._fetch(*refs)
        except SystemFailed:
            if self.head() is None:
                self.git("update-ref", "-d", self.ref)
                self._fetch(*refs[1:])
                return False
            self._fetch(*refs)  # the fetch failed, or the branch was created just now
        try:
            self.git("cat-file", "-e", f"{self.ref}^{{tree}}")
        except SystemFailed:
            if self.filter == NO_FILTER:
                raise
            # Protocol 0, as over an sshd that ignores GIT_PROTOCOL, serves only whole branches.
            self.filter = NO_FILTER
            self._fetch("--refetch", *refs)
        return True

    def head(self) -> str | None:
        """The branch's current commit on the remote; None if there is no branch."""
        return ref_of(self.git("ls-remote", self.name, self.ref), self.ref)

    def commits(self) -> list[str]:
        """The fetched branch's commits, oldest first, and each after its parents."""
        return self.git("rev-list", "--topo-order", "--reverse", self.ref).decode().split()

    def file(self, path: str) -> bytes | None:
        """A file's bytes at the fetched branch; None if it has no such file."""
        listed = self.git("ls-tree", self.ref, "--", path).split()
        if not listed:
            return None
        if listed[0] != b"100644":
            raise BadInput(
                f"{self.remote}: {path} is not a regular file on the branch. Something else pushed "
                "there: check the branch's history; nothing was changed."
            )
        return self.git("cat-file", "blob", listed[2].decode())

    def annotated(self) -> list[tuple[str, str, bytes]]:
        """The fetched tags: name, commit and message. A lightweight tag's commit is empty here."""
        return self._messages(*self.tags)

    def checkpoints(self) -> tuple[tuple[str, bytes], ...]:
        """What is in the places of the witnesses, by name. Empty if it was not fetched."""
        found = [] if self.published is None else self._messages(_CHECKPOINTS)
        return tuple((name, message) for name, _, message in found)

    def _messages(self, *patterns: str) -> list[tuple[str, str, bytes]]:
        form = "%(refname:lstrip=2)%00%(*objectname)%00%(contents)%00%01"
        listed = self.git("for-each-ref", f"--format={form}", *patterns)
        rows = (row.split(b"\0", 2) for row in listed.split(b"\0\x01\n")[:-1])
        return [
            (name.decode(errors="backslashreplace"), target.decode(), message)
            for name, target, message in rows
        ]

    def tag_times(self) -> dict[str, int]:
        """When the fetched annotated tags were made, in seconds since 1970."""
        form = "%(taggerdate:unix) %(refname:lstrip=2)"
        listed = self.git("for-each-ref", f"--format={form}", *self.tags).decode(
            errors="backslashreplace"
        )
        rows = (line.split(" ", 1) for line in listed.splitlines())
        return {name: int(at) for at, name in rows if at}

    def add(self, *commands: bytes) -> None:
        """Add objects and refs to the clone with ``git fast-import`` commands."""
        script = b"".join((*commands, b"done\n"))
        self.git("fast-import", "--quiet", "--force", "--done", stdin=script)

    def sign_commit(self, ref: str) -> None:
        """Sign the new commit at ``ref``, if git's configuration says so (``commit.gpgSign``)."""
        if not self._is_set("commit.gpgSign"):
            return
        fields, message = self._read("commit", ref)
        tree, parents = fields[0][1], [value for key, value in fields if key == "parent"]
        name, email, date = _PERSON.findall(dict(fields)["author"])[0]
        variables = {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            **{f"GIT_{role}_DATE": date for role in ("AUTHOR", "COMMITTER")},
        }
        options = [part for parent in parents for part in ("-p", parent)]
        signed = self._sign(
            "commit-tree", "-S", *options, "-F", "-", tree, text=message, variables=variables
        )
        self.git("update-ref", ref, signed.stdout.decode().strip())

    def sign_tag(self, name: str) -> None:
        """Sign the new tag ``name``, if git's configuration says so (``tag.gpgSign`` or
        ``tag.forceSignAnnotated``)."""
        if not (self._is_set("tag.gpgSign") or self._is_set("tag.forceSignAnnotated")):
            return
        fields, message = self._read("tag", f"refs/tags/{name}")
        commit, (_, _, date) = fields[0][1], _PERSON.findall(dict(fields)["tagger"])[0]
        options = ("-s", "-f", "--cleanup=verbatim", "-F", "-")
        variables = {"GIT_COMMITTER_DATE": date}
        done = self._sign("tag", *options, name, commit, text=message, variables=variables)
        # If git can't load an SSH key, it writes a tag without signature, and ends with 0.
        if SIGNATURE not in self._read("tag", f"refs/tags/{name}")[1]:
            raise _unsigned(self._failed(done, "tag"))

    def _read(self, kind: str, name: str) -> tuple[list[tuple[str, str]], str]:
        """The fields and the message of a commit or an annotated tag."""
        head, _, message = self.git("cat-file", kind, name).decode().partition("\n\n")
        lines = (line.partition(" ") for line in head.split("\n"))
        return [(key, value) for key, _, value in lines], message

    def _is_set(self, setting: str) -> bool:
        found = self.git("config", "--type=bool", "--default=false", "--get", setting)
        return found.strip() == b"true"

    def _sign(self, *arguments: str, text: str, variables: Mapping[str, str]) -> Done:
        """Run a command that signs ``text``. The committer or tagger is the user whom git's
        configuration names, because servers accept a signature only from the key's owner."""
        try:
            return self._run(*arguments, stdin=text.encode(), variables=variables)
        except SystemFailed as error:
            raise _unsigned(error) from None

    def push(
        self, old: str | None, *refs: str, tags: Mapping[str, str | None] | None = None
    ) -> str | None:
        """Push all of ``refs`` or none, if the branch is still at ``old``. None if the remote
        accepted them, else the error. Each tag in ``tags`` may be replaced or deleted, if it is
        still the given object; None if there is none."""
        leases = [
            f"--force-with-lease={ref}:{known or ''}"
            for ref, known in ((self.ref, old), *(tags or {}).items())
        ]
        try:
            self.git("push", "--quiet", "--no-verify", "--atomic", *leases, self.name, *refs)
        except SystemFailed as error:
            return str(error).removeprefix(f"{self.remote}: ")
        return None

    def local_state(self) -> str:
        """A digest of the branch and the tags, as they were fetched."""
        return self._state(self.git("for-each-ref", "--format=%(objectname)\t%(refname)"))

    def remote_state(self) -> str:
        """The same of the remote as it is now."""
        return self._state(self.git("ls-remote", "--refs", self.name, self.ref, *self.tags))

    def _state(self, listed: bytes) -> str:
        branch = self.ref.encode()
        prefixes = tuple(it.removesuffix("*").encode() for it in self.tags)
        lines = sorted(listed.splitlines())
        names = (line.partition(b"\t")[2] for line in lines)
        ours = (
            line
            for line, name in zip(lines, names, strict=True)
            if name == branch or name.startswith(prefixes)
        )
        return hashlib.sha256(b"\n".join(ours)).hexdigest()

    def replace(self, new: str, ref: str) -> None:
        """Push the clone's ref ``new`` to the remote's ``ref``, whatever is there."""
        self.git("push", "--quiet", "--no-verify", self.name, f"+{new}:{ref}")

    def _fetch(self, *arguments: str) -> None:
        self.git("fetch", "--quiet", "--no-tags", "--prune", self.filter, self.name, *arguments)

    def _check_pinned(self) -> None:
        urls = self.git("ls-remote", "--get-url", self.name).decode().split()
        urls += self.git("remote", "get-url", "--push", "--all", self.name).decode().split()
        for url in urls:
            if without_user(url) != without_user(self.remote.url):
                raise Refused(
                    f"git's configuration (url.*.insteadOf, pushInsteadOf) redirects "
                    f"{self.remote.url} to {without_secrets(url)}. In prod the registry must be "
                    "the one in pyproject.toml. Remove that setting."
                )

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """The output of a git command in the clone."""
        return self._run(*arguments, stdin=stdin).stdout

    def _run(
        self, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> Done:
        done = run(self.folder, *_OVERRIDES, *arguments, stdin=stdin, variables=variables)
        if done.returncode != 0:
            raise self._failed(done, arguments[0])
        return done

    def _failed(self, done: Done, command: str) -> LynxError:
        words = stderr_line(done)
        if any(text in words for text in _OTHER_FORMAT):
            return BadInput(
                f"{self.remote}: git {command} failed: {ended(words)} The repository uses the "
                "object format SHA-256, and a registry needs git's default, SHA-1. Create a "
                "repository with 'git init --bare --object-format=sha1', and name it in 'registry' "
                "in pyproject.toml. Nothing was changed."
            )
        return SystemFailed(f"{self.remote}: git {command} failed: {words}")


def _unsigned(error: LynxError) -> SystemFailed:
    return SystemFailed(
        f"{ended(str(error))} The entry could not be signed, and nothing was changed. Check git's "
        "configuration: commit.gpgSign, tag.gpgSign, gpg.format and user.signingKey."
    )
