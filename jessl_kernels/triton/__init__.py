"""Triton kernels: reductions over tiles of scores that never leave the multiprocessor, and the epilogues of strips.

tile          jit functions on one tile: t, φ, exclusion, sums, weights. What all kernels share
fused         kernels that make tiles, use and forget them: sums and gradients in one sweep each
score_grad    the kernel that makes the gradients of a block of scores
epilogue      kernels over a strip of t that the library's product has made
rowwise       kernels over rows, before, between and after the sweeps of a loss
shapes        which tile for which problem
launch_cache  a launch, of what was compiled before for such arguments
launch        from a `Score` to the arguments of the fused kernels
blocks        the same for blocks of weights, and their products by the library
strips        the same for strips: products by the library, epilogues between them
dispatch      which of them a reduction takes, and what becomes of their results
losses        whole losses of rows and their partners, in few launches
sup_con       the same where all rows of a label are partners
"""

from .dispatch import gradient as gradient
from .dispatch import plan as plan
from .dispatch import reduce as reduce
from .dispatch import reduce_and_gradient as reduce_and_gradient
from .dispatch import top_k as top_k
from .losses import paired as paired
from .sup_con import labelled as labelled
from .sup_con import takes_labels as takes_labels
