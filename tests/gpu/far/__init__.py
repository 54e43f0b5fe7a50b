"""Tiles beyond 2³¹ elements, under Triton's interpreter, which reads memory in place. `__main__.py` is the program."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
