"""Tests of GPU code without a GPU, beyond its values, which the suite tests on the triton backend (`executor.py`)."""
