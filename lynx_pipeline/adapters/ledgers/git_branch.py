"""One branch of a remote, and the annotated tags that go with it, in a bare clone without files.

What is pushed goes up whole or not at all, and only if the branch still is where it was. Transport
and credentials are git's, as it is configured.
"""

import uuid
from pathlib import Path

from lynx_pipeline.adapters.git import ref_of, run, said, without_user
from lynx_pipeline.config import GitRemote
from lynx_pipeline.errors import BadInput, Refused, SystemFailed

_NO_FILTER = "--no-filter"
# People's hooks and habits are for people's pushes; these would stop or change ours.
_PLAIN = tuple(
    part
    for setting in (
        *("core.hooksPath=/dev/null", "push.gpgSign=false", "push.pushOption=", "gc.auto=0"),
        *("maintenance.auto=false", "protocol.version=2", "push.followTags=false"),
    )
    for part in ("-c", setting)
)


class Branch:
    """The branch of ``remote`` and its tags that begin with ``prefix``, in the empty ``folder``.

    With ``pinned`` git's configuration may say how the remote is reached, not that it is another.
    Every method raises SystemFailed if git or the remote failed.

    Raises:
        Refused: git's configuration leads to another remote than the pinned one.
    """

    def __init__(self, folder: Path, remote: GitRemote, prefix: str, *, pinned: bool) -> None:
        self.folder = folder
        self.remote = remote
        self.ref = f"refs/heads/{remote.branch}"
        self.tags = f"refs/tags/{prefix}*"
        self.filter = "--filter=tree:0"
        # A name of its own: git's configuration may hold settings for a remote named origin.
        self.name = f"lynx-{uuid.uuid4().hex}"
        self._git("init", "--quiet", "--bare", "--template=", ".")
        self._git("remote", "add", self.name, remote.url)
        if pinned:
            self._check_pinned()

    def fetch(self) -> bool:
        """The branch, if there is one, and its tags as they are now. No files yet, but
        from a remote that can't hand them out one by one."""
        refs = (f"+{self.ref}:{self.ref}", f"+{self.tags}:{self.tags}")
        try:
            self._fetch(*refs)
        except SystemFailed:
            if self.head() is None:
                self._git("update-ref", "-d", self.ref)
                self._fetch(refs[1])
                return False
            self._fetch(*refs)  # the fetch broke, or the branch is only just there
        try:
            self._git("cat-file", "-e", f"{self.ref}^{{tree}}")
        except SystemFailed:
            if self.filter == _NO_FILTER:
                raise
            # Protocol 0, as over an sshd that takes no GIT_PROTOCOL, gives out whole branches.
            self.filter = _NO_FILTER
            self._fetch("--refetch", *refs)
        return True

    def head(self) -> str | None:
        """The branch's commit on the remote now."""
        return ref_of(self._git("ls-remote", self.name, self.ref), self.ref)

    def commits(self) -> list[str]:
        """The fetched branch's commits, oldest first."""
        return self._git("rev-list", "--reverse", self.ref).decode().split()

    def file(self, path: str) -> bytes | None:
        """A file at the fetched branch, or None if it has no such."""
        listed = self._git("ls-tree", self.ref, "--", path).split()
        if not listed:
            return None
        if listed[0] != b"100644":
            raise BadInput(f"{self.remote}: {path} is no plain file on the branch.")
        return self._git("cat-file", "blob", listed[2].decode())

    def annotated(self) -> list[tuple[str, str, bytes]]:
        """The fetched tags: name, the commit that it names, and its message. A lightweight tag
        names none here."""
        form = "%(refname:lstrip=2)%00%(*objectname)%00%(contents)%00%01"
        listed = self._git("for-each-ref", f"--format={form}", self.tags)
        rows = (row.split(b"\0", 2) for row in listed.split(b"\0\x01\n")[:-1])
        return [
            (name.decode(errors="backslashreplace"), target.decode(), message)
            for name, target, message in rows
        ]

    def add(self, *commands: bytes) -> None:
        """Add objects and refs to the clone, by commands of ``git fast-import``."""
        script = b"".join((*commands, b"done\n"))
        self._git("fast-import", "--quiet", "--force", "--done", stdin=script)

    def push(self, old: str | None, *refs: str) -> str | None:
        """Push all of ``refs`` or none, if the branch still is at ``old``. None if the remote
        took them, else what it said."""
        lease = f"--force-with-lease={self.ref}:{old or ''}"
        try:
            self._git("push", "--quiet", "--no-verify", "--atomic", lease, self.name, *refs)
        except SystemFailed as error:
            return str(error)
        return None

    def _fetch(self, *arguments: str) -> None:
        self._git("fetch", "--quiet", "--no-tags", "--prune", self.filter, self.name, *arguments)

    def _check_pinned(self) -> None:
        places = self._git("ls-remote", "--get-url", self.name).decode().split()
        places += self._git("remote", "get-url", "--push", "--all", self.name).decode().split()
        for place in places:
            if without_user(place) != without_user(self.remote.url):
                raise Refused(
                    f"git's configuration (url.*.insteadOf, pushInsteadOf) leads from "
                    f"{self.remote.url} to {without_user(place)}. In prod the registry is the "
                    "one in pyproject.toml."
                )

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = run(self.folder, *_PLAIN, *arguments, stdin=stdin)
        if done.returncode != 0:
            raise SystemFailed(f"{self.remote}: git {arguments[0]} failed: {said(done)}")
        return done.stdout
