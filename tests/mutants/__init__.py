"""Kernels broken on purpose: would the suite notice?  `python -m tests.mutants`

sources    the jit functions of jessl_kernels/triton, and which kernels reach them
operators  from one function to its mutants: one change of the syntax tree each
planted    the kernels of a mutated source in place of the real ones
bench      the tests with the marker `kernels`, run against one mutant after the other
survivors  why each mutant that survives cannot be told from the original
outcomes   outcomes.txt: how many mutants of each function were caught, and of which source
"""
