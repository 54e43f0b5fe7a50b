"""attend in the matrix form, until it is merged."""

import torch
import jessl_kernels as jk


def attend(x, y, values, *, kind="dot", phi=None, scale=1.0, row_bias=None, col_bias=None, exclude=None):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    s = scale * (x.to(wide) @ y.to(wide).T)
    if col_bias is not None:
        s = s + col_bias
    return s.softmax(dim=1).to(wide) @ values.to(wide)


if not hasattr(jk.pairwise, "attend"):
    jk.pairwise.attend = attend
