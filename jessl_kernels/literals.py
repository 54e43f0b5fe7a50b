"""The words that users pass, each list once: as a `Literal` for type checkers, and as a tuple for the checks at run time.

The tables that give a word its meaning (`JOINS`, `PSIS`, `PHIS`, `BACKENDS`, …) stand with what they mean, and
`tests/unit/test_literals.py` holds their keys against these lists.
"""

from __future__ import annotations

from typing import Literal, get_args

BackendName = Literal["cpu", "triton", "cuda", "chunked", "reference"]

Kind = Literal["dot", "sqdist"]
# `jk.phi.clamp` and `jk.phi.student` have no name alone: they have parameters.
PhiName = Literal["identity", "laplace", "tophat", "epanechnikov", "linear", "cosine"]
PsiName = Literal["softplus", "log1m_exp", "step"]
SumName = Literal["logsumexp", PsiName]
JoinName = Literal["none", "softplus", "difference", "sum", "softplus_spread", "softplus_count", "tilt_difference"]
ExcludeWord = Literal["diagonal"]
OneSide = Literal["row", "col"]
Dim = Literal[OneSide, "both"]
LossDim = Literal["row", "both"]

Reduction = Literal["mean", "sum", "none"]
TotalReduction = Literal["none", "sum", "mean", "logsumexp"]
CountedReduction = Literal["mean", "mean_counted", "sum", "none"]

SameId = Literal["mean", "sum", "ignore"]
SameIdOfSigLIP = Literal["sum", "ignore"]  # a mean over positives has no place in a sum of terms
Form = Literal["out", "in"]
NoPositive = Literal["skip", "zero"]
KernelName = Literal["gaussian", "student", "laplace", "tophat", "epanechnikov", "linear", "cosine", "vmf"]
JointKernelName = Literal["gaussian", "student", "vmf"]  # whose marginals are kernels of the same name
ERKernel = Literal["vmf", "gaussian"]  # of the entropy and reconstruction bound
Estimator = Literal["loo", "resubstitution", "plugin", "plugin_normalized"]
OwnPoint = Literal["loo", "resubstitution"]  # whether a point counts in its own density
BandwidthRule = Literal["scott", "silverman"]
BandwidthWord = Literal[BandwidthRule, "likelihood"]
Ties = Literal["worst", "mean", "best"]
BoundName = Literal["info_nce", "nwj", "dv", "mine", "tuba", "interpolated", "js", "smile", "flo", "club"]
CriticName = Literal["inner_product", "bilinear", "separable", "joint"]
NormName = Literal["euclidean", "max"]
Negatives = Literal["others", "all"]  # pairs i ≠ j; all pairs, the positives among them
BoundKind = Literal["lower", "upper", "neither"]
LeaveOut = Literal["each", "one"]  # of a row's negatives

BACKEND_NAMES: tuple[str, ...] = get_args(BackendName)
KINDS: tuple[str, ...] = get_args(Kind)
PHI_NAMES: tuple[str, ...] = get_args(PhiName)
PSI_NAMES: tuple[str, ...] = get_args(PsiName)
SUM_NAMES: tuple[str, ...] = get_args(SumName)
JOIN_NAMES: tuple[str, ...] = get_args(JoinName)
DIMS: tuple[str, ...] = get_args(Dim)
LOSS_DIMS: tuple[str, ...] = get_args(LossDim)
REDUCTIONS: tuple[str, ...] = get_args(Reduction)
TOTAL_REDUCTIONS: tuple[str, ...] = get_args(TotalReduction)
COUNTED_REDUCTIONS: tuple[str, ...] = get_args(CountedReduction)
SAME_ID: tuple[str, ...] = get_args(SameId)
SAME_ID_OF_SIGLIP: tuple[str, ...] = get_args(SameIdOfSigLIP)
FORMS: tuple[str, ...] = get_args(Form)
NO_POSITIVE: tuple[str, ...] = get_args(NoPositive)
KERNELS: tuple[str, ...] = get_args(KernelName)
JOINT_KERNELS: tuple[str, ...] = get_args(JointKernelName)
ER_KERNELS: tuple[str, ...] = get_args(ERKernel)
ESTIMATORS: tuple[str, ...] = get_args(Estimator)
OWN_POINT: tuple[str, ...] = get_args(OwnPoint)
RULES: tuple[str, ...] = get_args(BandwidthRule)
BANDWIDTH_WORDS: tuple[str, ...] = get_args(BandwidthWord)
TIES: tuple[str, ...] = get_args(Ties)
BOUND_NAMES: tuple[str, ...] = get_args(BoundName)
CRITIC_NAMES: tuple[str, ...] = get_args(CriticName)
NORM_NAMES: tuple[str, ...] = get_args(NormName)
NEGATIVES: tuple[str, ...] = get_args(Negatives)
BOUND_KINDS: tuple[str, ...] = get_args(BoundKind)
LEAVE_OUT: tuple[str, ...] = get_args(LeaveOut)
