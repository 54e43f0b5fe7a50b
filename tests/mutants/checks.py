"""What a mutant must pass to survive: sums, gradients and losses on small odd shapes, each against the matrix form in fp64.

Every check is one sweep of `dispatch`, or one loss of `row_loss`. Between them they take every branch of every
kernel, in a program of several tiles and in several programs; `test_mutants.py` sees to it that the kernels themselves pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from jessl_kernels import phi
from jessl_kernels.problem.types import Needs, Terms

from .judged import ALL, EVERY, LSE, NO_COLUMN, PSI, UNBIASED, Form, best, gradients, values, whole
from .problems import PLENTY, Given

UNSCALED = Needs(True, EVERY, False, False, False)
OF_X, OF_Y = Needs(True, NO_COLUMN, False, False, False), Needs(False, EVERY, False, False, False)
SOME_OF_Y = Needs(True, slice(33, 90), True, False, False)
SOME_AND_BIASES = SOME_OF_Y._replace(col_bias=True)
NO_ROWS = Needs(True, EVERY, True, False, True)
NO_COLUMNS = Needs(True, EVERY, True, True, False)
OF_SCALE = Needs(False, NO_COLUMN, True, False, False)
OF_GIVEN = Needs(False, NO_COLUMN, False, True, False)
NONE = Needs(False, NO_COLUMN, False, False, False)
SCANT, SCANT_SUMS = 40_000, 1000  # a few strips of the shapes below; one tile of rows, and one range, at a time
SCANT_STRIPS = 15_000  # strips of a few rows, for values too
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
FUSED = Given(dtype=BF16, shape=(133, 140, 5), workspace=SCANT_SUMS)
ROWS = Given(dtype=BF16, shape=(133, 140, 24), biased=False, scale=5.0)  # of losses
VIEWS = replace(ROWS, shape=(270, 270, 24), symmetric=True, exclude="partners")
LABELS = replace(VIEWS, shape=(203, 203, 24), scale=4.0)
LONG = replace(ROWS, shape=(20, 4700, 5), programs=40)  # more parts of a row than are merged at a time
SYMMETRIC = Given(dtype=BF16, shape=(300, 300, 5), symmetric=True, biased=False, exclude="diagonals")
BLOCK = Given(dtype=BF16, shape=(150, 300, 260), workspace=SCANT, scale=0.03)  # more than a tile each way, and a chunk
APART = Given("sqdist", shape=(21, 75, 3))  # by differences
EXPANDED = Given("sqdist", shape=(21, 140, 18), near=12)  # in fp64 only φ = laplace minds close pairs
STRIP = Given()
CLAMP = phi.clamp(-1.0, 0.9)
FAR = phi.clamp(-3.0, -0.4)  # of distances
OF_POSITIVES = Terms("softplus", (-1.0,))
TWO, TWO_PSI = Terms(tilts=(2.0, 0.5)), Terms("softplus", (-1.0, 0.7))
LINEAR, MANY = Terms(linear=True), Terms("log1m_exp")
BELOW, NEAR_0 = phi.clamp(-8.0, -0.05), phi.clamp(-8.0, -1e-6)  # of log(1 − e^s)
ATTENDED = Form("softplus", positives="given", normalize=False, weighted=True)
LEARNT = replace(ATTENDED, join="none", positives="none")
SUMMED = replace(LEARNT, terms=PSI)
PARTNERS = Form("softplus")
SEVERAL = Form("softplus_spread", of_positives=LINEAR, positives="labels", labels=9, reduction="mean_counted")
INSIDE = replace(SEVERAL, join="softplus_count", reduction="sum")

CHECKS: dict[str, Callable[[], None]] = {
    # those that catch most
    "strip columns": lambda: values(replace(STRIP, exclude="most"), LSE, True),
    "strip gradients": lambda: gradients(replace(STRIP, exclude="same", of=CLAMP), LSE, "both"),
    "fused attention": lambda: whole(replace(FUSED, exclude="different"), ATTENDED),
    "near gradients": lambda: gradients(replace(APART, of=phi.LAPLACE, exclude="same"), LSE, "both"),
    "expanded gradients": lambda: gradients(replace(EXPANDED, exclude="same", of=phi.LAPLACE), LSE, "both"),
    "strip softplus": lambda: values(replace(STRIP, exclude="different", scale=3.0), PSI, True),
    "strip gradients of log1m_exp": lambda: gradients(
        replace(STRIP, of=BELOW, biased=False, exclude="same", scale=2.0), MANY, "both"
    ),
    "strip log1m_exp": lambda: values(replace(STRIP, of=BELOW, biased=False, exclude="same", scale=2.0), MANY, True),
    "strip log1m_exp, near 0": lambda: values(replace(STRIP, of=NEAR_0, biased=False, scale=2.0), MANY, True),
    "strip log1m_exp, far below": lambda: values(replace(STRIP, of=phi.clamp(-21.0, -20.0), biased=False), MANY, True),
    "strip steps at 0": lambda: values(replace(STRIP, whole=True, biased=False, scale=1.0), Terms("step"), True),
    "strip spreads": lambda: gradients(replace(STRIP, exclude="most"), LINEAR, "both", spread=True),
    "strip gradients of two tilts": lambda: gradients(
        replace(STRIP, exclude="same", workspace=SCANT_STRIPS), TWO, "both"
    ),
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
    "strip at once, softplus": lambda: whole(replace(STRIP, workspace=SCANT, special="empty"), SUMMED, ALL),
    "strip at once, anchored": lambda: whole(replace(STRIP, workspace=SCANT, exclude="same"), ATTENDED, ALL),
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
    "expanded at once": lambda: whole(
        replace(EXPANDED, symmetric=True, exclude="diagonals", workspace=SCANT, of=phi.LAPLACE), LEARNT, ALL
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
    "fused attention, fp16": lambda: whole(replace(FUSED, dtype=FP16, programs=9, exclude="most"), LEARNT),
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
    "fused, as wide as padded": lambda: whole(replace(FUSED, shape=(70, 67, 16)), replace(LEARNT, cols=True), ALL),
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
    "block at once, softplus": lambda: whole(replace(BLOCK, special="empty"), SUMMED, ALL),
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
    # several tilts, spreads, sums of scores
    "strip columns of two tilts": lambda: values(replace(STRIP, exclude="same", programs=9), TWO, True),
    "strip gradients of two tilts, rows": lambda: gradients(replace(STRIP, exclude="most"), TWO, "rows"),
    "strip sums of scores": lambda: values(replace(STRIP, exclude="most", programs=9), LINEAR, True),
    "strip spreads of rows": lambda: gradients(replace(STRIP, exclude="same"), LINEAR, "rows", spread=True),
    "strip softplus of two tilts": lambda: values(replace(STRIP, exclude="most"), TWO_PSI, True),
    "strip gradients of softplus of two tilts": lambda: gradients(replace(STRIP, exclude="most"), TWO_PSI, "both"),
    "strip steps": lambda: values(replace(STRIP, exclude="most"), Terms("step"), True),
    "strip steps of NaN": lambda: values(replace(STRIP, special="empty"), Terms("step"), True),
    "fused columns of two tilts": lambda: values(replace(FUSED, exclude="same", programs=9), TWO, True),
    "fused columns of two tilts, in launches": lambda: values(replace(FUSED, shape=(300, 140, 5)), TWO, True),
    "fused gradients of two tilts": lambda: gradients(replace(FUSED, exclude="same"), TWO, "both"),
    "fused gradients of two tilts, far apart": lambda: gradients(replace(FUSED, spread=(30.0, 0.0)), TWO, "both"),
    "fused gradients of two tilts, rows": lambda: gradients(replace(FUSED, programs=9), TWO, "rows"),
    "fused sums of scores": lambda: values(replace(FUSED, exclude="most", programs=9), LINEAR, True),
    "fused sums of scores, many ranges": lambda: values(
        replace(FUSED, shape=(20, 4700, 5), programs=40, workspace=PLENTY), LINEAR, False
    ),
    "fused spreads": lambda: gradients(replace(FUSED, exclude="most"), LINEAR, "both", spread=True),
    "fused spreads of rows": lambda: gradients(replace(FUSED, exclude="same"), LINEAR, "rows", spread=True),
    "fused softplus of two tilts": lambda: values(replace(FUSED, exclude="same"), TWO_PSI, True),
    "fused log1m_exp": lambda: values(replace(FUSED, of=BELOW, biased=False, exclude="same", scale=2.0), MANY, True),
    "fused gradients of log1m_exp": lambda: gradients(
        replace(FUSED, of=BELOW, biased=False, exclude="same", scale=2.0), MANY, "both"
    ),
    "block gradients of two tilts": lambda: gradients(replace(BLOCK, exclude="same"), TWO, "both"),
    "block spreads": lambda: gradients(replace(BLOCK, exclude="most"), LINEAR, "both", spread=True),
    "near columns of two tilts": lambda: values(APART, TWO, True),
    # whole losses
    "loss of rows": lambda: whole(ROWS, PARTNERS),
    "loss of rows, no norms": lambda: whole(replace(ROWS, scale=0.7), replace(PARTNERS, normalize=False)),
    "loss of rows in ranges, rest": lambda: whole(replace(ROWS, programs=9), Form("difference", rest=30)),
    "loss of rows, many parts": lambda: whole(LONG, replace(PARTNERS, rest=4600)),
    "loss of rows, empty": lambda: whole(replace(ROWS, exclude="all but few", programs=9), PARTNERS),
    "loss of rows, biased": lambda: whole(replace(ROWS, biased=True), PARTNERS, NO_ROWS),
    "loss of rows, clamped": lambda: whole(replace(ROWS, of=phi.clamp(-1.0, 2.0), biased=True), PARTNERS, NO_ROWS),
    "loss of rows, mean": lambda: whole(ROWS, replace(PARTNERS, reduction="mean", weighted=True)),
    "loss of rows alone, biases learnt": lambda: whole(replace(ROWS, biased=True), Form("none", positives="none"), ALL),
    "loss of sums alone, biases learnt": lambda: whole(
        replace(ROWS, biased=True), Form("none", PSI, positives="none"), ALL
    ),
    "loss of one row": lambda: whole(replace(ROWS, shape=(1, 1, 5)), PARTNERS),
    "loss of nothing": lambda: whole(replace(ROWS, special="nothing"), PARTNERS),
    "loss of further partners": lambda: whole(ROWS, replace(PARTNERS, shift=3)),
    "loss of further partners, some columns": lambda: whole(
        replace(ROWS, biased=True, exclude="same"), replace(PARTNERS, shift=137), SOME_OF_Y
    ),
    "loss of rows, alone": lambda: whole(ROWS, Form("none", positives="none", normalize=False)),
    "loss of rows, value": lambda: whole(ROWS, PARTNERS, NONE),
    "loss of rows, few rows a program": lambda: whole(replace(ROWS, shape=(261, 262, 24)), PARTNERS, rows_each=1),
    "loss of an index": lambda: whole(
        replace(ROWS, biased=True), Form("softplus", positives="index", reduction="mean_counted"), NO_ROWS
    ),
    "loss of an index, some columns": lambda: whole(
        replace(ROWS, biased=True, of=phi.clamp(-3.0, 4.0)),
        Form("softplus", positives="index", weighted=True),
        SOME_AND_BIASES,
    ),
    "loss of an index among rows": lambda: whole(
        replace(VIEWS, shape=(140, 140, 24)), Form("difference", positives="index")
    ),
    "loss of an index of sums": lambda: whole(
        replace(ROWS, biased=True), Form("sum", PSI, OF_POSITIVES, positives="index"), NO_COLUMNS
    ),
    "loss of scores that are given": lambda: whole(
        replace(ROWS, biased=True), Form("softplus", positives="given"), ALL
    ),
    "loss of scores that are given, of both sides": lambda: whole(
        replace(ROWS, biased=True), Form("softplus", positives="given", cols=True, weighted=True), ALL
    ),
    "loss of given scores alone": lambda: whole(
        replace(ROWS, biased=True), Form("sum", PSI, OF_POSITIVES, positives="given"), OF_GIVEN
    ),
    "loss of more beside": lambda: whole(ROWS, replace(PARTNERS, also=True)),
    "loss of more beside, by recomputation": lambda: whole(
        replace(ROWS, biased=True, exclude="all but few", programs=9), replace(PARTNERS, also=True, weighted=True), ALL
    ),
    "loss of more beside, in strips": lambda: whole(
        replace(ROWS, dtype=torch.float64, workspace=SCANT), replace(PARTNERS, also=True)
    ),
    "loss of both sides": lambda: whole(replace(ROWS, shape=(133, 133, 24)), replace(PARTNERS, cols=True)),
    "loss of both sides, no norms": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), scale=0.7, programs=9), replace(PARTNERS, cols=True, normalize=False)
    ),
    "loss of both sides, far apart": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True, spread=(8.0, 0.0)), replace(PARTNERS, cols=True)
    ),
    "loss of both sides, columns far apart": lambda: whole(
        replace(ROWS, biased=True, spread=(0.0, 100.0)), Form("none", positives="none", cols=True)
    ),
    "loss of both sides, rows far below": lambda: whole(
        replace(ROWS, shape=(128, 128, 24), biased=True, spread=(-100.0, 0.0)), replace(PARTNERS, cols=True)
    ),
    "loss of both sides, empty": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), exclude="all but few"), replace(PARTNERS, cols=True)
    ),
    "loss of both sides, shifted": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True),
        replace(PARTNERS, cols=True, shift=5, weighted=True, reduction="mean"),
        ALL,
    ),
    "loss of both sides, mean": lambda: whole(
        ROWS, Form("none", positives="none", cols=True, weighted=True, reduction="mean")
    ),
    "loss of both sides of sums": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True), Form("sum", PSI, OF_POSITIVES, cols=True, shift=2), ALL
    ),
    "loss of two views": lambda: whole(VIEWS, replace(PARTNERS, shift=135, rest=135)),
    "loss of two views in one": lambda: whole(VIEWS, Form("difference", shift=135)),
    "loss of two views, no norms": lambda: whole(
        replace(VIEWS, scale=0.7), replace(PARTNERS, shift=135, rest=135, normalize=False)
    ),
    "loss of two views, far apart": lambda: whole(
        replace(VIEWS, scale=60.0, of=phi.clamp(-30.0, 30.0)), replace(PARTNERS, shift=135, rest=135)
    ),
    "loss of two tilts": lambda: whole(VIEWS, Form("tilt_difference", TWO, shift=135, rest=135)),
    "loss of two tilts, of both sides": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True, spread=(4.0, 0.0)),
        Form("tilt_difference", TWO, cols=True, weighted=True),
        ALL,
    ),
    "loss of two tilts of rows": lambda: whole(
        replace(ROWS, exclude="all but few", programs=9), Form("tilt_difference", TWO, weighted=True)
    ),
    "loss of sums": lambda: whole(
        replace(ROWS, biased=True, spread=(-2.0, 0.0)), Form("sum", PSI, OF_POSITIVES, rest=30), NO_COLUMNS
    ),
    "loss of sums, many parts": lambda: whole(replace(LONG, scale=1.0), Form("none", PSI, positives="none")),
    "loss of sums, alone": lambda: whole(replace(ROWS, programs=9), Form("none", PSI, positives="none")),
    "loss of weighted sums": lambda: whole(ROWS, Form("none", PSI._replace(tilts=(-0.5,)), weighted=True)),
    "loss of fp16": lambda: whole(replace(ROWS, dtype=FP16), PARTNERS),
    "loss of fp16, of both sides": lambda: whole(
        replace(ROWS, dtype=FP16, shape=(133, 133, 24)), replace(PARTNERS, cols=True)
    ),
    "loss of fp64": lambda: whole(replace(ROWS, dtype=torch.float64), PARTNERS),
    "loss of fp64, sums": lambda: whole(
        replace(ROWS, dtype=torch.float64, biased=True), Form("sum", PSI, OF_POSITIVES), NO_COLUMNS
    ),
    "loss of fp64, log1m_exp": lambda: whole(
        replace(ROWS, dtype=torch.float64, of=BELOW), Form("difference", MANY, Terms("log1m_exp"), normalize=False)
    ),
    "loss of wide rows": lambda: whole(replace(ROWS, shape=(9, 12, 1030)), PARTNERS, UNSCALED),
    "loss in blocks": lambda: whole(replace(BLOCK, scale=5.0), replace(PARTNERS, shift=4), NO_ROWS),
    "loss of distances": lambda: whole(
        replace(APART, shape=(75, 75, 3)), replace(PARTNERS, normalize=False, cols=True, shift=3), ALL
    ),
    "loss of distances, an index": lambda: whole(
        replace(APART, of=phi.LAPLACE, exclude="partners"),
        Form("softplus", positives="index", normalize=False),
        SOME_OF_Y,
    ),
    "loss of distances, two views": lambda: whole(
        replace(APART, shape=(76, 76, 3), symmetric=True, biased=False, exclude="partners"),
        replace(PARTNERS, normalize=False, shift=38, rest=38),
    ),
    "labels, mean outside": lambda: whole(LABELS, SEVERAL),
    "labels, mean inside": lambda: whole(LABELS, INSIDE),
    "labels, in ranges": lambda: whole(replace(LABELS, programs=9), replace(SEVERAL, labels=30)),
    "labels of pairs": lambda: whole(replace(LABELS, scale=9.0), replace(SEVERAL, labels=120)),
    "labels of all": lambda: whole(replace(LABELS, shape=(70, 70, 24)), replace(SEVERAL, labels=1)),
    "labels, of x": lambda: whole(LABELS, replace(INSIDE, reduction="mean_counted"), OF_X),
    "labels, of the scale": lambda: whole(LABELS, SEVERAL, OF_SCALE),
    "labels, few rows a program": lambda: whole(replace(LABELS, shape=(261, 261, 24)), SEVERAL, rows_each=1),
    "labels, many parts": lambda: whole(replace(LABELS, shape=(390, 390, 5), programs=60), replace(SEVERAL, labels=2)),
    "labels of twins": lambda: whole(replace(LABELS, scale=60.0), replace(SEVERAL, positives="twins")),
    "labels, far apart": lambda: whole(replace(LABELS, scale=1500.0), SEVERAL),
    "labels of two batches": lambda: whole(
        replace(ROWS, biased=True, exclude="partners"), replace(SEVERAL, weighted=True), NO_ROWS
    ),
    "labels of two batches, both sides": lambda: whole(
        replace(ROWS, biased=True), replace(SEVERAL, weighted=True, cols=True, reduction="sum"), ALL
    ),
    "labels, some kept": lambda: whole(replace(ROWS, exclude="same"), SEVERAL, SOME_OF_Y),
    "labels of sums": lambda: whole(
        ROWS, Form("sum", PSI, OF_POSITIVES._replace(linear=True), positives="labels", labels=9)
    ),
    "labels in blocks": lambda: whole(replace(LABELS, shape=(150, 150, 260)), SEVERAL),
    "labels in fp64": lambda: whole(replace(LABELS, dtype=torch.float64), SEVERAL),
}
