"""The distillation family: BYOL and DINO, whose targets come from a slow copy of the network, and their ER forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, embeddings, fail, flag, same_shape, scalar, wide_scalar
from ..functional.density import kde_entropy
from ..functional.rows import rowwise_dot, unit
from ..pairwise.arguments import vector
from .bound import log_q
from .checks import prototypes_of, views_of
from .cross_entropy import Target, cross_entropy, prepared, swapped
from .discrete import entropy_of_mean


def byol(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Regression of a slow network's embeddings by unit vectors (BYOL, arXiv 2006.07733, eq. 2).

        loss = mean over pairs t ≠ v of  mean_i ‖unit(prediction_i^v) − unit(target_i^t)‖²

    predictions  list of (N, D) float tensors, the predictor's output for each view
    targets      list of (N, D), the slow network's projections of the first views, without gradient; targets[t] and
                 predictions[t] are of one view. There may be more predictions than targets

    With two views it is half of the paper's loss, the sum of both directions. Nothing but the slow network keeps all rows from
    being equal; `byol_er` has the entropy for that.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.byol([torch.eye(4), torch.eye(4)], [torch.eye(4), -torch.eye(4)])      # one direction 0, the other 4
    tensor(2.)
    """
    pairs = _paired("byol", predictions, targets)
    return torch.stack([2 - 2 * rowwise_dot(_wide(p), _wide(t)).mean() for p, t in pairs]).mean()


def byol_er(
    predictions: Sequence[Tensor],
    targets: Sequence[Tensor],
    *,
    concentration: float | Tensor = 10.0,
    projections: Sequence[Tensor] | None = None,
) -> Tensor:
    """BYOL with entropy: minus an ER bound with von Mises–Fisher densities (arXiv 2307.10907), in nats and O(N·D) memory.

        loss = mean over pairs t ≠ v of  −mean_i log vMF(target_i^t | prediction_i^v, κ)  −  mean over v of H(projection^v)

    The targets have no gradient, so the entropy is that of the quick network's own projections, by `jk.kde_entropy`.

    predictions    list of (N, D) float tensors, N ≥ 2, the predictor's output for each view
    targets        list of (N, D), as in `byol`
    concentration  κ > 0, float or 0-d tensor; a tensor receives its gradient
    projections    list of (N, D) float tensors whose entropy counts; None for the predictions

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> views = [torch.eye(4), torch.eye(4)]
    >>> jk.er.byol_er(views, views, concentration=5.0)
    tensor(-5.)
    """
    function = "byol_er"
    pairs = _paired(function, predictions, targets)
    name = "predictions" if projections is None else "projections"
    sample = predictions if projections is None else views_of(function, name, projections, least=1)
    like = ("predictions[0]", predictions[0])
    width = wide_scalar(function, "concentration", concentration, like, above=0)
    for number, z in enumerate(sample):
        if min(z.shape) < 2:
            must = "must have at least 2 rows, and 2 columns: a sphere needs 2 dimensions"
            fail(function, f"{name}[{number}]", f"of shape {tuple(z.shape)}", must)
    entropies = [kde_entropy(z, kernel="vmf", concentration=width) for z in sample]
    likelihoods = [log_q(function, "concentration", "vmf", p, t.detach(), width) for p, t in pairs]
    return -torch.stack(likelihoods).mean() - torch.stack(entropies).mean()


def dino(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    prototypes: Tensor,
    teacher_prototypes: Tensor,
    *,
    center: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
    normalize: bool = True,
) -> Tensor:
    """Cross entropy of a student's softmax with a teacher's, centred and sharper (DINO, arXiv 2104.14294, algorithm 1).

        loss = mean over pairs t ≠ v of  mean_i −Σ_k p_ik^t log softmax_k(⟨s_i^v, c_k⟩/τ)
        p_ik^t = softmax_k((⟨t_i^t, c'_k⟩ − center_k)/τ')                 without gradient

    in nats and O((N + K)·D) memory. The last layers of both heads are the prototypes c and c'.

    students             list of two or more (N, D) float tensors, the student's embedding of each view, global ones first
    teachers             list of (N, D), the teacher's of the first views; teachers[t] and students[t] are of one view
    prototypes           (K, D), K ≥ 2, the weight of the student's last layer
    teacher_prototypes   (K, D), that of the teacher's
    center               (K,), the running mean of the teacher's scores ⟨t_i, c'_k⟩, or None for 0: see `Center`
    temperature          τ > 0 of the student, float or 0-d tensor; a tensor receives its gradient
    teacher_temperature  τ' > 0, without gradient
    normalize            divide each row of students and teachers by its norm first; False if rows are already unit vectors,
                         which is checked on the CPU

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> views = [torch.eye(4), torch.eye(4)]
    >>> jk.er.dino(views, views, torch.eye(4), torch.eye(4))         # log(1 + 3 e⁻¹⁰)
    tensor(0.0001)
    """
    function = "dino"
    temperatures = temperature, teacher_temperature
    problem = _Distilled(function, students, teachers, prototypes, teacher_prototypes, temperatures, normalize)
    return problem.cross_entropy(vector(function, "center", center, students[0], len(prototypes)))


def dino_er(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    prototypes: Tensor,
    teacher_prototypes: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
    normalize: bool = True,
) -> Tensor:
    """DINO with entropy in place of the centre: minus a discrete ER bound (arXiv 2307.10907).

        loss = `dino` without a centre  −  mean over the teacher's views t of H(mean_i softmax_k(⟨s_i^t, c_k⟩/τ'))

    The teacher has no gradient, so the entropy is that of the student's mean assignment at the teacher's temperature, by
    `assignment_entropy`. Where student and teacher agree, the value is minus `discrete_bound`.

    The arguments are those of `dino`. Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the
    argument at fault.

    >>> views = [torch.eye(4), torch.eye(4)]
    >>> jk.er.dino_er(views, views, torch.eye(4), torch.eye(4))      # nearly −log 4
    tensor(-1.3862)
    """
    function = "dino_er"
    temperatures = temperature, teacher_temperature
    problem = _Distilled(function, students, teachers, prototypes, teacher_prototypes, temperatures, normalize)
    own = problem.students[: len(problem.teachers)]
    entropies = [entropy_of_mean(view.scored, problem.prototypes, problem.slow_scale) for view in own]
    return problem.cross_entropy() - torch.stack(entropies).mean()


class _Distilled:
    """The checked and prepared arguments that `dino` and `dino_er` share."""

    def __init__(self, function, students, teachers, prototypes, teacher_prototypes, temperatures, normalize):
        flag(function, "normalize", normalize)
        first = views_of(function, "students", students, least=2)
        like = ("students[0]", first[0])
        slow = _slow(function, "teachers", teachers, len(first))
        if len(slow[0]) != len(first[0]):
            shape = f"of shape {tuple(slow[0].shape)}"
            fail(function, "teachers[0]", shape, f"must have {len(first[0])} rows like students[0]")
        if slow[0].device != first[0].device:
            fail(function, "teachers[0]", f"on {slow[0].device}", f"must be on {first[0].device} like students[0]")
        if accumulation_dtype(slow[0].dtype) != accumulation_dtype(first[0].dtype):
            fail(function, "teachers[0]", f"of {slow[0].dtype}", f"must be of {first[0].dtype} like students[0]")
        prototypes_of(function, "prototypes", prototypes, like)
        of_slow = ("teachers[0]", slow[0])
        prototypes_of(function, "teacher_prototypes", teacher_prototypes, of_slow, count=len(prototypes))
        temperature, slow_temperature = temperatures
        self.scale = scalar(function, "temperature", temperature, like, above=0, inverse=True)
        self.slow_scale = scalar(function, "teacher_temperature", slow_temperature, like, above=0, inverse=True)
        names = [f"students[{n}]" for n in range(len(first))]
        self.students, self.prototypes = prepared(function, names, first, prototypes, normalize)
        names = [f"teachers[{n}]" for n in range(len(slow))]
        constants = [z.detach() for z in slow]
        self.teachers, self.keys = prepared(function, names, constants, teacher_prototypes.detach(), normalize)

    def cross_entropy(self, center: Tensor | None = None) -> Tensor:
        """With the teacher's assignments, which are constants."""
        scale = self.slow_scale.detach() if isinstance(self.slow_scale, Tensor) else self.slow_scale
        bias = None if center is None else -(center.detach() * scale)
        targets = [Target(view.scored, self.keys, scale, bias) for view in self.teachers]
        pairs = swapped(len(targets), len(self.students))
        return cross_entropy(pairs, targets, self.students, self.prototypes, self.scale)


def _slow(function: str, name: str, value: Any, most: int) -> list[Tensor]:
    """The slow network's views: at most as many as the quick one's."""
    slow = views_of(function, name, value, least=1)
    if len(slow) > most:
        fail(
            function,
            name,
            f"a list of {len(slow)}",
            f"must be one of {most} at most, as many as the quick network's views",
        )
    return slow


def _paired(function: str, predictions: Any, targets: Any) -> list[tuple[Tensor, Tensor]]:
    """(prediction, target) of every pair of different views, checked; targets have no gradient."""
    first = views_of(function, "predictions", predictions, least=2)
    slow = _slow(function, "targets", targets, len(first))
    embeddings(function, "targets[0]", slow[0], like=("predictions[0]", first[0]))
    same_shape(function, "targets[0]", slow[0], ("predictions[0]", first[0]), "row i of every view is one item")
    return [(p, t.detach()) for n, t in enumerate(slow) for v, p in enumerate(first) if v != n]


def _wide(z: Tensor) -> Tensor:
    return unit(z, rounded=False)
