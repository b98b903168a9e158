"""One branch of a remote and the annotated tags that belong to it, in a bare clone without files.

A push succeeds completely or not at all, and only if the branch has not moved since it was
fetched. Transport and credentials are git's, as configured.
"""

import os
from pathlib import Path

from lynx_pipeline.adapters.git import ref_of, run, stderr_line, without_user
from lynx_pipeline.config import GitRemote
from lynx_pipeline.errors import BadInput, Refused, SystemFailed

_NO_FILTER = "--no-filter"
# Override the user's settings that would block or change our pushes, such as hooks and signing.
_OVERRIDES = tuple(
    part
    for setting in (
        *("core.hooksPath=/dev/null", "push.gpgSign=false", "push.pushOption=", "gc.auto=0"),
        *("maintenance.auto=false", "protocol.version=2", "push.followTags=false"),
    )
    for part in ("-c", setting)
)


class Branch:
    """The branch of ``remote`` and its tags that start with ``prefix``, in the empty ``folder``.

    With ``pinned``, git's configuration may change how the remote is reached, but not which remote
    it is. Every method raises SystemFailed if git or the remote failed.

    Raises:
        Refused: git's configuration redirects to another remote than the pinned one.
    """

    def __init__(self, folder: Path, remote: GitRemote, prefix: str, *, pinned: bool) -> None:
        self.folder = folder
        self.remote = remote
        self.ref = f"refs/heads/{remote.branch}"
        self.tags = f"refs/tags/{prefix}*"
        self.filter = "--filter=tree:0"
        # A unique name: git's configuration may contain settings for a remote named origin.
        self.name = f"lynx-{os.urandom(16).hex()}"
        self._git("init", "--quiet", "--bare", "--template=", ".")
        self._git("remote", "add", self.name, remote.url)
        if pinned:
            self._check_pinned()

    def fetch(self) -> bool:
        """Fetch the branch and its tags as they are now. Returns whether the branch exists. Files
        are fetched only from a remote that can't serve them one by one later."""
        refs = (f"+{self.ref}:{self.ref}", f"+{self.tags}:{self.tags}")
        try:
            self._fetch(*refs)
        except SystemFailed:
            if self.head() is None:
                self._git("update-ref", "-d", self.ref)
                self._fetch(refs[1])
                return False
            self._fetch(*refs)  # the fetch failed, or the branch was created just now
        try:
            self._git("cat-file", "-e", f"{self.ref}^{{tree}}")
        except SystemFailed:
            if self.filter == _NO_FILTER:
                raise
            # Protocol 0, as over an sshd that ignores GIT_PROTOCOL, serves only whole branches.
            self.filter = _NO_FILTER
            self._fetch("--refetch", *refs)
        return True

    def head(self) -> str | None:
        """The branch's current commit on the remote; None if there is no branch."""
        return ref_of(self._git("ls-remote", self.name, self.ref), self.ref)

    def commits(self) -> list[str]:
        """The fetched branch's commits, oldest first."""
        return self._git("rev-list", "--reverse", self.ref).decode().split()

    def file(self, path: str) -> bytes | None:
        """A file's bytes at the fetched branch; None if it has no such file."""
        listed = self._git("ls-tree", self.ref, "--", path).split()
        if not listed:
            return None
        if listed[0] != b"100644":
            raise BadInput(
                f"{self.remote}: {path} is not a regular file on the branch. Something else pushed "
                "there: check the branch's history; nothing was changed."
            )
        return self._git("cat-file", "blob", listed[2].decode())

    def annotated(self) -> list[tuple[str, str, bytes]]:
        """The fetched tags: name, commit and message. A lightweight tag's commit is empty here."""
        form = "%(refname:lstrip=2)%00%(*objectname)%00%(contents)%00%01"
        listed = self._git("for-each-ref", f"--format={form}", self.tags)
        rows = (row.split(b"\0", 2) for row in listed.split(b"\0\x01\n")[:-1])
        return [
            (name.decode(errors="backslashreplace"), target.decode(), message)
            for name, target, message in rows
        ]

    def add(self, *commands: bytes) -> None:
        """Add objects and refs to the clone with ``git fast-import`` commands."""
        script = b"".join((*commands, b"done\n"))
        self._git("fast-import", "--quiet", "--force", "--done", stdin=script)

    def push(self, old: str | None, *refs: str) -> str | None:
        """Push all of ``refs`` or none, if the branch is still at ``old``. None if the remote
        accepted them, else the error."""
        lease = f"--force-with-lease={self.ref}:{old or ''}"
        try:
            self._git("push", "--quiet", "--no-verify", "--atomic", lease, self.name, *refs)
        except SystemFailed as error:
            return str(error)
        return None

    def _fetch(self, *arguments: str) -> None:
        self._git("fetch", "--quiet", "--no-tags", "--prune", self.filter, self.name, *arguments)

    def _check_pinned(self) -> None:
        urls = self._git("ls-remote", "--get-url", self.name).decode().split()
        urls += self._git("remote", "get-url", "--push", "--all", self.name).decode().split()
        for url in urls:
            if without_user(url) != without_user(self.remote.url):
                raise Refused(
                    f"git's configuration (url.*.insteadOf, pushInsteadOf) redirects "
                    f"{self.remote.url} to {without_user(url)}. In prod the registry must be the "
                    "one in pyproject.toml. Remove that setting."
                )

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = run(self.folder, *_OVERRIDES, *arguments, stdin=stdin)
        if done.returncode != 0:
            raise SystemFailed(f"{self.remote}: git {arguments[0]} failed: {stderr_line(done)}")
        return done.stdout
