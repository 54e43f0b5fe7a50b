"""Tiles beyond 2³¹ elements, under Triton's interpreter, which reads memory where it lies: a program, `__main__.py`."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
