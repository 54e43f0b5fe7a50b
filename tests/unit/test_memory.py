"""The process may grow by inputs, gradients, a few vectors and the workspace, but by no N×N matrix."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

N, D = 8192, 128  # a matrix of 256 MiB, four times the workspace
MIB = 2**20
WORKSPACE = 64 * MIB
at_night = pytest.mark.nightly  # a process takes ten seconds
MEASURE = """
import json, pathlib, sys
import torch, jessl_kernels as jk
from jessl_kernels.mi import ksg
problem, rows, dimensions, backend = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def run(rows, dimensions):
    torch.manual_seed(0)
    x = torch.randn(rows, dimensions, dtype=torch.bfloat16 if "bf16" in problem else None, requires_grad=True)
    unit = lambda: torch.nn.functional.normalize(torch.randn(64 * rows, dimensions), dim=1)
    prototypes, keys = lambda: unit().requires_grad_(), unit
    loss = {
        "nt_xent": lambda: jk.nt_xent(x, torch.randn_like(x).requires_grad_()),
        "dcl": lambda: jk.dcl(x, torch.randn_like(x).requires_grad_()),
        "negatives": lambda: jk.info_nce(x, *(torch.randn_like(x).requires_grad_() for _ in range(2))),
        "clip_loss": lambda: jk.clip_loss(x, x.detach().roll(1, 0).requires_grad_(), 5.0, normalize=True),
        "kde_entropy": lambda: jk.kde_entropy(x, bandwidth=0.9),
        "matrix": lambda: (x @ x.T).sum(),
        "strips": lambda: jk.pairwise_logsumexp(x, torch.randn_like(x).requires_grad_(), scale=0.1, reduction="mean"),
        "both": lambda: jk.pairwise_logsumexp(x, torch.randn_like(x).requires_grad_(), dim="both", reduction="mean"),
        "both, bf16": lambda: jk.pairwise_logsumexp(x, torch.randn_like(x).requires_grad_(), dim="both", reduction="mean"),
        "rows": lambda: jk.pairwise_logsumexp(x, scale=0.1).sum(),
        "attend": lambda: jk.attend(
            x, torch.randn_like(x).requires_grad_(), torch.randn_like(x).requires_grad_(), scale=0.1
        ).sum(),
        "sup_con": lambda: jk.sup_con(x, torch.arange(rows) // 2),
        "few classes": lambda: jk.sup_con(x, torch.arange(rows) % 10),
        "swav": lambda: jk.er.swav([x, x.detach().roll(1, 0).requires_grad_()], prototypes()),
        "dino": lambda: jk.er.dino([x, x.detach().roll(1, 0).requires_grad_()], [x.detach()] * 2, *(prototypes(), keys())),
        "ksg": lambda: ksg(x, torch.randn_like(x)),
        "ksg, type 2": lambda: ksg(x, torch.randn_like(x), type=2),
        "knn_entropy": lambda: jk.knn_entropy(x),
        "entropy_of": lambda: torch.tensor(jk.entropy_of(x, bandwidth=0.9).value),
        "evaluate": lambda: torch.tensor(jk.evaluate(x, z2=x.detach().roll(1, 0), queries=512)["info_nce"].value),
    }[problem]()
    if loss.requires_grad:
        loss.backward()
jk.use_backend(backend).__enter__()
run(16 if problem in ("swav", "dino") else 256, 128)  # libraries load their buffers before the count begins
def peak():  # not ru_maxrss, which a process inherits from the one that started it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak()
run(rows, dimensions)
print(json.dumps(peak() - before))
"""


# Each measurement is of a process of its own, which other processes do not change.
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc"
)


def growth(problem: str, rows: int, backend: str = "cpu", dimensions: int = D) -> float:
    """Growth of the peak resident memory of a fresh process, in bytes, without what its allocator keeps of freed tensors."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, problem, str(rows), str(dimensions), backend],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "2",
            "MALLOC_MMAP_THRESHOLD_": "131072",
        },  # each thread has scratch memory
    )
    return json.loads(done.stdout) * 1024


@pytest.mark.parametrize(("rows", "limit"), [(N, 128), pytest.param(4 * N, 400, marks=at_night)])
@pytest.mark.parametrize("backend", ["cpu", pytest.param("chunked", marks=at_night)])
@pytest.mark.parametrize("problem", ["nt_xent", "clip_loss", "kde_entropy"])
def test_loss_and_gradient_hold_no_matrix_of_scores(problem, backend, rows, limit):
    # One matrix of scores would be 256 MiB at the least, or 4096.
    assert growth(problem, rows, backend) < limit * MIB


def formula(rows: int, dimensions: int, tensors: float) -> float:
    """The bytes of `tensors` inputs and gradients of floats, 16 vectors of rows and of columns, and the workspace."""
    return tensors * rows * dimensions * 4 + 16 * (rows + rows) * 4 + WORKSPACE


@pytest.mark.parametrize("rows", [N, pytest.param(4 * N, marks=at_night)])
@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize(("problem", "tensors"), [pytest.param("rows", 2, marks=at_night), ("strips", 4), ("both", 4)])
def test_reductions_need_16_vectors_and_the_workspace_beyond_inputs_and_gradients(problem, tensors, backend, rows):
    assert growth(problem, rows, backend) < formula(rows, D, tensors)


@pytest.mark.parametrize("rows", [N, pytest.param(4 * N, marks=at_night)])
@pytest.mark.parametrize("backend", ["cpu", pytest.param("chunked", marks=at_night)])
def test_attend_needs_the_workspace_beyond_inputs_result_and_gradients(backend, rows):
    # Three inputs, the result, its upstream gradient spread out, three gradients, and one that is being added.
    assert growth("attend", rows, backend) < formula(rows, D, 9)


@pytest.mark.parametrize(("backend", "rows"), [("cpu", 50_000), ("chunked", N // 4)])
@pytest.mark.parametrize("problem", ["ksg", pytest.param("ksg, type 2", marks=at_night), "knn_entropy"])
def test_nearest_neighbours_need_copies_in_fp64_and_the_workspace(problem, backend, rows):
    # Six copies of a batch in fp64: of x, of y, of both together, and of these in the order of the tiles.
    assert growth(problem, rows, backend, dimensions=3) < formula(rows, 3, 2 + 6 * 2)


def test_the_entropy_of_a_data_set_needs_16_vectors_beside_it():
    rows = 40_000  # three blocks
    assert growth("entropy_of", rows, dimensions=16) < formula(rows, 16, 1)


def test_a_representation_is_judged_without_a_matrix_of_scores():
    # Five batches of 4 MiB (both views, their directions, one more), the workspace, and what neighbours are compared with.
    assert growth("evaluate", N) < formula(N, D, 5) + 64 * MIB


def test_half_precision_is_converted_tile_by_tile():
    """Two bytes for each number of an input, four for its gradient, and two for the gradient in the input's dtype."""
    assert growth("both, bf16", 2048, dimensions=8192) < formula(2048, 8192, 4)


@pytest.mark.parametrize(
    ("problem", "tensors"),
    [pytest.param("nt_xent", 4, marks=at_night), pytest.param("dcl", 4, marks=at_night), ("negatives", 6)],
)
def test_two_views_and_further_negatives_are_not_joined_to_one_tensor(problem, tensors):
    rows, dimensions = 2048, 8192  # 64 MiB a tensor, as much as the workspace; a vector for each row of both views
    assert growth(problem, rows, dimensions=dimensions) < formula(2 * rows, dimensions, tensors / 2)


@pytest.mark.parametrize("problem", [pytest.param("sup_con", marks=at_night), "few classes"])
def test_rows_are_put_in_the_order_of_their_labels_without_a_copy(problem):
    rows, dimensions = 2048, 8192  # 64 MiB, as much as the workspace
    assert growth(problem, rows, dimensions=dimensions) < formula(rows, dimensions, 2)


@pytest.mark.parametrize(
    ("problem", "tensors"),
    [pytest.param("rows", 2, marks=at_night), pytest.param("strips", 4, marks=at_night), ("both", 4)],
)
def test_strips_and_tiles_of_very_many_dimensions_fit_the_workspace(problem, tensors):
    rows, dimensions = 1200, 32768  # strips and tiles of the usual 192 rows would take 96 MiB a thread
    assert growth(problem, rows, dimensions=dimensions) < formula(rows, dimensions, tensors)


@pytest.mark.parametrize(("problem", "tensors"), [("swav", 2), ("dino", 3)])
@pytest.mark.parametrize("rows", [512, pytest.param(1024, marks=at_night)])
def test_prototypes_need_16_mib_beyond_inputs_and_gradients(problem, tensors, rows):
    """A matrix of scores, of which SwAV and DINO keep several, would take 64 MiB, or 256."""
    of_prototypes = tensors * 64 * rows * D * 4
    of_views = 8 * rows * D * 4
    assert growth(problem, rows) < of_prototypes + of_views + 16 * MIB


@at_night
def test_memory_grows_with_rows_and_not_with_their_square():
    small, large = growth("rows", N), growth("rows", 2 * N)
    # Twice the rows may at most double the linear memory; a square would add 768 MiB here.
    assert large - small < 100 * MIB


def test_the_measurement_sees_a_matrix():
    # A matrix of scores takes 256 MiB; the tests above rely on noticing it.
    assert growth("matrix", N) > 250 * MIB
