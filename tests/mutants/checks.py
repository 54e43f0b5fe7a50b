"""What a mutant must pass to survive: reductions, and losses, on small odd shapes, each against the matrix form in fp64.

Every check is one call of `dispatch`, of `losses.paired` or of `sup_con.labelled`. Between them they take every branch of every
kernel, in a program of several tiles and in several programs; `test_mutants.py` sees to it that the kernels themselves pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from jessl_kernels import phi
from jessl_kernels.problem.types import Needs

from .judged import ALL, UNBIASED, at_once, best, by_labels, gradients, values, whole
from .problems import PLENTY, Given

UNSCALED = Needs(True, True, False, False, False)
OF_X, OF_Y = Needs(True, False, False, False, False), Needs(False, True, False, False, False)
NO_ROWS = Needs(True, True, True, False, True)
NO_COLUMNS = Needs(True, True, True, True, False)
OF_SCALE = Needs(False, False, True, False, False)
NONE = Needs(False, False, False, False, False)
SCANT, SCANT_SUMS = 40_000, 1000  # a few strips of the shapes below; one tile of rows, and one range, at a time
SCANT_STRIPS = 15_000  # strips of a few rows, for values too
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
FUSED = Given(dtype=BF16, shape=(133, 140, 5), workspace=SCANT_SUMS)
ROWS = Given(dtype=BF16, shape=(133, 140, 24), biased=False, exclude="partners", scale=5.0)  # of losses
VIEWS = replace(ROWS, shape=(270, 270, 24), symmetric=True, exclude="diagonals")
LABELS = replace(VIEWS, shape=(203, 203, 24), exclude="nothing", scale=4.0)
LONG = replace(ROWS, shape=(20, 4700, 5), programs=40)  # more parts of a row than are merged at a time
SYMMETRIC = Given(dtype=BF16, shape=(300, 300, 5), symmetric=True, biased=False, exclude="diagonals")
BLOCK = Given(dtype=BF16, shape=(150, 300, 260), workspace=SCANT, scale=0.03)  # more than a tile each way, and a chunk
APART = Given("sqdist", shape=(21, 75, 3))  # by differences
EXPANDED = Given("sqdist", shape=(21, 140, 18), near=12)  # in fp64 only φ = laplace minds close pairs
STRIP = Given()
CLAMP = phi.clamp(-1.0, 0.9)
FAR = phi.clamp(-3.0, -0.4)  # of distances
LSE, PSI = "logsumexp", "softplus"

CHECKS: dict[str, Callable[[], None]] = {
    # those that catch most
    "strip columns": lambda: values(replace(STRIP, exclude="most"), LSE, True),
    "strip gradients": lambda: gradients(replace(STRIP, exclude="same", of=CLAMP), LSE, "both"),
    "fused attention": lambda: at_once(replace(FUSED, exclude="different"), LSE, "rows", anchored=True),
    "near gradients": lambda: gradients(replace(APART, of=phi.LAPLACE, exclude="same"), LSE, "both"),
    "expanded gradients": lambda: gradients(replace(EXPANDED, exclude="same", of=phi.LAPLACE), LSE, "both"),
    "strip softplus": lambda: values(replace(STRIP, exclude="different", scale=3.0), PSI, True),
    # strips of products
    "strip top-k": lambda: best(replace(STRIP, exclude="same", of=CLAMP, workspace=SCANT)),
    "strip rows": lambda: values(replace(STRIP, exclude="diagonals", programs=9, workspace=SCANT), LSE, False),
    "strip columns, far apart": lambda: values(replace(STRIP, spread=(30.0, 30.0), programs=9), LSE, True),
    "strip rows, far apart": lambda: values(replace(STRIP, spread=(400.0, 400.0)), LSE, False),
    "strip rows, far below": lambda: values(replace(STRIP, spread=(-400.0, 0.0)), LSE, True),
    "strip columns, far below": lambda: values(replace(STRIP, spread=(0.0, -400.0)), LSE, True),
    "strip columns, far below and empty": lambda: values(
        replace(STRIP, spread=(0.0, -400.0), exclude="most"), LSE, True
    ),
    "strip gradients, columns far below": lambda: gradients(replace(STRIP, spread=(0.0, -400.0)), LSE, "both"),
    "strip columns, empty tiles": lambda: values(replace(STRIP, exclude="blocks"), LSE, True),
    "strip infinite rows": lambda: values(replace(STRIP, special="infinite"), LSE, False),
    "strip infinite rows and columns": lambda: values(replace(STRIP, special="infinite"), LSE, True),
    "strip gradients, empty": lambda: gradients(replace(STRIP, exclude="most"), LSE, "both"),
    "strip infinite rows, not in all columns": lambda: values(
        replace(STRIP, special="infinite", exclude="diagonals", spread=(400.0, 0.0)), LSE, True
    ),
    "strip special values": lambda: values(replace(STRIP, special="empty"), LSE, True),
    "strip gradients, far apart": lambda: gradients(replace(STRIP, spread=(30.0, 30.0)), LSE, "both"),
    "strip gradients of rows": lambda: gradients(replace(STRIP, exclude="most", programs=9), LSE, "rows"),
    "strip gradients of softplus": lambda: gradients(replace(STRIP, of=CLAMP), PSI, "both"),
    "strip at once, softplus": lambda: at_once(replace(STRIP, workspace=SCANT, special="empty"), PSI, "rows"),
    "strip at once, anchored": lambda: at_once(
        replace(STRIP, workspace=SCANT, exclude="same"), LSE, "rows", anchored=True
    ),
    "strip gradients but of row biases": lambda: gradients(STRIP, LSE, "both", NO_ROWS),
    "strip gradients but of column biases": lambda: gradients(STRIP, LSE, "both", NO_COLUMNS),
    "strip sums, many ranges": lambda: values(replace(STRIP, shape=(3, 2300, 2), programs=20), LSE, True),
    "strip columns, in strips and ranges": lambda: values(
        replace(STRIP, programs=9, workspace=SCANT_STRIPS), LSE, True
    ),
    "strip gradients, in strips and ranges": lambda: gradients(
        replace(STRIP, programs=9, workspace=SCANT_STRIPS), LSE, "both"
    ),
    # strips of distances
    "expanded gradients, in strips and ranges": lambda: gradients(
        replace(EXPANDED, of=phi.LAPLACE, near=21, programs=9, workspace=SCANT_STRIPS), LSE, "both"
    ),
    "expanded rows": lambda: values(replace(EXPANDED, of=phi.LAPLACE), LSE, True),
    "expanded gradients, fp32": lambda: gradients(replace(EXPANDED, dtype=FP32, programs=9), LSE, "both"),
    "expanded gradients of x": lambda: gradients(EXPANDED, LSE, "both", OF_X),
    "expanded gradients of y": lambda: gradients(EXPANDED, LSE, "both", OF_Y),
    "expanded gradients, clamp": lambda: gradients(
        replace(EXPANDED, of=phi.clamp(-3.0, -1e-5), scale=0.1), PSI, "rows"
    ),
    "expanded at once": lambda: at_once(
        replace(EXPANDED, symmetric=True, exclude="diagonals", workspace=SCANT, of=phi.LAPLACE), LSE, "rows"
    ),
    "expanded, no padding": lambda: values(replace(EXPANDED, shape=(21, 144, 18)), LSE, True),
    "expanded, clusters": lambda: values(
        replace(EXPANDED, near=0, clustered=True, exclude="blocks", of=phi.LAPLACE), LSE, False
    ),
    "expanded gradients, a NaN": lambda: gradients(replace(EXPANDED, special="point", of=FAR, scale=0.1), PSI, "both"),
    "expanded gradients, at the limit": lambda: gradients(
        replace(EXPANDED, of=phi.LAPLACE, whole=True, near=0), LSE, "both"
    ),
    "strip gradients, at the bounds": lambda: gradients(
        replace(STRIP, of=phi.clamp(-1.0, 1.0), whole=True, scale=0.5), LSE, "both"
    ),
    # fused products
    "fused columns": lambda: values(replace(FUSED, exclude="same"), LSE, True),
    "fused, symmetric": lambda: values(SYMMETRIC, LSE, True),
    "fused, symmetric, in ranges": lambda: values(replace(SYMMETRIC, programs=9), LSE, False),
    "fused columns, far apart": lambda: values(replace(FUSED, spread=(12.0, 12.0), programs=9), LSE, True),
    "fused attention, fp16": lambda: at_once(replace(FUSED, dtype=FP16, programs=9, exclude="most"), LSE, "rows"),
    "fused gradients": lambda: gradients(replace(FUSED, of=CLAMP), LSE, "both"),
    "fused gradients, far apart": lambda: gradients(replace(FUSED, spread=(12.0, 12.0), programs=9), LSE, "both"),
    "fused gradients, rows far apart": lambda: gradients(replace(FUSED, spread=(30.0, 0.0)), LSE, "both"),
    "fused gradients, columns far apart": lambda: gradients(replace(FUSED, spread=(0.0, 30.0)), LSE, "both"),
    "fused gradients of softplus": lambda: gradients(replace(FUSED, of=CLAMP, special="empty"), PSI, "both"),
    "fused columns, empty": lambda: values(replace(FUSED, exclude="most"), LSE, True),
    "fused columns, rows far below": lambda: values(replace(FUSED, spread=(-400.0, 0.0)), LSE, True),
    "fused columns, columns far below": lambda: values(replace(FUSED, spread=(0.0, -400.0)), LSE, True),
    "fused softplus of columns": lambda: values(replace(FUSED, exclude="same", programs=9), PSI, True),
    "fused softplus, far below": lambda: values(replace(FUSED, of=phi.clamp(-21.0, -20.0), biased=False), PSI, False),
    "fused gradients, very far apart": lambda: gradients(replace(FUSED, spread=(100.0, 0.0)), LSE, "both"),
    "fused infinite rows, not in all columns": lambda: values(
        replace(FUSED, special="infinite", exclude="diagonals", spread=(40.0, 0.0)), LSE, True
    ),
    "fused infinite rows and columns": lambda: values(replace(FUSED, special="infinite"), LSE, True),
    "fused gradients, fp16": lambda: gradients(replace(FUSED, dtype=FP16), LSE, "rows"),
    "fused, as wide as padded": lambda: at_once(replace(FUSED, shape=(70, 67, 16)), LSE, "both"),
    # blocks of U, and sums of more dimensions than stay on the chip
    "wide columns": lambda: values(replace(BLOCK, exclude="same"), LSE, True),
    "wide, symmetric": lambda: values(replace(SYMMETRIC, shape=(300, 300, 260)), LSE, True),
    "symmetric softplus": lambda: values(SYMMETRIC, PSI, True),
    "block gradients": lambda: gradients(replace(BLOCK, exclude="different", of=CLAMP), LSE, "both"),
    "block of many tiles": lambda: gradients(replace(BLOCK, shape=(300, 150, 260), workspace=PLENTY), PSI, "both"),
    "blocks of many tiles": lambda: gradients(
        replace(BLOCK, shape=(300, 400, 260), workspace=140_000, of=CLAMP), LSE, "both"
    ),
    "block gradients of rows": lambda: gradients(replace(BLOCK, exclude="most"), LSE, "rows"),
    "block gradients, symmetric": lambda: gradients(
        replace(SYMMETRIC, shape=(300, 300, 260), workspace=SCANT), LSE, "both", UNBIASED
    ),
    "block gradients but of row biases": lambda: gradients(BLOCK, LSE, "both", NO_ROWS),
    "block gradients but of column biases": lambda: gradients(BLOCK, LSE, "both", NO_COLUMNS),
    "block at once, softplus": lambda: at_once(replace(BLOCK, special="empty"), PSI, "rows"),
    "block gradients of softplus, fp16": lambda: gradients(replace(BLOCK, dtype=FP16, exclude="same"), PSI, "both"),
    # distances by differences
    "near columns": lambda: values(replace(APART, dtype=FP32, programs=9), LSE, True),
    "near columns, half precision": lambda: values(replace(APART, dtype=BF16), LSE, True),
    "near softplus": lambda: values(replace(APART, of=FAR, special="empty"), PSI, True),
    "near softplus of columns": lambda: values(replace(APART, of=FAR), PSI, True),
    "near gradients of softplus, rows": lambda: gradients(replace(APART, of=FAR), PSI, "rows"),
    "near gradients, of NaN": lambda: gradients(replace(APART, of=FAR, special="point"), PSI, "rows"),
    "near gradients of rows": lambda: gradients(replace(APART, exclude="most", workspace=SCANT_SUMS), LSE, "rows"),
    "near gradients of softplus": lambda: gradients(replace(APART, of=FAR, programs=9), PSI, "both"),
    # whole losses
    "loss of rows": lambda: whole(ROWS, "anchor"),
    "loss of rows, no norms": lambda: whole(replace(ROWS, scale=0.7), "anchor", normalize=False),
    "loss of rows in ranges, rest": lambda: whole(replace(ROWS, programs=9), "minus", rest=30),
    "loss of rows, many parts": lambda: whole(LONG, "anchor", rest=4600),
    "loss of rows, empty": lambda: whole(replace(ROWS, exclude="all but few", programs=9), "anchor"),
    "loss of rows, biased": lambda: whole(replace(ROWS, biased=True), "anchor"),
    "loss of rows alone, biases learnt": lambda: whole(replace(ROWS, biased=True), "none", needs=ALL),
    "loss of sums alone, biases learnt": lambda: whole(replace(ROWS, biased=True), "none", op=PSI, needs=ALL),
    "loss of one row": lambda: whole(replace(ROWS, shape=(1, 1, 5)), "anchor"),
    "loss of nothing": lambda: whole(replace(ROWS, special="nothing"), "anchor"),
    "loss of further partners": lambda: whole(replace(ROWS, exclude="further partners"), "anchor", shift=3),
    "loss of rows, alone": lambda: whole(replace(ROWS, exclude="nothing"), "none", normalize=False),
    "loss of rows, value": lambda: whole(ROWS, "anchor", needs=NONE),
    "loss of rows, few rows a program": lambda: whole(replace(ROWS, shape=(261, 262, 24)), "anchor", rows_each=1),
    "loss of both sides": lambda: whole(replace(ROWS, shape=(133, 133, 24)), "anchor", cols=True),
    "loss of both sides, no norms": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), scale=0.7, programs=9), "anchor", cols=True, normalize=False
    ),
    "loss of both sides, far apart": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True, spread=(8.0, 0.0)), "anchor", cols=True
    ),
    "loss of both sides, columns far apart": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True, spread=(0.0, 100.0)), "none", cols=True
    ),
    "loss of both sides, rows far below": lambda: whole(
        replace(ROWS, shape=(128, 128, 24), biased=True, spread=(-100.0, 0.0)), "anchor", cols=True
    ),
    "loss of both sides, empty": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), exclude="all but few"), "anchor", cols=True
    ),
    "loss of two views": lambda: whole(VIEWS, "anchor", shift=135, rest=135),
    "loss of two views in one": lambda: whole(VIEWS, "minus", shift=135),
    "loss of two views, no norms": lambda: whole(
        replace(VIEWS, scale=0.7), "anchor", shift=135, rest=135, normalize=False
    ),
    "loss of sums": lambda: whole(
        replace(ROWS, biased=True, spread=(-2.0, 0.0)), "softplus", op=PSI, needs=NO_COLUMNS, rest=30
    ),
    "loss of sums, many parts": lambda: whole(replace(LONG, scale=1.0), "none", op=PSI),
    "loss of sums, alone": lambda: whole(replace(ROWS, programs=9), "none", op=PSI),
    "loss of fp16": lambda: whole(replace(ROWS, dtype=FP16), "anchor"),
    "loss of fp64": lambda: whole(replace(ROWS, dtype=torch.float64), "anchor"),
    "loss of fp64, sums": lambda: whole(
        replace(ROWS, dtype=torch.float64, biased=True), "softplus", op=PSI, needs=NO_COLUMNS
    ),
    "labels, mean outside": lambda: by_labels(LABELS, "out", 9),
    "labels, mean inside": lambda: by_labels(LABELS, "in", 9, per_counted=False),
    "labels, in ranges": lambda: by_labels(replace(LABELS, programs=9), "out", 30),
    "labels of pairs": lambda: by_labels(replace(LABELS, scale=9.0), "out", 120),
    "labels of all": lambda: by_labels(replace(LABELS, shape=(70, 70, 24)), "out", 1),
    "labels, of x": lambda: by_labels(LABELS, "in", 9, needs=OF_X),
    "labels, of the scale": lambda: by_labels(LABELS, "out", 9, needs=OF_SCALE),
    "labels, few rows a program": lambda: by_labels(replace(LABELS, shape=(261, 261, 24)), "out", 9, rows_each=1),
    "labels, many parts": lambda: by_labels(replace(LABELS, shape=(390, 390, 5), programs=60), "out", 2),
    "labels of twins": lambda: by_labels(replace(LABELS, scale=60.0), "out", 0),
    "labels, far apart": lambda: by_labels(replace(LABELS, scale=1500.0), "out", 9),
    "loss of wide rows": lambda: whole(replace(ROWS, shape=(9, 12, 1030)), "anchor", needs=UNSCALED),
}
