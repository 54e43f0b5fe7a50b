"""What a small loss costs the host on the cuda backend: kernels, operations of torch and Python frames, counted on the model of a
GPU, whose launches do nothing here."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jessl_kernels import phi
from jessl_kernels.backends import cuda
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Loss, Positives, RowProblem
from jessl_kernels.problem.types import Needs
from tests import cuda_model

N, WORKSPACE = 256, 256 << 20
PAIRED = {"positives": Positives(shift=0), "exclude": Exclude()}
LOSSES = {  # name: fields of the problem, pieces of X and Y, dimensions, join
    "info_nce": ({**PAIRED, "normalize": True}, (1, 1), 128, "softplus"),
    "clip_loss": ({**PAIRED, "cols": True}, (1, 1), 128, "softplus"),
    "nt_xent": ({"positives": Positives(shift=N // 2), "normalize": True}, (2, 0), 128, "softplus"),
    "kde_entropy": ({"kind": "sqdist"}, (1, 0), 8, "none"),
    "info_nce, 300,000 rows": ({**PAIRED, "normalize": True}, (1, 1), 8, "softplus"),
}
# Launches of kernels. Those of Triton with bf16 at 256 rows, kernels and torch together (the dispatcher's of
# tests/gpu/test_launches.py): 11, 17, 11, 9.
LAUNCHED = {"info_nce": 5, "clip_loss": 6, "nt_xent": 5, "kde_entropy": 4, "info_nce, 300,000 rows": 7}
MOST_FRAMES = 160  # Triton has from 695 to 1,748
LAUNCH_NOTHING = ("empty", "new_empty", "detach")


class Operations(TorchDispatchMode):
    """Operations of torch that launch something on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        if name not in LAUNCH_NOTHING:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def loss_of(name: str, dtype: torch.dtype):
    """A call of the loss, with the gradients of its embeddings."""
    fields, (of_x, of_y), D, join = LOSSES[name]
    rows = 300_000 if "rows" in name else N
    x, y = (
        tuple(torch.randn(rows // count, D, dtype=dtype) for _ in range(count)) if count else ()
        for count in (of_x, of_y)
    )
    problem = RowProblem(
        x, y, 2.0, None, None, **{"exclude": Exclude((0,)), "kind": "dot", "phi": phi.IDENTITY, **fields}
    )  # pyright: ignore[reportArgumentType]
    needs = Needs(True, slice(0, rows if y else 0), False, False, False)
    return lambda: cuda.row_loss(problem, Loss(join), needs, WORKSPACE)


def frames(call) -> int:
    """How many functions of Python a call enters."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_small_loss_is_one_call_of_few_launches_and_few_frames(name, dtype):
    call = loss_of(name, dtype)
    with cuda_model.model(), cuda_model.idle() as launches:
        with Operations() as of_torch:
            call()
        assert of_torch.names == []
        assert launches.value == LAUNCHED[name]
        assert frames(call) <= MOST_FRAMES
