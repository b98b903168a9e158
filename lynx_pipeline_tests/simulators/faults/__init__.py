"""What each store leaves when one step of a promotion fails, tried step by step.

A promotion runs in a forked process and fails at each of its system calls or git commands in turn,
from several states of the ledger. Afterwards the ledger must be the old one or the complete new
one, including its evidence. The same promotion tried again must lead to the new ledger with exactly
one new entry, and the next promotion must work. Anything else is an ``AssertionError``.

``python -m lynx_pipeline_tests.simulators.faults >docs/faults.md`` writes the table.
"""
