"""The cost model: what it counts of our kernels is what we claim of them, and what it makes of it can be said by hand."""

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from benchmarks.static_gpu.claims import passes
from benchmarks.static_gpu.compiled import Compiled
from benchmarks.static_gpu.contenders import Contender, ours
from benchmarks.static_gpu.devices import DEVICES
from benchmarks.static_gpu.model import bound, busy, executed, figure
from benchmarks.static_gpu.occupancy import programs
from benchmarks.static_gpu.work import Step, per_pair, total

BY_NAME = {device.name: device for device in DEVICES}
H100, MI300X = BY_NAME["H100"], BY_NAME["MI300X"]


@pytest.mark.parametrize(
    ("loss", "D", "products", "sweeps"),
    [
        ("InfoNCE", 128, 4, 2),
        ("CLIP", 128, 5, 3),
        ("NT-Xent", 128, 3, 2),
        ("InfoNCE", 512, 4, 2),
        ("CLIP", 512, 4, 2),
        ("NT-Xent", 512, 3, 2),
        ("SigLIP", 128, 4, 2),
        ("SigLIP", 512, 3, 1),
        ("KDE entropy", 2, 0, 2),
    ],
)
def test_losses_cost_the_claimed_products_and_one_exponential_a_sweep(loss, D, products, sweeps):
    contender = ours(loss, D)
    N = 128 // contender.rows
    work = executed(contender, H100, N)
    step, scores = total(work), 128**2
    assert sum(step.flops.values()) == products * 2 * scores * D
    assert set(step.flops) <= {"bf16"}
    assert sum(passes(figure_of(contender), name) for name in work) == sweeps
    # Besides, a row of a tile takes one or two.
    assert sweeps <= step.exponentials / scores <= 1.2 * sweeps
    assert step.atomics == 0


def figure_of(contender: Contender):
    def absent(N, parts):
        raise ImportError("not installed")

    return figure(Contender(contender.who, contender.loss, contender.D, absent), H100, {})


def test_who_is_not_installed_keeps_a_row_that_says_so():
    assert figure_of(ours("CLIP", 128)).missing == "not installed"


@pytest.mark.parametrize("device", [H100, MI300X], ids=["H100", "MI300X"])
def test_products_with_weights_are_of_half_precision(device):
    assert total(executed(ours("SigLIP", 128), device, 128)).flops == {"bf16": 4 * 2 * 128**3}


def test_half_of_the_blocks_of_a_symmetric_problem_are_made():
    parts, D, N = 3, 512, 3 * 128
    contender = ours("NT-Xent", D)
    work = executed(contender, H100, N // 2, parts)
    # Of 9 blocks 3 on the diagonal, pulled one way, and 3 right of it, pulled both ways; sums take all 9 tiles.
    assert sum(total(work).flops.values()) == (3 * 2 + 3 * 3 + 9) / 9 * 2 * N**2 * D


def test_work_is_that_of_as_many_rows():
    def at(N):
        return {"kernel": Step({"bf16": 3.0 * N**2 + 8 * N}, loaded=4.0 * N)}

    assert per_pair(at(64), at(128), 64, 4) == {"kernel": Step({"bf16": 5.0}, loaded=1.0)}


def test_a_step_takes_as_long_as_its_busiest_resource():
    product, exponential = Step({"bf16": 989.4e12}), Step(exponentials=2 * H100.special, loaded=H100.l2)
    assert busy(exponential, H100)["special functions"] == pytest.approx(2)
    assert bound({"product": product, "exponential": exponential}, H100) == (pytest.approx(3), "special functions")


@pytest.mark.parametrize(
    ("device", "registers", "shared", "warps", "expected"),
    [
        (H100, 128, 0, 4, 4),  # 65,536 registers
        (H100, 32, 100 << 10, 4, 2),  # 228 KiB
        (H100, 32, 0, 8, 8),  # 64 warps
        (H100, 32, 240_000, 4, 0),
        (MI300X, 256, 0, 4, 2),  # 512 registers of a lane
        (MI300X, 64, 40 << 10, 4, 1),  # 64 KiB
    ],
)
def test_programs_on_a_multiprocessor(device, registers, shared, warps, expected):
    kernel = Compiled("kernel", device.target, "", {"num_warps": warps}, "", shared, registers, 0)
    assert programs(kernel, device) == expected
