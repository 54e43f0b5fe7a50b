"""Mutants that no check tells from the original, and why none can."""

EXPLAINED: dict[str, str] = {}
