"""The arguments of an evaluation, and its measures one after another."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._checks import embeddings, fail, flag, integer, positive, same_shape
from ..arrays import check_directions, table
from ..functional.kernels import log_sphere_area
from ..functional.rows import unit
from ..progress import Report, bar
from . import space, sphere, views, votes
from .result import Curve, Curves, Evaluation, Measure
from .sample import Sample, mean_of

if TYPE_CHECKING:
    from numpy import ndarray

ENTROPY_K = 3  # the neighbour whose distance tells the density, as in knn_entropy
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200)  # values of k in curves
EVEN = "even on the sphere"
SMALLEST_WIDTH = 1e-18
NEAR = 0.8  # of the cap, as in `mi.Estimate`


@torch.no_grad()
def evaluate(
    z: Tensor | ndarray,
    labels: Tensor | ndarray | None = None,
    z2: Tensor | ndarray | None = None,
    *,
    k: int = 20,
    concentration: float | None = None,
    bandwidth: float | None = None,
    temperature: float | None = None,
    queries: int = 8192,
    exact: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Evaluation:
    """Judge a representation: how its rows lie, what their neighbours say of labels, what two views of an item share.

    Rows are divided by their norms, except for "gaussian_entropy" and "effective_rank". Means are over the queries, each of which
    is compared with all other rows; the intervals are of the spread over queries.

        uniformity         log mean_{i≠j} e^{−2‖x_i − x_j‖²}, smaller for more even directions (Wang and Isola, arXiv 2005.10242)
        vmf_entropy        of the directions, by surface area: leave-one-out, by a von Mises–Fisher kernel (`jk.kde_entropy`)
        knn_entropy        the same by the distance to the 3rd neighbour: Kozachenko and Leonenko's, with the area of the cap
        gaussian_entropy   of the rows in space: leave-one-out, by a Gaussian kernel of one width
        effective_rank     exp of the entropy of z's normalised singular values, z not centred (RankMe, arXiv 2210.02885)
        knn_accuracy       with labels: leave-one-out vote of k neighbours, weights e^{cosine/0.07} (DINO, arXiv 2104.14294)
        nn_accuracy        the class of the nearest neighbour alone
        alignment          with z2: mean ‖x_i − y_i‖² over all rows (Wang and Isola)
        info_nce           log N − mean (log Σ_j e^{s_ij} − s_ii), s = cosine/temperature: at most I(Z; Z2), and at most log N
        z_to_z2/…, z2_to_z/…   recall@1, recall@5 and median_rank of the other view among all N, ties against it

    Sweeps over queries × rows: uniformity and vmf_entropy share one, k neighbours give both accuracies and knn_entropy by
    another, gaussian_entropy takes one; with z2 info_nce takes one and retrieval two. So 3, or 6 with z2. A width or temperature
    that is not given is settled by the first 1,024 queries, in a sweep of theirs: the lowest entropy, or the highest bound.
    Memory is a copy of z and of z2 in fp32 beside them, of arrays two.

    z              (N, D) float tensor or array, D ≥ 2; no row may be 0
    labels         (N,) integers ≥ 0, or None; a row that is alone in its class has no right answer and does not count
    z2             (N, D) like z: row i of both belong together; or None
    k              neighbours that vote, with labels < N
    concentration  κ of vmf_entropy; None: the best of 4, 8, …, 4,096
    bandwidth      h of gaussian_entropy; None: the best of 2 to 1/23 times Silverman's. Fix both to compare representations
    temperature    of info_nce; None: the best of 1 to 0.01
    queries        so many rows, drawn at random
    exact          all rows are queries
    seed           of the draw
    progress       whether to show a bar; None: on a terminal, if rich is installed

    Raises ValueError or TypeError naming the argument at fault.

    >>> found = jk.evaluate(torch.eye(4), labels=torch.tensor([0, 0, 1, 1]), k=3)
    >>> round(found["uniformity"].value, 4), round(found["effective_rank"].value, 4)        # −2·2, and 4 equal directions
    (-4.0, 4.0)
    """
    function, begun = "evaluate", time.perf_counter()
    z = _rows(function, "z", z)
    if z2 is not None:
        z2 = _rows(function, "z2", z2, like=z)
    if labels is not None:
        labels = votes.labels_of(function, labels, z)
    N, D = z.shape
    if not 1 <= integer(function, "k", k) < (math.inf if labels is None else N):
        fail(function, "k", k, f"must be >= 1 and < {N}, the number of rows")
    if integer(function, "queries", queries) < 2:
        fail(function, "queries", queries, "must be at least 2")
    if not 0 <= integer(function, "seed", seed) < 2**63:
        fail(function, "seed", seed, "must be >= 0 and below 2**63")
    given = {"concentration": concentration, "bandwidth": bandwidth, "temperature": temperature}
    chosen = {name: positive(function, name, value) for name, value in given.items() if value is not None}
    magnitude = space.magnitude(z)
    least, most = SMALLEST_WIDTH * magnitude, magnitude / SMALLEST_WIDTH
    if bandwidth is not None and not least < bandwidth < most:
        must = f"must lie between {least:g} and {most:g}, where its square is a number of fp32"
        fail(function, "bandwidth", bandwidth, must)
    if temperature is not None and z2 is None:
        fail(function, "temperature", "given", "must be None without z2")
    flag(function, "exact", exact)
    if progress is not None:
        flag(function, "progress", progress)

    z = z if magnitude == 1 else z / magnitude
    z2 = z2 if z2 is None or space.magnitude(z2) == 1 else z2 / space.magnitude(z2)
    sample = Sample.drawn(N, N if exact else queries, seed, z.device)
    sweeps = 3 if z2 is None else 6
    with bar(function, progress, sweeps, "singular values") as report:
        singular = space.singular_values(z)
        x = unit(z, rounded=False)
        measures, widths = _directions(x, sample, chosen.get("concentration"), report)
        near, accuracies, curve = _neighbours(x, sample, labels, int(k), report)
        measures |= near
        report(2, "Gaussian kernel")
        measures["gaussian_entropy"] = _in_space(z, magnitude, sample, chosen.get("bandwidth"))
        rank = space.effective_rank(singular)
        measures["effective_rank"] = Measure(rank, reference=min(N, D), meaning="equal singular values")
        measures |= accuracies
        recall: Curve = ()
        if z2 is not None:
            of_views, recall = _two_views(x, unit(z2, rounded=False), sample, chosen.get("temperature"), report)
            measures |= of_views
        report(sweeps, "done")
    curves = Curves(tuple((singular * magnitude).tolist()), widths, curve, recall)
    seconds = time.perf_counter() - begun
    return Evaluation(measures, curves, N, D, sample.Q, sample.index is None, sweeps, seconds)


def _directions(x: Tensor, sample: Sample, kappa: float | None, report: Report) -> tuple[dict[str, Measure], Curve]:
    """Uniformity and the entropy by a vMF kernel, from one sweep."""
    report(0, "directions")
    D, area, note = x.shape[1], log_sphere_area(x.shape[1]), ""
    tried: Sequence[float] = sphere.CONCENTRATIONS if kappa is None else (kappa,)

    def entropies(some: Sample, concentrations: Sequence[float]) -> list[Tensor]:
        return sphere.vmf_entropies(x, some, concentrations)

    best, tried_values = sample.best(x, tried, entropies)
    if kappa is None and best == tried[-1]:
        note = f"κ = {best:g} is the narrowest that is tried"
    flat = 2 * sphere.T
    of_flat, of_best = entropies(sample, (flat, best))
    # −2‖x − y‖² = 4⟨x, y⟩ − 4: the density at κ = 4 but for its constants.
    log_means = -of_flat + area + sphere.log_mean_kernel(D, flat) - flat
    uniformity, spread = _log_of_mean(log_means)
    value, stderr = mean_of(of_best)
    return {
        "uniformity": Measure(uniformity, spread, sphere.even_uniformity(D), EVEN),
        "vmf_entropy": Measure(value, stderr, area, EVEN, f"κ = {best:g}", note),
    }, tried_values or ((best, value),)


def _log_of_mean(logs: Tensor) -> tuple[float, float]:
    """The logarithm of a mean over queries, and its standard error, that of the mean divided by the mean."""
    top = logs.max()
    mean, stderr = mean_of((logs - top).exp())
    return float(top) + math.log(mean), stderr / mean


def _neighbours(
    x: Tensor, sample: Sample, labels: Tensor | None, k: int, report: Report
) -> tuple[dict[str, Measure], dict[str, Measure], Curve]:
    """Entropy and accuracies, from one list of neighbours."""
    report(1, "neighbours")
    of_entropy = min(ENTROPY_K, sample.N - 1)
    near = sphere.neighbours(x, sample, of_entropy if labels is None else max(k, of_entropy))
    rows = sphere.knn_entropy(near, sample, of_entropy, x.shape[1])
    met, note = int((rows == -torch.inf).sum()), ""
    if met:
        note = (
            f"the density is infinite at queries that coincide with {of_entropy} other rows: {met:,} of {len(rows):,}"
        )
    value, stderr = mean_of(rows)
    area = log_sphere_area(x.shape[1])
    entropy = {"knn_entropy": Measure(value, stderr, area, EVEN, f"{of_entropy} neighbours", note)}
    if labels is None:
        return entropy, {}, ()

    members, note = votes.members(labels), ""
    own, counted, alone = sample.of(labels), (sample.of(members) > 1).cpu(), int((members == 1).sum())
    if alone:
        note = f"rows that are alone in their class do not count: {alone:,} of {sample.N:,}"
    largest = float(labels.unique(return_counts=True)[1].max()) / sample.N
    at = sorted({*(some for some in SHOWN if some < k), k})
    right = {some: votes.right(near, labels, own, some)[counted] for some in at}
    meaning = "share of the largest class"
    accuracies = {
        "knn_accuracy": _share(right[k], largest, meaning, f"k = {k}", note),
        "nn_accuracy": _share(right[1], largest, meaning, "k = 1", note),
    }
    return entropy, accuracies, tuple((some, float(of_some.double().mean())) for some, of_some in right.items())


def _share(hits: Tensor, reference: float, meaning: str, setting: str = "", note: str = "") -> Measure:
    """The share of queries that are right."""
    return Measure(*mean_of(hits), reference, meaning, setting, note, share_of=len(hits))


def _in_space(z: Tensor, magnitude: float, sample: Sample, h: float | None) -> Measure:
    """Entropy of z·magnitude by a Gaussian kernel, from one sweep."""
    tried = space.widths(z) if h is None else [h / magnitude]
    if not tried:
        return Measure(-math.inf, note="all rows are the same")

    def entropies(some: Sample, bandwidths: Sequence[float]) -> list[Tensor]:
        return space.gaussian_entropies(z, some, bandwidths)

    best, _ = sample.best(z, tried, entropies)
    value, error = mean_of(entropies(sample, [best])[0])
    setting = f"h = {best * magnitude:.3g}"
    note = f"{setting} is the narrowest that is tried" if h is None and best == tried[-1] else ""
    return Measure(value + z.shape[1] * math.log(magnitude), error, setting=setting, note=note)


def _two_views(
    x: Tensor, y: Tensor, sample: Sample, temperature: float | None, report: Report
) -> tuple[dict[str, Measure], Curve]:
    """Alignment, InfoNCE from one sweep, and retrieval both ways from one each."""
    report(3, "InfoNCE")

    def losses(some: Sample, temperatures: Sequence[float]) -> list[Tensor]:
        return views.info_nce_losses(x, y, some, temperatures)

    tried: Sequence[float] = views.TEMPERATURES if temperature is None else (temperature,)
    best, _ = sample.best(x, tried, losses)
    cap, notes = math.log(sample.N), []
    if temperature is None and best == tried[-1]:
        notes.append(f"temperature {best:g} is the smallest that is tried")
    loss, stderr = mean_of(losses(sample, [best])[0])
    if cap - loss > NEAR * cap:
        notes.append("near its cap, which limits the value: more rows raise the cap")
    measures = {
        "alignment": Measure(*mean_of(views.alignment(x, y)), 0.0, "equal views"),
        "info_nce": Measure(cap - loss, stderr, cap, "cap, log N", f"temperature {best:g}", "; ".join(notes)),
    }
    recall: Curve = ()
    for step, (name, queries, keys) in enumerate((("z_to_z2", x, y), ("z2_to_z", y, x))):
        report(4 + step, "retrieval")
        rank = views.ranks(queries, keys, sample)
        for at in (1, 5):
            chance = min(at / sample.N, 1.0)
            measures[f"{name}/recall@{at}"] = _share(rank <= at, chance, "by chance")
        measures[f"{name}/median_rank"] = Measure(float(rank.median()), reference=1.0, meaning="at best")
        recall = recall or tuple((at, float((rank <= at).double().mean())) for at in SHOWN if at <= sample.N)
    return measures, recall


def _rows(function: str, argument: str, value: Any, like: Tensor | None = None) -> Tensor:
    """A finite table whose rows have directions."""
    z = table(function, argument, value)
    if like is not None:
        embeddings(function, argument, z, like=("z", like))
        same_shape(function, argument, z, ("z", like), "row i of both belong together")
    if z.shape[0] < 2 or z.shape[1] < 2:
        fail(function, argument, f"of shape {tuple(z.shape)}", "must have at least 2 rows and 2 columns")
    check_directions(function, argument, z)
    return z
