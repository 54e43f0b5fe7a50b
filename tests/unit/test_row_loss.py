"""Losses of rows on every backend: each word, each way to name positives, each argument; and sums that are merged."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import row_losses as oracle
from tests.oracles.reductions import reduce
from tests.yardstick import judge

N, M, D = 21, 18, 7
# Made in each test, so that they lie on the GPU if a GPU backend is tested.
LABELS = [0, 1, 2, 0, 1, -1, 0, 3, 2, 2, 1, 0, 5, 5, 2, 1, 0, -1, 7, 2, 1]
INDEX = [3, 3, -1, 0, 7, 2, 5, 17, 1, 1, 9, -1, 4, 6, 8, 10, 11, 12, 13, 14, 15]


def labels() -> torch.Tensor:
    return torch.tensor(LABELS)


def ids() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of rows and of columns."""
    return labels(), torch.tensor(LABELS[2:20])


def index() -> torch.Tensor:
    return torch.tensor(INDEX)


def false_negatives() -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return (torch.arange(N), torch.arange(M)), tuple(t % 2 for t in ids())


def vectors(*lengths: int, seed: int) -> list[torch.Tensor]:
    return cases.columns(*lengths, seed=seed, dtype=torch.float32)


def pairs(**which) -> torch.Tensor:
    return oracle.positives_of(N, M, **which)


# Arguments of ours; the oracle gets the same, with positives and exclusions as masks.
PROBLEMS = {
    "shift": lambda: {"positives": 2, "join": "softplus"},
    "index": lambda: {"positives": index(), "join": "softplus"},
    "ids, mean outside": lambda: {"positives": ids(), "join": "softplus_spread"},
    "ids, mean inside": lambda: {"positives": ids(), "join": "softplus_count"},
    "ids, decoupled": lambda: {"positives": ids(), "join": "difference"},
    "ids, sums of softplus": lambda: {
        "positives": ids(),
        "join": "sum",
        "negatives": "softplus",
        "of_positives": "softplus",
    },
    "ids and exclusion": lambda: {
        "positives": ids(),
        "join": "softplus_spread",
        "exclude": jk.Exclude((0, 3), same=false_negatives(), keep=(1, -2)),
    },
    "hard negatives": lambda: {"positives": index(), "join": "tilt_difference", "tilts": (1.5, 0.5)},
    "no positives": lambda: {"join": "none", "exclude": "diagonal"},
}
problems = pytest.mark.parametrize("problem", PROBLEMS)


def told(problem: str, rows: int) -> tuple[dict, dict]:
    ours = PROBLEMS[problem]()
    truth = {key: ours[key] for key in ("join", "tilts", "negatives", "of_positives") if key in ours}
    which = {"shift": "shift", "index": "index", "hard negatives": "index", "no positives": None}.get(problem, "ids")
    if which is not None:
        truth["positive"] = oracle.positives_of(rows, M, **{which: ours["positives"]})
    if problem == "ids and exclusion":
        truth["out"] = oracle.excluded_by(N, M, (0, 3), false_negatives(), (1, -2))
    if problem == "no positives":
        truth["out"] = oracle.excluded_by(N, M, (0,))
    return ours, truth


@cases.backends
@cases.dtypes
@problems
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
def test_every_word_and_every_way_to_name_positives(backend, dtype, problem, kind):
    rows = M if problem == "shift" else N
    x, y = data.pairs("random", N, D, seed=0, dtype=dtype)
    r, c = vectors(rows, M, seed=1)
    ours, truth = told(problem, rows)
    inputs = {"x": x[:rows], "y": y[:M], "scale": torch.tensor(0.5), "row_bias": r, "col_bias": c}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            f"{problem}, {kind}",
            lambda **k: jk.row_loss(kind=kind, **ours, **k),
            lambda **k: oracle.row_loss(kind=kind, **truth, **k).mean(),
            inputs,
            seed=0,
            floors={"row_bias": 1 / rows},  # most joins cancel a row's bias
        )


@cases.backends
@problems
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_rows_each_for_itself_and_their_sum(backend, problem, reduction):
    rows = M if problem == "shift" else N
    x, y = data.pairs("random", N, D, seed=2)
    ours, truth = told(problem, rows)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            f"{problem}, {reduction}",
            lambda **k: jk.row_loss(normalize=True, scale=5.0, reduction=reduction, **ours, **k),
            lambda **k: reduce(oracle.row_loss(normalize=True, scale=5.0, **truth, **k), reduction),
            {"x": x[:rows], "y": y[:M]},
            seed=0,
        )


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("join", ["softplus", "softplus_spread", "difference"])
def test_columns_have_positives_of_their_own(backend, join):
    """Captions occur twice: a column's positives are all rows of its caption."""
    x, y = data.pairs("random", N, D, seed=3)
    weights, col_weights = (v.abs() for v in vectors(N, M, seed=4))
    weights[3] = 0.0

    def truth(x, y):
        sides = (oracle.row_loss(x, y, join=join, positive=pairs(ids=ids()), columns=c) for c in (False, True))
        return sum((w.double() * side).mean() for w, side in zip((weights, col_weights), sides, strict=True))

    ours = {"join": join, "positives": ids(), "dim": "both", "weights": weights, "col_weights": col_weights}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(join, lambda **k: jk.row_loss(**ours, **k), truth, {"x": x, "y": y[:M]}, seed=0)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("join", ["softplus_spread", "softplus_count"])
def test_rows_of_one_batch_with_labels_and_false_negatives(backend, dtype, join):
    z, labels = data.clusters_with_labels(41, 12, labels=9, seed=5, dtype=dtype)
    near = torch.arange(41) // 4
    exclude = jk.Exclude(0, same=(near, near))
    truth = {
        "positive": oracle.positives_of(41, 41, ids=(labels, labels)),
        "out": oracle.excluded_by(41, 41, (0,), ((near, near),)),
    }
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            join,
            lambda **k: jk.row_loss(
                join=join, positives=(labels, labels), exclude=exclude, normalize=True, reduction="sum", **k
            ),
            lambda **k: oracle.row_loss(join=join, normalize=True, **truth, **k).sum(),
            {"x": z, "scale": torch.tensor(10.0)},
            seed=0,
        )


@pytest.mark.kernels
@cases.backends
def test_scores_that_are_given_and_a_log_sum_exp_beside_the_pairs(backend):
    x, y = data.pairs("random", N, D, seed=6)
    p, q, a = vectors(N, M, N, seed=7)
    a[2] = -torch.inf
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "given scores of both sides",
            lambda x, y, p, q: jk.row_loss(x, y, join="softplus", positives=(p, q), dim="both", reduction="sum"),
            lambda x, y, p, q: (
                oracle.row_loss(x, y, join="softplus", score_of_positives=p).sum()
                + oracle.row_loss(x, y, join="softplus", score_of_positives=q, columns=True).sum()
            ),
            {"x": x, "y": y[:M], "p": p, "q": q},
            seed=0,
        )
        judge(
            "given scores, of which ψ is summed",
            lambda x, y, p: jk.row_loss(x, y, join="sum", positives=p, negatives="softplus", of_positives="softplus"),
            lambda x, y, p: (
                oracle.row_loss(x, y, join="none", negatives="softplus") + torch.logaddexp(-p, torch.zeros_like(p))
            ).mean(),
            {"x": x, "y": y[:M], "p": p},
            seed=0,
        )
        judge(
            "also",
            lambda x, y, a: jk.row_loss(x, y, join="softplus", positives=index(), also=a, reduction="none"),
            lambda x, y, a: oracle.row_loss(x, y, join="softplus", positive=pairs(index=index()), also=a),
            {"x": x, "y": y[:M], "a": a},
            seed=0,
            constants=("a",),
        )


@pytest.mark.kernels
@cases.backends
def test_what_arrives_at_a_log_sum_exp_beside_the_pairs(backend):
    x, y = (t.double() for t in data.pairs("random", N, D, seed=6))
    (a,) = (t.double().requires_grad_() for t in vectors(N, seed=8))
    with jk.use_backend(backend):
        for reduction in ("mean", "none"):
            value = jk.row_loss(x, y[:M], join="difference", positives=index(), also=a, reduction=reduction).sum()
            truth = oracle.row_loss(x, y[:M], join="difference", positive=pairs(index=index()), also=a)
            truth = truth.mean() if reduction == "mean" else truth.sum()
            ours, expected = (torch.autograd.grad(v, a)[0] for v in (value, truth))
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_each_piece_has_its_own_need_for_a_gradient(backend, needs):
    x, y = (t.double() for t in data.pairs("random", N, D, seed=9))
    queue = data.normals(400, D, seed=10)
    keys = [t.clone().requires_grad_(need) for t, need in zip((y, queue), needs, strict=True)]
    twins = [t.detach().clone().requires_grad_() for t in keys]
    query = x.clone().requires_grad_()
    with jk.use_backend(backend):
        value = jk.row_loss(query, keys, join="softplus", positives=0)
    value.backward()
    positive = oracle.positives_of(N, N + 400, shift=0)
    oracle.row_loss(x, torch.cat(twins), join="softplus", positive=positive).mean().backward()
    for key, twin, need in zip(keys, twins, needs, strict=True):
        assert (key.grad is None) == (not need)
        if need:
            torch.testing.assert_close(key.grad, twin.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize(
    "join", ["softplus", "difference", "softplus_spread", "softplus_count", "sum", "tilt_difference"]
)
def test_rows_without_positives_count_for_nothing(backend, join):
    x = data.normals(5, D, seed=11).float().requires_grad_()
    y = data.normals(6, D, seed=12).float()
    alone, keys = torch.tensor([0, -1, 1, 4, 1]), torch.tensor([0, 1, 1, 2, -1, 0])
    tilts = (1.5, 0.5) if join == "tilt_difference" else (1.0,)
    with jk.use_backend(backend):
        for reduction in ("mean", "none", "mean_counted"):
            value = jk.row_loss(x, y, join=join, positives=(alone, keys), tilts=tilts, reduction=reduction)
            (gradient,) = torch.autograd.grad(value.sum(), x)
            assert value.isfinite().all() and gradient.isfinite().all()
            assert (gradient[[1, 3]] == 0).all() and (gradient[[0, 2, 4]] != 0).any(dim=1).all()
            if reduction == "none":
                assert (value[[1, 3]] == 0).all()


@pytest.mark.kernels
@cases.backends
def test_merged_sums_of_three_blocks_of_keys_are_those_of_one_call(backend):
    x, y = (t.double() for t in data.pairs("clustered", N, D, seed=13))
    both, scale = ids(), 3.0
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        query, keys = x.clone().requires_grad_(), y[:M].clone().requires_grad_()
        whole = jk.row_loss(query, keys, join="softplus_spread", positives=both, scale=scale)
        whole.backward()
        twin, blocks = x.clone().requires_grad_(), [b.clone().requires_grad_() for b in y[:M].split([5, 1, 12])]
        parts = both[1].split([5, 1, 12])
        first, *others = (
            jk.row_sums(twin, block, positives=(both[0], of_block), scale=scale)
            for block, of_block in zip(blocks, parts, strict=True)
        )
        sums = first.merge(*others)
        rows = torch.logaddexp(sums.N[0] - sums.P, torch.zeros(N)) + sums.spread
        loss = torch.where(sums.n_pos > 0, rows, 0.0).mean()
        loss.backward()
        torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
        torch.testing.assert_close(twin.grad, query.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(torch.cat([b.grad for b in blocks]), keys.grad, rtol=1e-9, atol=1e-12)
        slopes = torch.sigmoid(sums.N[0] - sums.P).detach() / N
        slopes = torch.where(sums.n_pos > 0, slopes, 0.0)
        spread = (sums.n_pos > 0).double() / N
        made = jk.row_grads(sums, N=slopes, P=-slopes, spread=spread)
        torch.testing.assert_close(sum(m.x[0] for m in made), query.grad, rtol=1e-9, atol=1e-12)


@cases.backends
@pytest.mark.parametrize("dim", ["row", "both"])
def test_a_join_of_ones_own_is_the_named_one(backend, dim):
    z, y = (t.double() for t in data.pairs("random", N, D, seed=14))
    named, own = (z.clone().requires_grad_() for _ in range(2))

    def join(N, P, spread, n_pos, n_neg, temper):
        assert ((n_pos + n_neg == len(LABELS)) | (n_neg == len(LABELS))).all()
        return torch.logaddexp(N[0] - P, torch.zeros_like(P)) + temper * spread

    both = labels(), labels().flip(0).clone()
    with jk.use_backend(backend):
        jk.row_loss(named, y, join="softplus_spread", positives=both, dim=dim).backward()
        jk.row_loss(own, y, join=join, params=(torch.ones(N).double(),), positives=both, dim=dim).backward()
    torch.testing.assert_close(own.grad, named.grad, rtol=1e-9, atol=1e-12)


def test_a_join_of_ones_own_has_the_same_bits_at_every_number_of_threads():
    x = data.normals(70_001, 2, seed=15).float()
    y = data.normals(3, 2, seed=16).float()
    index = torch.arange(70_001) % 3
    bits = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            value = jk.row_loss(leaf, y, join=lambda N, P, s, p, n: torch.tanh(N[0] - P).exp(), positives=index)
            value.backward()
            bits.append((value.detach(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    for value, gradient in bits[1:]:
        assert torch.equal(value, bits[0][0]) and torch.equal(gradient, bits[0][1])


@pytest.mark.kernels
@cases.backends
def test_label_smoothing_takes_the_mean_over_negatives_off_their_log_sum_exp(backend):
    x, y = (t.double() for t in data.pairs("random", N, D, seed=17))
    ours, twin = (x.clone().requires_grad_() for _ in range(2))
    with jk.use_backend(backend):
        sums = jk.row_sums(ours, y, positives=0, negative_spread=True)
        value = sums.negative_spread.square().sum()
    value.backward()
    s = (twin @ y.T).masked_fill(torch.eye(N, dtype=torch.bool), -torch.inf)
    mean = s.masked_fill(torch.eye(N, dtype=torch.bool), 0.0).sum(dim=1) / (N - 1)
    truth = (s.logsumexp(dim=1) - mean).square().sum()
    truth.backward()
    torch.testing.assert_close(value, truth, rtol=1e-10, atol=0)
    torch.testing.assert_close(ours.grad, twin.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_positives_weight_is_made_in_one_piece(backend, n):
    """If negatives are far below, f_P is a millionth of f_spread: added first, it would be 2 % off in fp32."""
    z = torch.nn.functional.normalize(0.3 * torch.eye(n + 1)[:n] + 0.7 / (n + 1) ** 0.5, dim=1)
    rows, labels = torch.cat([z, -z]), torch.arange(2 * n) // n
    keys = rows[[0, n]] if n == 1 else rows.clone()  # with one positive the spread contributes nothing
    of_keys = torch.arange(2) if n == 1 else labels
    positive = oracle.positives_of(2 * n, len(keys), ids=(labels, of_keys))
    told = {"join": "softplus_spread", "scale": 7.0}
    with jk.use_backend(backend):
        judge(
            f"{n} positives",
            lambda x: jk.row_loss(x, keys, positives=(labels, of_keys), **told),
            lambda x: oracle.row_loss(x, keys.to(x.dtype), positive=positive, **told).mean(),
            {"x": rows},
            seed=0,
        )


@cases.backends
@pytest.mark.parametrize("positives", ["shift", "ids", "none"])
def test_keys_that_lie_where_the_queries_do_are_constants(backend, positives):
    """x against x.detach(): the same memory, and no gradient through the keys."""
    x = data.normals(8, 4, seed=19).float().requires_grad_()
    numbers = torch.arange(8) // 2
    named = {"shift": 1, "ids": (numbers, numbers), "none": None}[positives]
    join = "none" if named is None else "softplus"
    with jk.use_backend(backend):
        ours, expected = (
            torch.autograd.grad(jk.row_loss(x, keys, join=join, positives=named), x)[0]
            for keys in (x.detach(), x.detach().clone())
        )
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_negatives_are_counted_without_a_sweep():
    generator = torch.Generator().manual_seed(18)
    for _ in range(60):
        rows, columns = (int(n) for n in torch.randint(1, 9, (2,), generator=generator))

        def ids(n, generator=generator):
            return torch.randint(-1, 3, (n,), generator=generator)

        same = tuple((ids(rows), ids(columns)) for _ in range(int(torch.randint(0, 3, (1,), generator=generator))))
        diagonals, keep = (tuple(torch.randint(-9, 9, (2,), generator=generator).tolist()) for _ in range(2))
        labels = ids(rows), ids(columns)
        sums = jk.row_sums(
            torch.ones(rows, 1),
            torch.ones(columns, 1),
            positives=labels,
            exclude=jk.Exclude(diagonals, same, keep=keep),
        )
        there = ~oracle.excluded_by(rows, columns, diagonals, same, keep)
        rivals = there & ~oracle.positives_of(rows, columns, ids=labels)
        assert torch.equal(sums.n_neg, rivals.sum(dim=1).float())
        assert torch.equal(sums.n_pos, (there & ~rivals).sum(dim=1).float())


def test_a_join_of_ones_own_counts_columns_beside_a_further_log_sum_exp():
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    options = {"positives": 0, "also": torch.zeros(5), "dim": "both"}
    ours = jk.row_loss(x, y, join=lambda N, P, s, n_pos, n_neg: N[0] - P - n_neg.log(), **options)
    truth = jk.row_loss(x, y, join="difference", **options) - 2 * torch.tensor(4.0).log()
    torch.testing.assert_close(ours, truth)
