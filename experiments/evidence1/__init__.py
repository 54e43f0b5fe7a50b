"""Bijective encoders, trained to raise bounds on an information that they cannot change."""
