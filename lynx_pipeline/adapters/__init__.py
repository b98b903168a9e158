"""The outside world, one system a module. Foreign exceptions become ours here."""
