"""Memory is a property to test: the process may grow by inputs, gradients, a few vectors and the workspace, and no N×N."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

N, D = 32768, 128
MIB = 2**20
MEASURE = f"""
import json, pathlib, sys
import torch, jessl_kernels as jk
problem, rows, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def run(rows):
    torch.manual_seed(0)
    x = torch.randn(rows, {D}, requires_grad=True)
    loss = {{
        "nt_xent": lambda: jk.nt_xent(*x.split(rows // 2)),
        "clip_loss": lambda: jk.clip_loss(x, x.detach().roll(1, 0).requires_grad_(), 5.0, normalize=True),
        "kde_entropy": lambda: jk.kde_entropy(x, bandwidth=0.9),
        "matrix": lambda: (x @ x.T).sum(),
        "strips": lambda: jk.pairwise_logsumexp(x, torch.randn_like(x).requires_grad_(), scale=0.1, reduction="mean"),
        "both": lambda: jk.pairwise_logsumexp(x, torch.randn_like(x).requires_grad_(), dim="both", reduction="mean"),
        "rows": lambda: jk.pairwise_logsumexp(x, scale=0.1).sum(),
    }}[problem]()
    loss.backward()
jk.use_backend(backend).__enter__()
run(256)  # libraries load their buffers before the count begins
def peak():  # not ru_maxrss, which a process inherits from the one that started it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak()
run(rows)
print(json.dumps(peak() - before))
"""


pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc"),
]


def growth(problem: str, rows: int, backend: str = "cpu") -> float:
    """Growth of the peak resident memory of a fresh process, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, problem, str(rows), backend], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout) * 1024


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize("problem", ["nt_xent", "clip_loss", "kde_entropy"])
def test_loss_and_gradient_at_32768_rows_stay_under_400_mib(problem, backend):
    # One matrix of scores would be 4096 MiB.
    assert growth(problem, N, backend) < 400 * MIB


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize(("problem", "tensors"), [("rows", 2), ("strips", 6), ("both", 6)])
def test_reductions_need_16_vectors_and_the_workspace_beyond_inputs_and_gradients(problem, tensors, backend):
    # tensors: inputs and gradients, (N, D) floats each. Gradients made in the forward are kept beside those handed out, so
    # that backward twice gives the same bits. The workspace is 64 MiB.
    allowed = tensors * N * D * 4 + 16 * (N + N) * 4 + 64 * MIB
    assert growth(problem, N, backend) < allowed


def test_memory_grows_with_rows_and_not_with_their_square():
    small, large = growth("rows", N // 4), growth("rows", N // 2)
    # Doubling the rows may at most double what is proportional to them; a square would add 768 MiB here.
    assert large - small < 100 * MIB


def test_the_measurement_sees_a_matrix():
    # 1 GiB of scores, and the test would be worth nothing if it could not tell.
    assert growth("matrix", N // 2) > 1000 * MIB
