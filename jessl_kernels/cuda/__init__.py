"""CUDA C++ kernels around the library's products, on strips of scores; `csrc/cuda` has them.

`strip_kernels` is the table of strips: products by the library, kernels between them.
"""

from ..backends.executor import Executor
from ..backends.strips import Strips
from .strip_kernels import CudaKernels
from .strip_kernels import sizes as sizes

_strips = Strips(CudaKernels)
_executor = Executor(_strips)
attend, attend_grads, top_k = _strips.attend, _strips.attend_grads, _strips.top_k
row_sums, row_grads, row_loss, total = _executor.row_sums, _executor.row_grads, _executor.row_loss, _executor.total
