"""Who owns a file according to ``CODEOWNERS``.

Only logins of people count as owners. Teams and e-mail addresses are ignored, because a workflow's
token can't see which people belong to them.
"""

import re

from codeowners import CodeOwners

# Where GitHub looks, in this order.
PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*$")


def owners_of(text: str, path: str) -> frozenset[str]:
    """The owners of ``path``, in lower case: the logins on the last line of ``text`` that matches
    it. ``path`` is relative to the repository's root."""
    try:
        found = CodeOwners(_COMMENT.sub("", text)).of(path)
    except ValueError:  # an invalid pattern: GitHub skips the line, we trust no owner at all
        return frozenset()
    return frozenset(name.removeprefix("@").lower() for kind, name in found if kind == "USERNAME")
