"""The ledger: the facts it records, the hash chain, and the registry state they add up to."""
