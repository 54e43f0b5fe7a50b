"""Errors of row_loss and row_sums beyond those of every function."""

import pytest
import torch

import jessl_kernels as jk


@pytest.mark.parametrize("wrong", [9, -2, 10**6])
def test_an_index_of_a_positive_that_is_no_column(wrong):
    x = torch.eye(9)
    with pytest.raises(
        ValueError, match=r"^row_loss: positives is an index from .*, must hold columns, below 9, or -1"
    ):
        jk.row_loss(x, x, join="softplus", positives=torch.tensor([0] * 8 + [wrong]))


def test_what_counts_no_positives_has_no_mean_over_those_that_have_some():
    with pytest.raises(ValueError, match=r"^row_loss: reduction is 'mean_counted', must be another with join=.none."):
        jk.row_loss(torch.eye(3), join="none", reduction="mean_counted")
    with pytest.raises(ValueError, match=r"^row_loss: tilts is .*, must be > 0 and finite"):
        jk.row_loss(torch.eye(3), join="none", tilts=(float("inf"),))


def test_sums_print_as_a_line_and_merge_with_sums_alone():
    sums = jk.row_sums(torch.eye(3), torch.eye(4, 3))
    assert repr(sums.merge(sums)) == "SumsOfRows(3 rows, 2 blocks of keys)"
    with pytest.raises(TypeError, match=r"^merge: others is a int, 3, must be what row_sums returned"):
        sums.merge(3)
