"""Faults put into Limbeck on purpose, and what must come of each."""
