"""Scratch memory of the C++ core holds NaN until it is written to (csrc/cpu/scratch.h), in every test."""

import os

os.environ["JESSL_POISON"] = "1"  # read once, when the core first takes scratch memory
