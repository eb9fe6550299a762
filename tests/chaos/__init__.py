"""Faults put into Limbeck on purpose. Every fuzzer takes a count and a seed, returns how many faults it tried, and
raises AssertionError at the first that was not survived, with the seed that brings it back."""
