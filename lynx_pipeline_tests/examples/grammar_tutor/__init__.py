"""Tests of the shipped example, the grammar tutor."""
