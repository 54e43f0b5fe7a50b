"""Triton kernels: sums over tiles of scores that never leave the multiprocessor, and the epilogues of strips.

words         scalar functions with a name: φ, ψ, and joins of a row's sums
tile          jit functions on one tile, shared by all kernels: t, exclusion, sums, weights
fused         kernels that make tiles, use them and forget them: sums and gradients in one sweep each
score_grad    the kernel that makes the gradients of a block of scores
epilogue      kernels over a strip of t that the library's product has made
rowwise       kernels over rows, before and after the sweeps of a loss
finalize      kernels between its sweeps: parts merged, losses, what arrives at the sums
shapes        the shapes of tiles for each problem
launch_cache  launches of kernels that were compiled before
launch        from a `Score` to the arguments of the fused kernels
blocks        the same for blocks of U, and their products by the library
strip_kernels the same for strips: products by the library, epilogues between them
dispatch      chooses the route of a sweep, and multiplies α into its gradients
rows          the rows of a loss, before and after its sweeps
row_loss      a loss of rows, stage after stage
"""

from .dispatch import attend as attend
from .dispatch import attend_grads as attend_grads
from .dispatch import plan as plan
from .dispatch import top_k as top_k
from .row_loss import row_grads as row_grads
from .row_loss import row_loss as row_loss
from .row_loss import row_sums as row_sums
from .row_loss import total as total
