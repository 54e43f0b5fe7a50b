"""CUDA C++ kernels around the library's products, on strips of scores; `csrc/cuda` has them.

arguments      from tensors and words to the arguments of kernels
strip_kernels  the table of strips: products by the library, kernels between them
rows           the rows of a loss before and after its sweeps
served         which GPUs the kernels were compiled for
"""

from ..backends.executor import Executor
from ..backends.strips import Strips
from .rows import CudaRows
from .served import unserved as unserved
from .strip_kernels import CudaKernels
from .strip_kernels import by_differences as by_differences
from .strip_kernels import sizes as sizes

_strips = Strips(CudaKernels)
_executor = Executor(_strips, CudaRows)
attend, attend_grads, top_k = _strips.attend, _strips.attend_grads, _strips.top_k
row_sums, row_grads, row_loss, total = _executor.row_sums, _executor.row_grads, _executor.row_loss, _executor.total
