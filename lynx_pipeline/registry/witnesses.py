"""What the witnesses in a reader's settings say about a ledger in ``prod``.

Without witnesses in the settings, nothing is checked and nothing is imported. The rules are in
:mod:`lynx_pipeline.domain.ledger.witnesses`; what a witness itself does is in
:mod:`lynx_pipeline.registry.cosigning`.
"""

import time
from collections.abc import Mapping

from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.versioning import Env


def witness_problems(settings: Settings, ledger: Ledger) -> Mapping[str, str]:
    """The witnesses whose checkpoint does not count, each with the reason. Whoever changes the
    registry checks only this, because a witness that is merely late must not stop a rollback.

    Raises:
        BadInput: the ledger does not extend what a witness signed.
    """
    policy = settings.witnesses
    if settings.env is Env.DEV or not policy.keys:
        return {}
    from lynx_pipeline.domain.ledger.witnesses import problems

    return problems(ledger, settings.model, policy, time.time(), str(settings.registry))


def require_witnesses(settings: Settings, ledger: Ledger) -> Mapping[str, str]:
    """Like :func:`witness_problems`, for readers: enough witnesses must count.

    Raises:
        BadInput: likewise, or fewer count than the settings require.
    """
    found = witness_problems(settings, ledger)
    if found:
        from lynx_pipeline.domain.ledger.witnesses import require

        require(found, settings.witnesses, str(settings.registry))
    return found
