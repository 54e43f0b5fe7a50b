"""The oracles against cases a human can check, closed forms and finite differences."""

import math

import pytest
import torch

from tests.oracles import closed_forms, contrastive, density, geometry, reductions
from tests.oracles.precision import matrix_form

INF = math.inf


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(actual, expected, rtol=1e-13):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=rtol)


EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (contrastive.nt_xent(EYE, EYE, temperature=0.5), math.log(math.exp(2) + 6) - 2),
        (contrastive.dcl(EYE, EYE, temperature=0.5), math.log(6) - 2),
        (contrastive.info_nce(EYE, EYE, temperature=1.0), math.log(math.e + 3) - 1),
        (contrastive.info_nce(EYE, EYE, -EYE, temperature=1.0), math.log(math.e + 6 + 1 / math.e) - 1),
        (contrastive.info_nce(EYE, EYE, -EYE, temperature=1.0, in_batch=False), math.log(math.e + 3 + 1 / math.e) - 1),
        (contrastive.info_nce(EYE, EYE, -EYE[:, None], temperature=1.0), math.log(math.e + 3 + 1 / math.e) - 1),
        (contrastive.info_nce(EYE, EYE, -EYE[:, None], temperature=1.0, in_batch=False), math.log1p(math.exp(-2))),
        (contrastive.clip_loss(EYE, EYE, 1.0), math.log(math.e + 3) - 1),
        (contrastive.siglip_loss(EYE, EYE, 2.0, -1.0), math.log1p(math.exp(-1)) + 3 * math.log1p(math.exp(-1))),
        (contrastive.sup_con(EYE, torch.tensor([0, 0, 1, 1]), temperature=1.0), math.log(3)),
        (contrastive.sup_con(EYE, torch.tensor([0, 0, 1, 1]), temperature=1.0, form="in"), math.log(3)),
    ],
)
def test_loss_of_orthogonal_rows_is_what_pencil_and_paper_give(rows, expected):
    near(rows, torch.full_like(rows, expected))


def test_symmetric_info_nce_averages_both_directions_and_gives_the_negatives_to_queries_alone():
    x, y, negatives = rand(5, 3, seed=1), rand(5, 3, seed=2), rand(7, 3, seed=3)
    both = contrastive.info_nce(x, y, negatives, symmetric=True)
    near(both, 0.5 * contrastive.info_nce(x, y, negatives) + 0.5 * contrastive.info_nce(y, x))


def test_nt_xent_of_two_views_is_sup_con_with_a_label_per_item():
    x, y = rand(6, 4, seed=1), rand(6, 4, seed=2)
    labels = torch.arange(6)
    expected = contrastive.nt_xent(x, y, temperature=0.3)
    for form in ("out", "in"):
        views = contrastive.sup_con(torch.stack([x, y], dim=1), labels, temperature=0.3, form=form)
        near(views.T.flatten(), expected)


def test_sup_con_forms_differ_by_where_the_mean_over_positives_stands():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    denominator = math.e + 1 + 1 / math.e  # of row 0, at temperature 1
    near(contrastive.sup_con(z, labels, temperature=1.0)[0], math.log(denominator) - 0.5)
    near(
        contrastive.sup_con(z, labels, temperature=1.0, form="in")[0],
        math.log(denominator) - math.log((math.e + 1) / 2),
    )


def test_sup_con_row_without_positive_is_zero_and_has_no_gradient():
    z = rand(5, 3).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 2])
    rows = contrastive.sup_con(z, labels)
    assert rows[4] == 0
    near(contrastive.sup_con_mean(rows, labels, "skip"), rows.sum() / 4)
    near(contrastive.sup_con_mean(rows, labels, "zero"), rows.sum() / 5)
    rows[4].backward()
    assert bool((z.grad == 0).all())


def test_reductions_of_a_small_matrix_by_loops():
    s, out = rand(3, 4), reductions.excluded(3, 4, diagonals=(0, 2))
    inside = [[float(s[i, j]) for j in range(4) if j - i not in (0, 2)] for i in range(3)]
    lse = [math.log(sum(math.exp(v) for v in row)) for row in inside]
    anchor = rand(3, seed=5)
    near(reductions.logsumexp(s, out), lse)
    near(
        reductions.logsumexp(s, out, anchor=anchor),
        torch.log1p((torch.tensor(lse, dtype=torch.float64) - anchor).exp()),
    )
    near(reductions.total_logsumexp(s, out), math.log(sum(math.exp(v) for v in lse)))
    near(reductions.softplus_sum(s, out), [sum(math.log1p(math.exp(v)) for v in row) for row in inside])
    near(reductions.topk(s, out)[0][:, 0], [max(row) for row in inside])
    near(reductions.logsumexp(s, out, dim=0), reductions.logsumexp(s.T, out.T))


def test_exclusion_by_diagonals_ids_and_keep():
    same, different = (
        (torch.tensor([3, -1, 4]), torch.tensor([3, -1, 4])),
        (torch.tensor([0, 0, -1]), torch.tensor([0, 1, -1])),
    )
    T, F = True, False
    assert reductions.excluded(2, 3, diagonals=(1, -1)).tolist() == [[F, T, F], [T, F, T]]
    assert reductions.excluded(3, 3, same=same).tolist() == [[T, F, F], [F, F, F], [F, F, T]]
    assert reductions.excluded(3, 3, different=different).tolist() == [[F, T, T], [F, T, T], [T, T, T]]
    assert reductions.excluded(3, 3, diagonals=(0,), same=same, keep=(0,)).tolist() == [[F] * 3] * 3


def test_empty_row_is_minus_infinity_or_zero_with_an_anchor_and_has_no_gradient():
    s, anchor = rand(2, 3).requires_grad_(), rand(2, seed=1).requires_grad_()
    out = torch.tensor([[False, True, False], [True, True, True]])
    plain, anchored = reductions.logsumexp(s, out), reductions.logsumexp(s, out, anchor=anchor)
    assert plain[1] == -INF
    assert anchored[1] == 0
    (plain + anchored).sum().backward()
    assert bool((s.grad[1] == 0).all())
    assert anchor.grad[1] == 0
    assert bool(s.grad.isfinite().all())


def test_scores_are_phi_of_u_plus_biases():
    x, y, r, c = rand(3, 2), rand(4, 2, seed=1), rand(3, seed=2), rand(4, seed=3)
    square = (x[:, None] - y[None]).square().sum(dim=2)
    near(reductions.score(x, y, scale=3.0, row_bias=r, col_bias=c), 3 * x @ y.T + r[:, None] + c)
    near(reductions.score(x, y, kind="sqdist", scale=3.0), -3 * square)
    near(reductions.score(x, y, kind="sqdist", phi="laplace", scale=4.0, col_bias=c), -2 * square.sqrt() + c)
    near(reductions.score(x, y, phi=("clamp", -0.5, 0.5), row_bias=r), (x @ y.T).clamp(-0.5, 0.5) + r[:, None])


def test_laplace_score_has_zero_gradient_where_points_coincide():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    reductions.score(x, kind="sqdist", phi="laplace").sum().backward()
    assert bool((x.grad == 0).all())


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y, t: contrastive.info_nce(x, y, x[:3] - y[:3], temperature=t, symmetric=True),
        lambda x, y, t: contrastive.info_nce(x, y, torch.stack([x - y, x + y], 1), temperature=t, in_batch=False),
        lambda x, y, t: contrastive.clip_loss(x, y, t),
        lambda x, y, t: contrastive.nt_xent(x, y, temperature=t),
        lambda x, y, t: contrastive.dcl(x, y, temperature=t),
        lambda x, y, t: contrastive.siglip_loss(x, y, t, t),
        lambda x, y, t: contrastive.sup_con(torch.cat([x, y]), torch.arange(8) // 3, temperature=t),
        lambda x, y, t: contrastive.sup_con(torch.stack([x, y], 1), torch.arange(4) // 3, temperature=t, form="in"),
        lambda x, y, t: geometry.uniformity(x, t=t) + geometry.alignment(x, y, power=3).sum(),
        lambda x, y, t: density.kde_log_density(x, y, bandwidth=t),
        lambda x, y, t: density.kde_log_density(x, y, bandwidth=t * y[0].abs(), weights=y[:, 0].square()),
        lambda x, y, t: density.kde_log_density(x, y, bandwidth=t, kernel="laplace"),
        lambda x, y, t: density.kde_log_density(x, y, concentration=t, kernel="vmf"),
        lambda x, y, t: density.kde_entropy(x, bandwidth=t, weights=y[:, 0].square()),
        lambda x, y, t: density.kde_entropy(x, bandwidth=t, estimator="plugin_normalized"),
        lambda x, y, t: density.kde_entropy(x, bandwidth=t, estimator="plugin", kernel="laplace"),
    ],
)
def test_autograd_of_each_oracle_agrees_with_finite_differences(function):
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    inputs = (rand(4, 3, seed=1).requires_grad_(), rand(4, 3, seed=2).requires_grad_(), t)
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize(
    ("D", "kappa"), [(3, 0.0), (3, 1.0), (3, 10.0), (16, 50.0), (128, 10.0), (128, 100.0), (1024, 1000.0)]
)
def test_vmf_normaliser_series_agrees_with_mpmath(D, kappa):
    series = density.log_hyp0f1_of_half_square(D / 2, kappa, torch.zeros((), dtype=torch.float64))
    near(series, closed_forms.log_hyp0f1(D / 2, kappa**2 / 4), rtol=1e-12)
    assert density.log_sphere_area(D) == pytest.approx(closed_forms.log_sphere_area(D), rel=1e-13)


def test_closed_forms_agree_with_published_values():
    assert closed_forms.log_hyp0f1(64, 25.0) == pytest.approx(0.389460, abs=1e-6)  # D = 128, κ = 10
    assert closed_forms.log_hyp0f1(512, 250000.0) == pytest.approx(371.807378, abs=1e-6)  # D = 1024, κ = 1000
    on_sphere = -math.log(10 / (4 * math.pi * math.sinh(10))) - 10 / math.tanh(10) + 1  # vMF on S², κ = 10
    assert closed_forms.vmf_entropy(3, 10.0) == pytest.approx(on_sphere, rel=1e-14)
    assert closed_forms.vmf_entropy(128, 100.0) == pytest.approx(-149.894384, abs=1e-6)
    assert closed_forms.gaussian_entropy(16) == pytest.approx(22.703, abs=1e-3)
    assert closed_forms.loo_entropy_limit(16, 0.679) == pytest.approx(23.212, abs=1e-3)
    # I(X; Y) is the entropies' sum minus the joint's, whose covariance has determinant (1 − ρ²)^D.
    joint = closed_forms.gaussian_entropy(40, 20 * math.log1p(-0.25))
    information = 2 * closed_forms.gaussian_entropy(20) - joint
    assert closed_forms.correlated_gaussian_information(20, 0.5) == pytest.approx(information, rel=1e-12)


@pytest.mark.parametrize("kernel", ["gaussian", "laplace", "vmf"])
def test_resubstitution_density_mixes_leave_one_out_and_the_kernel_at_zero(kernel):
    z = rand(30, 4)
    width = {"concentration": 3.0} if kernel == "vmf" else {"bandwidth": 0.8}
    at_zero = float(density.log_kernel(z, z, kernel=kernel, **width)[0, 0])
    others = [
        density.kde_log_density(z[i : i + 1], torch.cat([z[:i], z[i + 1 :]]), kernel=kernel, **width) for i in range(30)
    ]
    loo = torch.cat(others)
    near(density.kde_entropy(z, kernel=kernel, **width), -loo.mean())
    mixed = torch.logaddexp(loo + math.log1p(-1 / 30), torch.full_like(loo, at_zero - math.log(30)))
    resubstitution = density.kde_entropy(z, kernel=kernel, estimator="resubstitution", **width)
    near(resubstitution, -mixed.mean())
    assert float(resubstitution) <= closed_forms.resubstitution_cap(30, at_zero)


def test_equal_weights_change_nothing_and_weights_act_as_copies():
    z, q = rand(6, 2), rand(5, 2, seed=1)
    near(density.kde_entropy(z, bandwidth=0.5, weights=torch.full((6,), 7.0)), density.kde_entropy(z, bandwidth=0.5))
    counts = torch.tensor([1, 2, 3, 1, 1, 0])
    copies = density.kde_log_density(q, z.repeat_interleave(counts, dim=0), bandwidth=0.5)
    near(density.kde_log_density(q, z, bandwidth=0.5, weights=counts.double()), copies)


def test_leave_one_out_entropy_of_normal_points_nears_its_limit():
    entropy = float(density.kde_entropy(rand(3000, 2), bandwidth=0.4))
    assert entropy == pytest.approx(closed_forms.loo_entropy_limit(2, 0.4), abs=0.05)


def test_uniformity_of_uniform_points_nears_its_limit():
    z = torch.nn.functional.normalize(rand(3000, 8), dim=1)
    assert float(geometry.uniformity(z, t=2.0)) == pytest.approx(closed_forms.uniformity_limit(8, 2.0), abs=0.01)


def test_bandwidth_rules_by_hand():
    z = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)  # deviations 1 and 2
    near(density.bandwidth_rule("scott", z), [3 ** (-1 / 6), 2 * 3 ** (-1 / 6)])
    near(density.bandwidth_rule("silverman", z), [3 ** (-1 / 6), 2 * 3 ** (-1 / 6)])  # (D + 2)/4 = 1 at D = 2
    near(density.bandwidth_rule("scott", z, torch.ones(3)), density.bandwidth_rule("scott", z))


def test_recall_counts_ties_against_the_partner():
    x = torch.eye(3, dtype=torch.float64)
    assert geometry.recall(x, x, 1).tolist() == [1, 1, 1]
    assert geometry.recall(x, torch.zeros_like(x), 1).tolist() == [0, 0, 0]
    assert geometry.recall(x, torch.zeros_like(x), 3).tolist() == [1, 1, 1]
    assert geometry.recall(x, x.roll(1, 0), 1).tolist() == [0, 0, 0]
    near(geometry.mean_positive(x, x), 1.0)
    near(geometry.hardest_negative(x, -x), 0.0)


def test_matrix_form_rounds_unit_rows_and_the_gradient_of_products_to_the_dtype():
    x, y = rand(8, 5).float().requires_grad_(), rand(8, 5, seed=1).float()
    plain = contrastive.info_nce(x, y, temperature=0.1)
    (plain_grad,) = torch.autograd.grad(plain.sum(), x)
    with matrix_form(torch.bfloat16):
        rounded = contrastive.info_nce(x, y, temperature=0.1)
        (rounded_grad,) = torch.autograd.grad(rounded.sum(), x)
    for a, b in ((plain, rounded), (plain_grad, rounded_grad)):
        assert 1e-5 < float((a - b).detach().norm() / a.detach().norm()) < 2e-2
    with matrix_form(torch.float32):
        assert torch.equal(contrastive.info_nce(x, y, temperature=0.1), plain)
