"""Faults on purpose: every one must be survived or named, none may lose anything or let something wrong pass."""
