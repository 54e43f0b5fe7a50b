"""Triton kernels: reductions over tiles of scores that never leave the multiprocessor, and the epilogues of strips.

tile      jit functions on one tile: t, φ, exclusion, sums, weights. What all kernels share
fused     kernels that make tiles, use and forget them: sums and gradients in one sweep each
epilogue  kernels over a strip of t that the library's product has made
shapes    which tile for which problem
launch    from a `Score` to the arguments of the fused kernels
strips    the same for strips: products by the library, epilogues between them
driver    which of them a reduction takes, and what becomes of their results
"""
