"""Kernels broken on purpose: would the suite notice?  `python -m tests.mutants`

sources    the jit functions of jessl_kernels/triton, and which kernels reach them
operators  from one function to its mutants: one change of the syntax tree each
planted    the kernels of a mutated source in place of the real ones
problems   small, of odd shapes, each with what is hard about it
judged     a call of `dispatch`, or of a whole loss, on such a problem, against the matrix form in fp64
checks     what a mutant must pass to survive: the table of those calls
survivors  why each one that survives cannot be told from the original
outcomes   a mutant against the checks
"""
