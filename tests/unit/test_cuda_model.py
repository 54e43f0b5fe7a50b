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
    "a column too many": ("absorb.cu", "t.values[c] = j + c < strip.columns ?", "t.values[c] = j + c <= strip.columns ?", None),
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


def some_of_the_suite():
    """Wide sums, close pairs, sums of columns, spreads and softmax-weighted values; mostly tests of other files."""
    options = {"dim": "both", "reduction": "mean", "exclude": {"diagonals": (3,)}}
    ours, truth = (
        test_reductions.lse_of("sqdist", None, **options),
        test_reductions.lse_oracle("sqdist", None, **options),
    )
    for shape in ((9, 300, 5), (300, 9, 5), (9, 300, 40)):
        inputs = test_reductions.given(shape, torch.float32, dim="both") | {"scale": torch.tensor(8.0)}
        with jk.use_backend("cuda"):
            judge("close pairs", ours, truth, inputs, seed=0, floors=test_reductions.FLUSHED)
    sqdist, dot = test_reductions.SCORES["sqdist"], test_reductions.SCORES["dot"]
    for score in (dot, sqdist):
        test_reductions.test_row_lse_in_every_dtype_and_shape("cuda", torch.float32, (10, 300, 40), score)
        test_reductions.test_every_option_of_logsumexp(
            "cuda", score, "both", "mean", test_reductions.EXCLUSIONS["same"], True
        )
    test_row_loss.test_columns_have_positives_of_their_own("cuda", "softplus_spread")
    test_attend.test_values_of_any_width("cuda", 3)


@contextlib.contextmanager
def broken(name: str):
    file, right, wrong, _ = PLANTED[name]
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


def test_the_kernels_as_they_are_pass():
    with cuda_model.model():
        some_of_the_suite()


SANITIZED = [
    "tests/unit/test_reductions.py::test_minus_inf_in_a_bias_excludes_and_a_nan_stays_in_its_row",
    "tests/unit/test_reductions.py::test_row_lse_in_every_dtype_and_shape",
    "tests/unit/test_row_loss.py::test_every_word_and_every_way_to_name_positives",
    "tests/unit/test_attend.py::test_values_of_any_width",
]


@pytest.mark.nightly
def test_no_sanitizer_complains():
    """Addresses and undefined behaviour, within tensors of exactly their size."""
    library = subprocess.run(["c++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(library):
        pytest.skip("the compiler has no address sanitizer")
    environment = {
        "JESSL_MODEL_FLAGS": "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda", "-m", "nightly or not nightly", *SANITIZED]
    done = subprocess.run(command, cwd=CUDA.parents[1], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
