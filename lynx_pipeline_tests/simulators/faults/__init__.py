"""What each store leaves when one step of a promotion goes wrong, tried step by step.

A promotion is made to fail at each of its system calls or git commands in turn, in a forked
process, from several states of the ledger. Then the ledger has to be the old one or the complete
new one, evidence included; the same promotion again has to lead to the new one, exactly once; and
the next one has to work. Anything else is an ``AssertionError``.

``python -m lynx_pipeline_tests.simulators.faults >docs/faults.md`` writes the table down.
"""
