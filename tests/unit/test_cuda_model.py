"""The model of a GPU notices what a GPU would get wrong: CUDA kernels broken on purpose, and a few of the suite's tests."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels import native
from jessl_kernels.cuda import pairs
from jessl_kernels.literals import BackendName
from tests import cuda_model
from tests.unit import test_attend, test_reductions, test_row_loss
from tests.yardstick import judge

CUDA = Path(__file__).parents[2] / "csrc" / "cuda"

# Name: file, what stands there, what is planted, and the words of the model's error, or None where numbers are wrong.
PLANTED = {
    "a barrier is missing": ("reduce.cuh", "  __syncthreads();\n", "", None),
    "a barrier between tiles is missing": (
        "close.cu", "    __syncthreads();  // the next tile's weights take the place of these\n", "", None,
    ),
    "a barrier that some threads miss": (
        "absorb.cu", "  __syncthreads();\n", "  if (threadIdx.y < 4) __syncthreads();\n", "some threads have ended",
    ),
    "a shuffle that some lanes miss": (
        "reduce.cuh", "sum = merged(sum, down(sum, lanes));",
        "if (int(threadIdx.x) % 32 < lanes) sum = merged(sum, down(sum, lanes));", "miss the shuffle",
    ),
    "a loop that ends one too early": ("absorb.cu", "warp < warps_down;", "warp < warps_down - 1;", None),
    "a loop that ends one too late": (
        "score_grad.cu", "warp < warps_down; ++warp) {", "warp <= warps_down; ++warp) {", None,
    ),
    "a column too many": (
        "strip_rows.cuh", "t.values[c] = j + c < strip.columns ?", "t.values[c] = j + c <= strip.columns ?", None,
    ),
    "a wrong lane": ("reduce.cuh", "lanes = warp_size / 2;", "lanes = warp_size / 4;", None),
    "the wrong group of lanes": ("close.cu", "lanes < warp_size; lanes *= 2", "lanes < warp_size / 2; lanes *= 2", None),
    "shared memory that nobody has written": (
        "score_grad.cu", "  bias_parts[mine] = of_bias;\n", "  if (threadIdx.y < 7) bias_parts[mine] = of_bias;\n", None,
    ),
    "shared memory of another": ("reduce.cuh", "parts[threadIdx.x / warp_size] = sum;", "parts[0] = sum;", None),
    "a store beyond a shared array": (
        "absorb.cu", "  parts[threadIdx.y * warp_size + threadIdx.x] = sum;\n",
        "  parts[threadIdx.y * warp_size + threadIdx.x + 1] = sum;\n", "beyond the shared array",
    ),
    "a row of the strip for a row of all": ("score.cuh", "scores.row_bias[at.i]", "scores.row_bias[at.row]", None),
}  # fmt: skip


# The same for kernels over all pairs: few dimensions, small batches, whole losses. Each compiles a file or more, so all but one
# run at night.
PLANTED_WITHOUT_STRIPS = {
    "weights are read before they are written": (
        "row_losses.cu", "  __syncthreads();  // all threads read the weights\n", "", None,
    ),
    "columns read what rows have not written": (
        "join.cu", "    __syncthreads();  // columns read what rows have written\n", "", None,
    ),
    "the sum of another tilt": ("row_losses.cu", "strip, row, k, false)", "strip, row, 0, false)", None),
    "a tile that nobody has loaded": (
        "few_sums.cu", "    __syncthreads();\n    Sum here", "    Sum here", None,
    ),
    "a tile that others still read": (
        "few_sums.cu", "    __syncthreads();  // the next tile takes the place of this one\n", "", None,
    ),
    "rows for columns": ("few_sums.cu", "of_columns ? Place{m, m, n} :", "of_columns ? Place{n, n, m} :", None),
    "a part of the sums too few": ("sums.cuh", "part < parts.count;", "part + 1 < parts.count;", None),
    "a part of the gradients too few": ("few_grads.cu", "part < count;", "part + 1 < count;", None),
    "parts of the scale in one place": ("few_grads.cu", "scale[blockIdx.y * gridDim.x + blockIdx.x]", "scale[blockIdx.x]", None),
    "U for its transpose": ("small.cu", "of.u[m * of.ld + n]", "of.u[n * of.ld + m]", None),
    "terms that others still read": (
        "small.cu", "    __syncthreads();  // the next terms take the place of these\n", "", None,
    ),
    "pairs that others still read": (
        "small.cu", "    __syncthreads();  // the next pairs take the place of these\n", "", None,
    ),
    "a row of the first piece": ("rows.cu", "return {pieces.given[piece], row};", "return {pieces.given[0], row};", None),
}  # fmt: skip
QUICK = "weights are read before they are written"


def some_of_the_suite():
    """Wide sums, close pairs, sums of columns, spreads and softmax-weighted values, by strips; mostly tests of other files."""
    with cuda_model.by_strips():
        close_pairs()
        sqdist, dot = test_reductions.SCORES["sqdist"], test_reductions.SCORES["dot"]
        for score in (dot, sqdist):
            test_reductions.test_row_lse_in_every_dtype_and_shape("cuda", torch.float32, (10, 300, 40), score)
            test_reductions.test_every_option_of_logsumexp(
                "cuda", score, "both", "mean", test_reductions.EXCLUSIONS["same"], True
            )
        test_row_loss.test_columns_have_positives_of_their_own("cuda", "softplus_spread")
        test_attend.test_values_of_any_width("cuda", 3)


def close_pairs(shapes=((9, 300, 5), (300, 9, 5), (9, 300, 40))):
    """On strips up to 16 dimensions every pair is close."""
    options = {"dim": "both", "reduction": "mean", "exclude": {"diagonals": (3,)}}
    ours, truth = (
        test_reductions.lse_of("sqdist", None, **options),
        test_reductions.lse_oracle("sqdist", None, **options),
    )
    for shape in shapes:
        inputs = test_reductions.given(shape, torch.float32, dim="both") | {"scale": torch.tensor(8.0)}
        with jk.use_backend("cuda"):
            judge("close pairs", ours, truth, inputs, seed=0, floors=test_reductions.FLUSHED)


def some_without_strips():
    """The same sizes over all pairs at once: in few dimensions, and as small batches."""
    for few in (pairs.FEW_DIMENSIONS, 0):
        with mock.patch.object(pairs, "FEW_DIMENSIONS", few):
            close_pairs(((9, 300, 5), (300, 9, 5)))
            for problem in ("shift", "hard negatives"):
                test_row_loss.test_every_word_and_every_way_to_name_positives("cuda", torch.float32, problem, "dot")
            test_row_loss.test_columns_have_positives_of_their_own("cuda", "softplus_spread")
            both_ways(5 if few else 70)
    many_columns()


def both_ways(D: int):
    """Two views in two pieces, pairs of two batches whose columns have sums too, and two tilts."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(70, D, generator=generator) for _ in range(2))
    words = {"normalize": True}
    for ours in (
        lambda x, y, scale: jk.row_loss(
            [x, y], join="softplus", positives=70, scale=scale, exclude="diagonal", **words
        ),
        lambda x, y, scale: jk.row_loss(x, y, join="softplus", positives=3, scale=scale, dim="both", **words),
        lambda x, y, scale: jk.row_loss(
            x, y, join="tilt_difference", positives=3, tilts=(1.5, 0.5), scale=scale, **words
        ),
    ):
        agrees_with_the_reference(ours, x, y, torch.tensor(3.0))


def many_columns():
    """So many that a block takes several tiles, and that joins take several blocks."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 2, generator=generator), torch.randn(40_000, 2, generator=generator)
    agrees_with_the_reference(
        lambda x, y, scale: jk.row_loss(x, y, join="none", scale=scale, kind="sqdist", dim="both"),
        x,
        y,
        torch.tensor(3.0),
    )


def agrees_with_the_reference(loss, *given):
    found = []
    runs: list[tuple[BackendName, torch.dtype]] = [("cuda", torch.float32), ("reference", torch.float64)]
    for backend, dtype in runs:
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in given]
        with jk.use_backend(backend):
            value = loss(*leaves)
            value.backward()
        found.append([value.detach(), *(leaf.grad for leaf in leaves)])
    for ours, truth in zip(*found, strict=True):
        assert (ours.double() - truth).norm() <= 1e-5 * truth.norm()


@contextlib.contextmanager
def broken(name: str):
    file, right, wrong, _ = (PLANTED | PLANTED_WITHOUT_STRIPS)[name]
    text = (CUDA / file).read_text()
    assert text.count(right) == 1, f"{right!r} stands {text.count(right)} times in {file}"
    module = cuda_model.loaded(cuda_model.built({file: text.replace(right, wrong)}))
    with mock.patch.object(native, "cuda", lambda: module):
        yield


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_noticed(name):
    with cuda_model.model(), broken(name):
        words = PLANTED[name][-1]
        if words is None:
            with pytest.raises(AssertionError):
                some_of_the_suite()
        else:
            with pytest.raises(RuntimeError, match=words):
                some_of_the_suite()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICK else pytest.mark.nightly) for name in PLANTED_WITHOUT_STRIPS]
)
def test_a_planted_fault_over_all_pairs_is_noticed(name):
    with cuda_model.model(), broken(name), pytest.raises((AssertionError, RuntimeError)):
        some_without_strips()


def test_the_kernels_as_they_are_pass():
    with cuda_model.model():
        some_of_the_suite()
        some_without_strips()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
def test_batches_that_take_wide_tiles(kind):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(520, 520, generator=generator) for _ in range(2))
    with cuda_model.model():
        agrees_with_the_reference(
            lambda x, y, scale: jk.row_loss(x, y, join="softplus", positives=1, scale=scale, kind=kind),
            x, y, torch.tensor(1 / 520),
        )  # fmt: skip


SANITIZED = [
    "tests/unit/test_cuda_model.py::test_the_kernels_as_they_are_pass",
    "tests/unit/test_reductions.py::test_minus_inf_in_a_bias_excludes_and_a_nan_stays_in_its_row",
    "tests/unit/test_reductions.py::test_row_lse_in_every_dtype_and_shape",
    "tests/unit/test_row_loss.py::test_every_word_and_every_way_to_name_positives",
    "tests/unit/test_attend.py::test_values_of_any_width",
]


def _library(name: str) -> str:
    """Where the compiler has a library; the bare name if it has none."""
    return subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("marked", ["not nightly", pytest.param("nightly", marks=pytest.mark.nightly)])
def test_no_sanitizer_complains(marked):
    """Addresses and undefined behaviour, within tensors of exactly their size."""
    # The sanitizer looks for functions of the C++ library when it is loaded, and Python alone does not load that.
    libraries = [_library(name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(map(os.path.isabs, libraries)):
        pytest.skip("the compiler has no address sanitizer")
    environment = {
        "JESSL_MODEL_FLAGS": "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda", "-m", marked, *SANITIZED]
    done = subprocess.run(command, cwd=CUDA.parents[1], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
