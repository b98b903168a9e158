"""Who owns a file, by ``CODEOWNERS``: the people whose word counts for it.

Only people are owners here, by login. Of a team, or of an e-mail address, a workflow's token
can't see who is behind it.
"""

import re

from codeowners import CodeOwners

# Where GitHub looks, in its order.
PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*$")


def owners_of(text: str, path: str) -> frozenset[str]:
    """The logins that the last line of ``text`` that is about ``path`` names, in lower case.
    ``path`` is relative to the repository's root."""
    try:
        found = CodeOwners(_COMMENT.sub("", text)).of(path)
    except ValueError:  # a line that is no pattern: GitHub skips it; to us then nobody is an owner
        return frozenset()
    return frozenset(name.removeprefix("@").lower() for kind, name in found if kind == "USERNAME")
