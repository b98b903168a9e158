"""Reports: verdicts, audits and gate power as people read them."""
