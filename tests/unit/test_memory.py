"""Memory is a property to test: the process may grow by inputs, gradients, a few vectors and the workspace, and no N×N."""

import json
import subprocess
import sys

import pytest

N, D = 32768, 128
MIB = 2**20
MEASURE = f"""
import json, resource, sys
import torch, jessl_kernels as jk
problem, rows = sys.argv[1], int(sys.argv[2])
def run(rows, fits):
    torch.manual_seed(0)
    x = torch.randn(rows, {D}, requires_grad=True)
    loss = {{
        "nt_xent": lambda: jk.nt_xent(*x.split(rows // 2)),
        "clip_loss": lambda: jk.clip_loss(x, x.detach().roll(1, 0).requires_grad_(), 5.0, normalize=True),
        "kde_entropy": lambda: jk.kde_entropy(x, bandwidth=0.9),
        "rows": lambda: jk.pairwise_logsumexp(x, scale=0.1).sum(),
    }}[problem]()
    loss.backward()
run(256, None)  # libraries load their buffers before the count begins
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(rows, None)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def growth(problem: str, rows: int) -> float:
    """Growth of the peak resident memory of a fresh process, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, problem, str(rows)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout) * 1024


@pytest.mark.serial
@pytest.mark.parametrize("problem", ["nt_xent", "clip_loss", "kde_entropy"])
def test_loss_and_gradient_at_32768_rows_stay_under_400_mib(problem):
    # One matrix of scores would be 4096 MiB.
    assert growth(problem, N) < 400 * MIB


@pytest.mark.serial
def test_memory_grows_with_rows_and_not_with_their_square():
    small, large = growth("rows", N // 4), growth("rows", N // 2)
    # Doubling the rows may at most double what is proportional to them; a square would add 768 MiB here.
    assert large - small < 100 * MIB
