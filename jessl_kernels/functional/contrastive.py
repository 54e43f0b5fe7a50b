"""Losses that find each row's partner: CLIP, NT-Xent, DCL, SigLIP; InfoNCE has a file of its own. Each is a join of two sums: N
over the negatives, and P, the positive's score.

"lse minus the positive" subtracts two nearly equal numbers exactly when training works. So the positive is left out of N, and the
loss is log(1 + e^{N − P}), which needs no such subtraction.
"""

from __future__ import annotations

from torch import Tensor

from .._checks import choice, embeddings, fail, same_shape, scalar
from ..literals import SAME_ID_OF_SIGLIP, Reduction, SameId, SameIdOfSigLIP
from ..pairwise.positives import terms_of_positives
from ..pairwise.row_loss import loss_of, problem_of
from ..problem.exclude import DIAGONAL
from ..problem.row_loss import Positives
from ..problem.types import Terms
from .ids import found, partners_of
from .rows import check_options, expanded


def clip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    *,
    ids: Tensor | None = None,
    same_id: SameId = "mean",
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Symmetric cross entropy of matching images and texts (CLIP, arXiv 2103.00020, figure 3).

    With s_ij = logit_scale · ⟨image_i, text_j⟩, in nats and O(N·D) memory:

        loss_i = ½ (log Σ_j exp(s_ij) − s_ii) + ½ (log Σ_j exp(s_ji) − s_ii)

    image, text  (N, D) float tensors; row i of both belong together
    logit_scale  the multiplier itself, float or 0-d tensor, ≥ 0: pass `model.logit_scale.exp()`; a tensor receives its gradient
    ids          (N,) integers, or None: pairs of one id are one item (several captions of an image); below 0: no id
    same_id      rows of one id are positives of each other, by "mean" or "sum", or "ignore" each other, as in `info_nce`
    normalize    divide each row by its norm first; the default is False, because CLIP models return unit vectors
    reduction    "mean" over pairs, "sum", or "none": (N,)

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.clip_loss(torch.eye(4), torch.eye(4), 1.0)                # log(e + 3) − 1
    tensor(0.7437)
    """
    function = "clip_loss"
    check_options(function, reduction, normalize=normalize)
    scale = _image_text(function, image, text, logit_scale)
    partners = partners_of(function, ids, same_id, ("image", image))
    return found(function, image, (text,), scale, partners, normalize, reduction, both=True)


def nt_xent(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.5, normalize: bool = True, reduction: Reduction = "mean"
) -> Tensor:
    """Cross entropy of finding the other view among 2N − 1 candidates (SimCLR, arXiv 2002.05709, eq. 1).

    With z = [z1; z2] and s_ij = ⟨z_i, z_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_{j≠i} exp(s_ij) − s_{i, other view of i}

    z1, z2       (N, D) float tensors; row i of z1 and row i of z2 are two views of one item
    temperature  float or 0-d tensor, > 0; a tensor receives its gradient
    normalize    divide each row by its norm first; False if rows are already unit vectors
    reduction    "mean" over the 2N rows, "sum", or "none": (2N,), rows of z1 first

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.nt_xent(torch.eye(4), torch.eye(4))                       # log(e² + 6) − 2
    tensor(0.5944)
    """
    return _two_views("nt_xent", z1, z2, temperature, "softplus", normalize, reduction)


def dcl(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.1, normalize: bool = True, reduction: Reduction = "mean"
) -> Tensor:
    """NT-Xent without the positive in the denominator (decoupled contrastive loss, arXiv 2110.06848, eq. 6).

    With z = [z1; z2] and s_ij = ⟨z_i, z_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_j exp(s_ij) − s_{i, other view of i},    j over all rows but i and its other view

    z1, z2       (N, D) float tensors, N ≥ 2; row i of z1 and row i of z2 are two views of one item
    temperature  float or 0-d tensor, > 0; a tensor receives its gradient
    normalize    divide each row by its norm first; False if rows are already unit vectors
    reduction    "mean" over the 2N rows, "sum", or "none": (2N,), rows of z1 first

    The loss has no lower bound of 0. Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument.

    >>> jk.dcl(torch.eye(4), torch.eye(4), temperature=0.5)          # log 6 − 2
    tensor(-0.2082)
    """
    return _two_views("dcl", z1, z2, temperature, "difference", normalize, reduction)


def siglip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    *,
    ids: Tensor | None = None,
    same_id: SameIdOfSigLIP = "sum",
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sigmoid loss over all pairs (SigLIP, arXiv 2303.15343, eq. 1).

    With s_ij = logit_scale · ⟨image_i, text_j⟩ + logit_bias, in nats and O(N·D) memory:

        loss_i = softplus(−s_ii) + Σ_{j≠i} softplus(s_ij)

    image, text  (N, D) float tensors; row i of both belong together
    logit_scale  the multiplier itself, float or 0-d tensor, ≥ 0: pass `model.logit_scale.exp()`; a tensor receives its gradient
    logit_bias   float or 0-d tensor; a tensor receives its gradient
    ids          (N,) integers, or None: pairs of one id are one item; below 0: no id
    same_id      "sum": rows of one id are positives of each other, each with a term softplus(−s_ip); "ignore": they are left
                 out, except for the row's own partner
    normalize    divide each row by its norm first; the default is False, because such models return unit vectors
    reduction    "mean": the sum over all N² pairs divided by N, as in the paper; "sum"; "none": (N,), one per image

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.siglip_loss(torch.eye(2), torch.eye(2), 1.0, 0.0)         # log(1 + e⁻¹) + log 2
    tensor(1.0064)
    """
    function = "siglip_loss"
    check_options(function, reduction, normalize=normalize)
    scale = _image_text(function, image, text, logit_scale)
    bias = scalar(function, "logit_bias", logit_bias, ("image", image))
    choice(function, "same_id", same_id, SAME_ID_OF_SIGLIP)
    partners = partners_of(function, ids, same_id, ("image", image))
    problem = problem_of(
        (image,),
        (text,),
        scale=scale,
        positives=partners.positives,
        normalize=normalize,
        exclude=partners.exclude,
        row_bias=expanded(bias, image),
        negatives=Terms("softplus"),
        of_positives=terms_of_positives("softplus"),
    )
    return loss_of(function, problem, "sum", reduction)


def _two_views(
    function: str, z1: Tensor, z2: Tensor, temperature: float | Tensor, join: str, normalize: bool, reduction: str
) -> Tensor:
    """A loss of z = [z1; z2], in which each row's partner is its other view."""
    check_options(function, reduction, normalize=normalize)
    embeddings(function, "z1", z1)
    embeddings(function, "z2", z2, like=("z1", z1))
    same_shape(function, "z2", z2, ("z1", z1), "row i of both must be views of one item")
    scale = scalar(function, "temperature", temperature, ("z1", z1), above=0, inverse=True)
    n = z1.shape[0]
    if join == "difference" and n < 2:
        must = "must have at least 2 rows: one pair alone has no negatives"
        fail(function, "z1", f"of shape {tuple(z1.shape)}", must)
    positives = Positives(shift=n)
    problem = problem_of((z1, z2), (), scale=scale, positives=positives, normalize=normalize, exclude=DIAGONAL)
    return loss_of(function, problem, join, reduction)


def _image_text(function: str, image: Tensor, text: Tensor, logit_scale: float | Tensor) -> float | Tensor:
    """Check both towers; returns the scale."""
    embeddings(function, "image", image)
    embeddings(function, "text", text, like=("image", image))
    same_shape(function, "text", text, ("image", image), "row i of both belong together")
    return scalar(function, "logit_scale", logit_scale, ("image", image), at_least=0)
