"""A batch of another length must not wait for a compiler: few variants of each kernel serve all lengths."""

import itertools
from collections.abc import Callable

import pytest
import torch

pytest.importorskip("triton")

from jessl_kernels.problem.exclude import Exclude
from tests.gpu import row_problems as problems
from tests.gpu.compiled import launches
from tests.gpu.row_problems import clip, info_nce, nt_xent, siglip, sup_con


@pytest.mark.parametrize(
    "what",
    [problems.one_sided, problems.both_sided, lambda s: problems.one_sided(s, op="softplus"), problems.top_k],
    ids=["one side", "both sides", "softplus", "top-k"],
)
@pytest.mark.parametrize(
    ("kind", "dtype", "D", "symmetric"),
    [
        ("dot", torch.bfloat16, 64, False),
        pytest.param("dot", torch.bfloat16, 64, True, marks=pytest.mark.nightly),
        ("dot", torch.bfloat16, 512, False),
        ("dot", torch.float32, 64, False),
        ("sqdist", torch.float32, 3, False),
        pytest.param("sqdist", torch.float32, 64, False, marks=pytest.mark.nightly),
    ],
    ids=["fused", "fused, symmetric", "blocks", "strips", "distances", "strips of distances"],
)
def test_few_variants_are_compiled_over_batches_of_1_to_300_rows(what, kind, dtype, D, symmetric):
    def reduce(N: int) -> None:
        ids = torch.arange(N)
        exclude = Exclude(diagonals=(0, N // 2, -(N // 2)), same=(ids, ids))
        what(problems.problem(dtype, D, N=N, kind=kind, symmetric=symmetric, exclude=exclude, biased=not symmetric))

    assert_few_variants(reduce)


@pytest.mark.parametrize(
    ("loss", "dtype"),
    [*itertools.product((clip, info_nce, nt_xent, siglip), (torch.bfloat16, torch.float32)), (sup_con, torch.bfloat16)],
)
def test_few_variants_of_whole_losses_are_compiled_too(loss, dtype):
    def whole(N: int) -> None:
        what, problem = loss(dtype, 64, N)
        what(problem())

    assert_few_variants(whole)


# The divisors of a number of rows decide how rows are read; around a tile's edge the number of tiles changes.
SIZES = sorted({*range(1, 18), *range(16, 300, 16), *range(17, 300, 29), 31, 33, 63, 65, 127, 129, 255, 257, 299, 300})


def assert_few_variants(call: Callable[[int], object]) -> None:
    """Few variants of each kernel, over batches of 1 to 300 rows: a shorter last batch must not wait for a compiler."""

    def variants(sizes: list[int]) -> dict[str, int]:
        with launches("sm_90") as found:
            for N in sizes:
                call(N)
        return {name: len({k.key for k in found if k.name == name}) for name in {k.name for k in found}}

    once = variants([300])  # a kernel may serve rows and columns, which differ in their requests
    for name, number in variants(SIZES).items():
        assert number <= 3 * once.get(name, 1), f"{name}: {number} variants, {once.get(name)} at one size"
