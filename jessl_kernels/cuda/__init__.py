"""CUDA C++ kernels, over all pairs at once, or around the library's products of strips of scores; `csrc/cuda` has them.

arguments      from tensors and words to the arguments of kernels
pairs          sweeps over all pairs, in few dimensions or of small batches; other problems go by strips
whole          a loss in one call, where no strips are needed
strip_kernels  the table of strips: products by the library, kernels between them
rows           the rows of a loss before and after its sweeps
served         which GPUs the kernels were compiled for
"""

from torch import Tensor

from ..backends.executor import Executor
from ..backends.strips import Strips
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import Gradients, Needs
from . import whole
from .pairs import CudaSweeps
from .pairs import few as few
from .pairs import without_strips as without_strips
from .rows import CudaRows
from .served import unserved as unserved
from .strip_kernels import CudaKernels
from .strip_kernels import by_differences as by_differences
from .strip_kernels import sizes as sizes

_strips = Strips(CudaKernels)
_executor = Executor(CudaSweeps(_strips), CudaRows)
attend, attend_grads, top_k = _strips.attend, _strips.attend_grads, _strips.top_k
row_sums, row_grads, total = _executor.row_sums, _executor.row_grads, _executor.total


def row_loss(problem: RowProblem, loss: Loss, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    """The value, 0-d, and the gradients: in one call of C++, or stage by stage."""
    if whole.in_one_call(problem, loss):
        return whole.row_loss(problem, loss, needs)
    return _executor.row_loss(problem, loss, needs, workspace)
