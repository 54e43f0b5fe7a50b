"""How long and how much memory, against the matrix form; `python -m benchmarks` and `make bench`."""
