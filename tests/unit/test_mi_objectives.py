"""Bounds by their names: what each takes and refuses, what it reports beside its value, and by which loss its critic learns."""

import math

import pytest
import torch
from torch import nn

import jessl_kernels as jk
from jessl_kernels import mi
from jessl_kernels.literals import BOUND_NAMES
from jessl_kernels.mi.objectives import TAKES
from tests import data
from tests.oracles import information as oracle
from tests.yardstick import judge

N, D = 37, 5
X, Y = data.pairs("random", N, D, seed=0)
TALL = nn.Linear(D, 1)
OPTIONS = {
    "baseline": TALL,
    "alpha": 0.3,
    "leave_out": "one",
    "tau": 2.0,
    "decay": 0.5,
    "u": nn.Bilinear(D, D, 1),
    "negatives": "all",
}
each = pytest.mark.parametrize("name", BOUND_NAMES)


@each
def test_the_loss_and_the_bound_have_gradients_that_differences_confirm(name):
    x, y = (t[:7].double().requires_grad_() for t in (X, Y))
    objective = mi.Objective(name, decay=0.0) if name == "mine" else mi.Objective(name)
    objective.double()
    assert torch.autograd.gradcheck(objective.bound_of, (x, y))
    # The loss of "mine" has another gradient than its value has: that of the mean over its average.
    assert name == "mine" or torch.autograd.gradcheck(objective, (x, y))


@pytest.mark.parametrize("every", [False, True], ids=["others", "all"])
def test_club_is_the_mean_over_all_pairs_that_it_does_not_look_at(every):
    inputs = {"x": X.float(), "y": Y.float(), "s": 0.3 * Y.float().roll(3, 0)}
    judge(
        "club",
        lambda x, y, s: mi.club(y, x, s, "all" if every else "others"),
        lambda x, y, s: oracle.club(y, x, s, every),
        inputs,
        seed=0,
    )


def test_club_does_not_lose_its_digits_far_from_the_origin():
    far = 1e4
    value = mi.club(Y.float() + far, X.float() + far, torch.zeros(N, D))
    moved = [(t + far).double() for t in (Y.float(), X.float())]
    torch.testing.assert_close(value.double(), oracle.club(*moved, torch.zeros(N, D).double()), rtol=1e-4, atol=1e-5)


def test_club_is_above_the_information_at_the_true_model_and_named_no_bound_below_zero():
    rho, dims = 0.8, 3
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 50_000, dims, generator=generator)
    y = rho * x + math.sqrt(1 - rho**2) * noise

    class True_(nn.Module):
        def forward(self, x):
            return rho * x, torch.full_like(x, 0.5 * math.log(1 - rho**2))

    found = mi.bound("club", x, y, True_(), block=1000)
    information = -dims / 2 * math.log(1 - rho**2)
    exact = dims * rho**2 / (1 - rho**2)  # at the true model: E over pairs minus E over the product, by moments
    assert found.kind == "upper" and found.note == "" and found.value > information
    assert abs(found.value - exact) < 4 * found.stderr
    wrong = mi.bound("club", x, -y)
    assert wrong.value < 0 and "not a bound yet" in wrong.note


def test_the_model_of_club_learns_by_likelihood_and_its_spread_is_limited():
    model = mi.Gaussian(D, D, hidden=(8,), limit=2.0)
    with torch.no_grad():
        model.network[-1].bias.fill_(100.0)
    mean, log_std = model(X.float())
    assert mean.shape == log_std.shape == (N, D)
    torch.testing.assert_close(log_std, torch.full((N, D), 2.0))
    loss = mi.Objective("club", model)(X.float(), Y.float())
    normal = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(loss, -normal.log_prob(Y.float()).sum(dim=1).mean())


@each
def test_a_bound_takes_its_own_options_and_no_other(name):
    for option, value in OPTIONS.items():
        if name in TAKES[option]:
            mi.Objective(name, **{option: value})
        else:
            with pytest.raises(ValueError, match=rf"^Objective: {option} is .*, must be left out: .* not of '{name}'"):
                mi.Objective(name, **{option: value})


@pytest.mark.parametrize(
    ("name", "option", "value", "error"),
    [
        ("interpolated", "alpha", 0, ValueError),
        ("interpolated", "alpha", 1.5, ValueError),
        ("interpolated", "alpha", "half", TypeError),
        ("interpolated", "leave_out", "two", ValueError),
        ("interpolated", "baseline", 1.0, TypeError),
        ("tuba", "baseline", lambda y: y, TypeError),
        ("smile", "tau", 0, ValueError),
        ("smile", "tau", math.nan, ValueError),
        ("mine", "decay", 1.0, ValueError),
        ("flo", "u", 1.0, TypeError),
        ("nwj", "negatives", "diagonal", ValueError),
        ("nwj", "critic", 3, TypeError),
        ("club", "critic", mi.InnerProduct(), TypeError),
        ("njw", "name", "njw", ValueError),
    ],
)
def test_options_that_no_bound_can_use(name, option, value, error):
    with pytest.raises(error, match=rf"^Objective: {option} is .*, must "):
        mi.Objective(name, **({} if option == "name" else {option: value}))


def test_a_misspelt_name_lists_the_bounds():
    with pytest.raises(ValueError, match=r"must be one of 'info_nce', 'nwj', .*'club'"):
        jk.mi.bound("njw", X, Y)


@pytest.mark.parametrize(
    ("x", "y", "argument", "error"),
    [
        (X.tolist(), Y, "x", TypeError),
        (X, Y.long(), "y", TypeError),
        (X, Y[:-1], "y", ValueError),
        (X[:1], Y[:1], "x", ValueError),
        (X[:, :3], Y, "y", ValueError),
        (X[0], Y[0], "x", ValueError),
        (X, Y.to("meta"), "y", ValueError),
    ],
)
@pytest.mark.parametrize("name", ["nwj", "club"])
def test_batches_that_are_no_pairs(name, x, y, argument, error):
    with pytest.raises(error, match=rf"^\w[\w.]*: ({argument}|the critic's mean) is .*, "):
        mi.bound(name, x, y)


def test_blocks_that_do_not_fit():
    for block, error in ((1, ValueError), (N + 1, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match=r"^Objective.value: block is .*, must "):
            mi.bound("nwj", X, Y, block=block)


class Wrong(mi.Critic):
    def forward(self, x, y):
        return x @ y.T


def test_critics_and_models_that_give_something_else():
    wrong = {
        "f\\(x, y\\) is of shape": lambda x, y: x @ y.T[:, :1],
        "f\\(x, y\\) is a list": lambda x, y: [1.0],
        "critic\\(x, y\\) is a tensor": Wrong(),
    }
    for words, critic in wrong.items():
        with pytest.raises((TypeError, ValueError), match=words):
            mi.bound("nwj", X, Y, critic)
    with pytest.raises(TypeError, match=r"critic is .*must give the pair of tensors \(mean, log_std\)"):
        mi.bound("club", X, Y, nn.Linear(D, D))
    for name, option in (("tuba", "baseline"), ("flo", "u")):
        module = nn.Linear(D, 2) if option == "baseline" else nn.Bilinear(D, D, 2)
        with pytest.raises(ValueError, match=rf"^Objective: {option}'s output is of shape \(37, 2\), must be \(37,\)"):
            mi.bound(name, X.float(), Y.float(), **{option: module})


def test_what_is_reported_beside_the_value():
    found = {name: mi.bound(name, 0.1 * X, 0.1 * Y, block=10) for name in BOUND_NAMES}
    kinds = {name: b.kind for name, b in found.items() if b.kind != "lower"}
    assert kinds == {"dv": "neither", "mine": "neither", "smile": "neither", "club": "upper"}
    caps = {name: b.cap for name, b in found.items() if b.cap < math.inf}
    assert caps == {"info_nce": math.log(10), "interpolated": 1 + math.log(9 / 0.5)}
    assert mi.bound("interpolated", X, Y, block=10, alpha=1.0).cap == math.log(9)
    assert all(b.blocks == 3 and b.stderr > 0 for b in found.values())
    assert math.isnan(mi.bound("nwj", X, Y).stderr)


@pytest.mark.parametrize("name", ["info_nce", "nwj", "js", "tuba", "flo", "dv", "mine", "interpolated"])
def test_the_best_scores_of_a_batch_reach_the_cap_and_no_others_pass_it(name):
    """Others −∞ and positives log N (1 + log N for NWJ): the largest value with the positives among the negatives."""
    n = 10
    best = math.log(n) + (name == "nwj")
    options = {"negatives": "all"} if name in TAKES["negatives"] else {}
    if name == "flo":
        options["u"] = Constant(-math.log(n))
    if name == "interpolated":
        options, best = {"alpha": 1.0}, 80.0
    for positive, reached in ((best, True), (best - 1, name in ("info_nce", "dv", "mine")), (best + 1, None)):
        critic = mi.OfBlocks(lambda x, y, s=positive: (s + 1e4) * x @ y.T - 1e4)
        found = mi.bound(name, torch.eye(n), torch.eye(n), critic, **options)
        assert found.cap == (math.log(n - 1) if name == "interpolated" else math.log(n))
        assert found.value < found.cap + 1e-4
        if reached:
            assert found.value > found.cap - 1e-3


class Constant(nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x, y):
        return torch.full((len(x),), self.value)


def test_smile_and_js_train_by_the_jensen_shannon_objective_and_mine_by_a_moving_average():
    x, y = X.float(), Y.float()
    for name in ("js", "smile"):
        torch.testing.assert_close(mi.Objective(name)(x, y), -oracle.js(oracle.scores(x, y)))
    z = x.clone().requires_grad_()
    objective = mi.Objective("mine", decay=0.9)
    (first,) = torch.autograd.grad(objective(z, y), z)
    (plain,) = torch.autograd.grad(-oracle.dv(oracle.scores(z, y)), z)
    torch.testing.assert_close(first, plain, rtol=1e-4, atol=1e-6)  # the average is the batch's own at first
    mean = float(objective.log_average.exp())
    loss = objective(2 * z, y)
    s = oracle.scores(2 * z, y)
    now = (oracle.nwj(s) - s.diagonal().mean()).neg() * math.e
    expected = -(s.diagonal().mean() - now / (0.9 * mean + 0.1 * now.item()))
    torch.testing.assert_close(*(torch.autograd.grad(v, z)[0] for v in (loss, expected)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.detach(), -oracle.dv(s).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leave_out", ["each", "one"])
@pytest.mark.parametrize(
    "critic", [mi.InnerProduct(), mi.OfBlocks(lambda x, y: x @ y.T, most=25)], ids=["dots", "blocks"]
)
def test_a_negative_that_holds_its_row_leaves_the_interpolated_bound_exact(critic, leave_out):
    """Without it the row's sum is e^−40 of what it was, and no difference of sums in fp32 would show it."""
    x, y = torch.eye(7), torch.eye(7).roll(1, 0) * 40 + torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    expected = oracle.interpolated(
        oracle.scores(x.double(), y.double()), torch.zeros(7).double(), 0.5, leave_out == "one"
    )
    objective = mi.Objective("interpolated", critic, leave_out=leave_out)
    found = objective.bound_of(x.requires_grad_(), y)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found, x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["nwj", "js", "info_nce", "dv"])
def test_sums_of_half_precision_blocks_are_in_fp32(name):
    x, y = (0.3 * t.to(torch.bfloat16) for t in (X, Y))
    found = mi.bound(name, x, y, lambda x, y: x @ y.T)
    scores = (x @ y.T).double()
    expected = {"js": oracle.js_read_out}.get(name, getattr(oracle, name))(scores)
    assert abs(found.value - float(expected)) < 1e-4


def test_positives_and_sums_see_the_same_numbers_under_autocast():
    x = torch.full((16, 1), 31.9)
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(mi.bound("dv", x, x).value) < 1e-4


def test_the_average_of_mine_forgets_what_is_not_finite_and_keeps_no_wrapper():
    objective = mi.Objective("mine")
    x, y = X.float(), Y.float()
    objective(x, y)
    known = objective.log_average.clone()
    objective(torch.full_like(x, 1e25), torch.full_like(y, 1e25))
    torch.func.grad(lambda x: objective(x, y))(x)
    assert torch.equal(objective.log_average, known)
    objective.eval()(2 * x, y)
    assert torch.equal(objective.log_average, known)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mi.Joint(2, 2, hidden=()), "Joint: hidden is"),
        (lambda: mi.Joint(2, 2, hidden=16), "Joint: hidden is"),
        (lambda: mi.Separable(2, 2, hidden=(0,)), "critic: hidden is"),
        (lambda: mi.OfBlocks(torch.matmul, most=3), "OfBlocks: most is 3"),
        (lambda: mi.Objective("nwj", mi.InnerProduct), "Objective: critic is"),
        (lambda: mi.Objective("dv", negatives=""), "Objective: negatives is ''"),
        (lambda: mi.bounds.flo(mi.DotScores(X, Y), X[:, :1]), "flo: u is of shape"),
        (lambda: mi.bounds.tuba(mi.DotScores(X, Y), 0.0), "tuba: log_baseline is"),
        (lambda: mi.bounds.interpolated(mi.DotScores(X, Y), X[:, 0], 0.0), "interpolated: alpha is"),
        (lambda: mi.bounds.interpolated(mi.DotScores(X, Y), X[:, 0], 0.5, "eech"), "interpolated: leave_out is"),
        (lambda: mi.bounds.smile(mi.DotScores(X, Y), -1.0), "smile: tau is"),
        (lambda: mi.club(Y[:1], X[:1], X[:1]), "club: y is of shape"),
        (lambda: mi.club(Y, X[:, :1], X), "club: mean is of shape"),
        (lambda: mi.club(Y, X, X, "none"), "club: negatives is"),
    ],
)
def test_bad_input_to_critics_and_functions(make, words):
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        make()
