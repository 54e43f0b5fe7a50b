"""The executor reports faults that a GPU forgives: each fault planted in a small kernel must stop its test."""

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

import triton
import triton.language as tl
from ttsem.sanitize import KernelFault

from tests import executor


@pytest.fixture(autouse=True)
def _gpu_in_place():
    with executor.gpu():
        yield


@triton.jit
def copied(source, target, read, written, BLOCK: tl.constexpr):
    """One program copies elements from source to target, as many as the arguments say."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(source + i, mask=i < read, other=0.0), mask=i < written)


@triton.jit
def copied_from_before(source, target, back, BLOCK: tl.constexpr):
    """Copy from some elements before the source."""
    i = tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(source - back + i))


@triton.jit
def one_place(target, BLOCK: tl.constexpr):
    """Every program stores its number to the first element."""
    tl.store(target, tl.program_id(0).to(tl.float32))


@triton.jit
def handed_on(target, BLOCK: tl.constexpr):
    """Each program reads what the one before it wrote."""
    i = tl.program_id(0)
    tl.store(target + i + 1, tl.load(target + i) + 1.0)


@triton.jit
def added_to(target, count, BLOCK: tl.constexpr):
    """Add to an output as if it had been zeroed."""
    i = tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(target + i, mask=i < count) + 1.0, mask=i < count)


@triton.jit
def gaps(target, count, BLOCK: tl.constexpr):
    """Write every element but the last."""
    i = tl.arange(0, BLOCK)
    tl.store(target + i, i.to(tl.float32), mask=i < count - 1)


@triton.jit
def added_up(source, target, count, BLOCK: tl.constexpr):
    """A sum that assumes 0 in lanes beyond the end."""
    i = tl.arange(0, BLOCK)
    tl.store(target, tl.sum(tl.load(source + i, mask=i < count)))


def test_a_kernel_within_its_bounds_passes():
    source, target = torch.arange(37.0), torch.empty(37)
    copied[(3,)](source, target, 37, 37, BLOCK=16)
    assert torch.equal(target, source)


@pytest.mark.parametrize(
    ("read", "written", "what", "buffer"), [(38, 37, "reads", "source"), (37, 38, "writes", "target")]
)
def test_one_element_past_the_end_is_an_error_that_says_where(read, written, what, buffer):
    source, target = torch.arange(37.0), torch.empty(37)
    with pytest.raises(KernelFault, match=rf"{what} 1 element\(s\) past the end of the tensor passed as `{buffer}`"):
        copied[(3,)](source, target, read, written, BLOCK=16)


def test_one_element_before_the_start_is_an_error():
    with pytest.raises(KernelFault, match=r"reads 1 element\(s\) before the start"):
        copied_from_before[(1,)](torch.arange(16.0), torch.empty(16), 1, BLOCK=16)


def test_two_programs_that_write_one_place_are_a_race():
    with pytest.raises(KernelFault, match=r"program instances .* both touch element 0 of `target`"):
        one_place[(2,)](torch.empty(1), BLOCK=1)


def test_a_program_that_reads_what_another_writes_is_a_race():
    """In the executor's order of programs the values would be right."""
    with pytest.raises(KernelFault, match=r"program instances .* both touch"):
        handed_on[(3,)](torch.zeros(4), BLOCK=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_what_a_mask_keeps_from_being_loaded_may_be_anything(dtype):
    source, target = torch.ones(13, dtype=dtype), torch.zeros(1)
    added_up[(1,)](source, target, 13, BLOCK=16)
    assert target.item() != 13


def test_output_that_is_read_before_it_is_written_is_nan():
    target = torch.empty(16)
    added_to[(1,)](target, 16, BLOCK=16)
    assert target.isnan().all()


def test_output_that_is_never_written_is_nan():
    target = torch.zeros(4).new_empty(16)
    gaps[(1,)](target, 16, BLOCK=16)
    assert target.isnan().tolist() == [False] * 15 + [True]
