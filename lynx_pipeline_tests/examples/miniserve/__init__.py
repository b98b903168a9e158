"""Tests of miniserve, the example that serves the promoted model."""
