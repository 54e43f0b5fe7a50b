"""Experiments: scripts that measure what the documentation claims, by the package's public API alone."""
