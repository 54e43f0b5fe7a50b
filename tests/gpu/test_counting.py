"""What a loss costs on a GPU, counted: the products and exponentials that the documents state, and the time they imply."""

import csv
import math
from collections.abc import Callable
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from torch import Tensor

import jessl_kernels as jk
from jessl_kernels.backends import WORKSPACE
from jessl_kernels.triton import launch
from tests.gpu.counting import Step, Work, counting, pretended, total
from tests.gpu.modelled import RESULTS, measured_rates, modelled_seconds

TEMPERATURE = 0.07
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce": lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE, normalize=False),
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 1 / TEMPERATURE),
    "nt_xent": lambda x, y: jk.nt_xent(*x.chunk(2), temperature=TEMPERATURE, normalize=False),
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, torch.tensor(14.0, requires_grad=True), torch.tensor(-10.0)),
    "kde_entropy": lambda x, y: jk.kde_entropy(x.detach().float().requires_grad_(), bandwidth=1.0),
}
SWEEPS = ("row_sums", "pull", "score_grad_block")


def executed(loss: str, N: int, D: int, *, parts: int = 1, hopper: bool = True) -> Work:
    """The work of value and gradients of a loss of N rows, its scores in so many blocks each way where they go through memory."""
    workspace = 2 * (N // parts) ** 2 if D > 256 else WORKSPACE  # one block of weights in bf16
    drawn = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0))
    x, y = (t.requires_grad_() for t in torch.nn.functional.normalize(drawn, dim=2).bfloat16())
    # Columns stay in one range, as with many rows, where row tiles alone fill the device.
    one_range = mock.patch.object(launch, "PROGRAMS_EACH", 0)
    with pretended(hopper=hopper), counting() as work, one_range, jk.use_backend("triton", workspace=workspace):
        LOSSES[loss](x, y).backward()
    return dict(work)


@pytest.mark.parametrize(
    ("loss", "D", "products", "sweeps"),
    [
        ("info_nce", 128, 4, 2),
        ("clip_loss", 128, 5, 3),
        ("nt_xent", 128, 3, 2),
        ("siglip_loss", 128, 4, 2),
        ("info_nce", 512, 4, 2),
        ("clip_loss", 512, 4, 2),
        ("nt_xent", 512, 3, 2),
        ("siglip_loss", 512, 3, 1),
        ("kde_entropy", 2, 0, 2),
    ],
)
def test_losses_cost_the_stated_products_and_one_exponential_a_sweep(loss, D, products, sweeps):
    N = 128
    step = total(executed(loss, N, D))
    assert step.flops == ({"bf16": products * 2 * N**2 * D} if products else {})
    # A row of a tile takes one or two exponentials more.
    assert sweeps <= step.exponentials / N**2 <= 1.2 * sweeps


def test_weights_meet_products_in_half_precision_on_every_gpu():
    assert total(executed("siglip_loss", 128, 128, hopper=False)).flops == {"bf16": 4 * 2 * 128**3}


def test_half_of_the_blocks_of_a_symmetric_problem_are_made():
    parts, D, N = 3, 512, 3 * 128
    work = executed("nt_xent", N, D, parts=parts)
    # Of 9 blocks 3 on the diagonal are pulled one way and 3 right of it both ways; sums take all 9 tiles.
    assert total(work).flops["bf16"] == (3 * 2 + 3 * 3 + 9) / 9 * 2 * N**2 * D


def test_no_kernel_of_a_fused_loss_moves_a_matrix():
    work = executed("info_nce", 256, 128)
    embeddings = 2 * 256 * 128 * 2  # bytes
    for name in SWEEPS[:2]:
        assert 0 < work[name].memory < 4 * embeddings, name
    assert total(work).launches < 30


def test_each_step_takes_as_long_as_its_busiest_resource():
    rates = {"bf16": 100.0, "memory": 10.0, "launch": 1.0}
    product, copy = Step({"bf16": 300.0}, memory=10.0, launches=1), Step(memory=40.0, launches=2)
    assert modelled_seconds({"product": product, "copy": copy}, rates) == 3.0 + 4.0
    assert modelled_seconds({"product": product, "copy": copy}, {"launch": 1.0}) == 1.0 + 2.0


@pytest.mark.parametrize("loss", ["info_nce", "clip_loss", "nt_xent", "siglip_loss"])
def test_no_measured_time_is_below_the_modelled_one(loss):
    """The report's kernels made the same products; a wrong unit of a rate would show."""
    with RESULTS.open() as file:
        rows = [row for row in csv.DictReader(file) if (row["problem"], row["contender"]) == (loss, "ours")]
    times = {int(row["N"]): float(row["seconds"]) for row in rows if (row["D"], row["dtype"]) == ("128", "bfloat16")}
    assert max(times) >= 65_536
    work = executed(loss, 256, 128)
    for N, seconds in times.items():
        pairs = {
            name: Step({unit: f * (N / 256) ** 2 for unit, f in step.flops.items()}) for name, step in work.items()
        }
        modelled = modelled_seconds(pairs, measured_rates())
        assert math.isfinite(seconds) and 0 < modelled < seconds, (N, modelled, seconds)
