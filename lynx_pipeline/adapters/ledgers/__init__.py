"""The two stores of the ledger: a directory and a git branch."""
