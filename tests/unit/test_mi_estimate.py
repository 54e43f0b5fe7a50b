"""A bound from a sample: the critic is trained on some pairs, other pairs stop it, and the value is of pairs that did neither."""

import dataclasses
import io
import json
import math
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from jessl_kernels import mi
from jessl_kernels.literals import BOUND_NAMES, CRITIC_NAMES
from jessl_kernels.mi.samples import split
from jessl_kernels.mi.student import quantile
from tests import data

SMALL = {"batch_size": 50, "max_steps": 40, "learning_rate": 3e-3}


def correlated(N, D, nats, seed=0):
    return data.correlated(N, D, math.sqrt(1 - math.exp(-2 * nats / D)), seed, torch.float32)


X, Y = correlated(1000, 2, 0.7)


class Dots(nn.Module):
    """A critic of one's own: scores of a block."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, x, y):
        return self.scale * x @ y.T


@pytest.fixture(scope="module")
def found():
    return mi.estimate(X, Y, **SMALL)


@pytest.mark.parametrize("bound", BOUND_NAMES)
def test_every_bound_learns_from_gaussian_pairs_and_stays_on_its_side_of_the_information(bound):
    found = mi.estimate(*correlated(2000, 2, 0.7), bound, **{**SMALL, "max_steps": 60})
    assert found.bound == bound and found.blocks == 8 and found.kind == mi.bound(bound, X, Y).kind
    assert 0.02 < found.stderr < 0.3
    if found.kind == "upper":
        assert 0.7 < found.value < 2.03 + 3 * found.stderr  # D ρ²/(1 − ρ²) with the true q
    else:
        assert 0.15 < found.value < 0.7 + 3 * found.stderr


@pytest.mark.parametrize("critic", [*CRITIC_NAMES, None])
def test_every_critic_by_its_name_learns(critic):
    linear = critic in ("inner_product", "bilinear")
    found = mi.estimate(
        X, Y, critic=critic, **({"batch_size": 50, "max_steps": 96} if linear else {**SMALL, "max_steps": 24})
    )
    assert found.critic == (critic or "separable")
    assert 0.3 < found.value < 1.1


def test_independent_pairs_have_none():
    found = mi.estimate(X, Y.roll(1, 0), **SMALL)
    assert abs(found.value) < 0.1


def test_a_critic_that_learns_its_pairs_by_heart_gains_nothing_on_others():
    x, y = torch.randn(2, 300, 20, generator=torch.Generator().manual_seed(0))
    found = mi.estimate(x, y, batch_size=30, max_steps=120, patience=1000, learning_rate=3e-3)
    assert found.history[-1].training > 1 > 0.1 > found.value
    assert found.best_step < found.steps == 120 and not found.stopped_early


def test_patience_ends_the_training_and_the_best_state_is_taken():
    found = mi.estimate(X, Y, batch_size=50, patience=2, learning_rate=1e-2)
    every = (1000 - 400) // 50
    assert [point.step for point in found.history] == list(range(0, found.steps + 1, every))
    assert found.stopped_early and found.best_step == found.steps - 2 * every
    assert found.best_step == max(found.history, key=lambda point: point.stopping).step
    shorter = mi.estimate(X, Y, batch_size=50, max_steps=found.best_step, learning_rate=1e-2)
    assert shorter.value == found.value and shorter.history == found.history[:-2]


def test_the_splits_are_of_different_pairs_and_what_is_held_out_is_whole_blocks():
    rows = split("f", 1003, 30, 0.2, torch.Generator().manual_seed(0))
    assert [len(part) for part in (rows.training, rows.stopping, rows.held_out)] == [643, 180, 180]
    assert torch.cat([rows.training, rows.stopping, rows.held_out]).sort().values.equal(torch.arange(1003))
    many = split("f", 10_000, 10, 0.2, torch.Generator().manual_seed(0))
    assert len(many.stopping) == 320 and len(many.held_out) == 2000


def test_the_same_seed_gives_the_same_estimate_and_leaves_the_global_generator_alone(found):
    torch.randn(3)
    before = torch.random.get_rng_state()
    assert mi.estimate(X, Y, **SMALL) == found
    assert torch.random.get_rng_state().equal(before)
    assert mi.estimate(X, Y, **{**SMALL, "max_steps": 5}, seed=1) != mi.estimate(X, Y, **{**SMALL, "max_steps": 5})


@pytest.mark.parametrize(
    "form",
    [
        lambda z: z.numpy(),
        lambda z: z.double(),
        lambda z: z.double().numpy().astype(">f8"),
        lambda z: z.clone().requires_grad_(),
        lambda z: np.broadcast_to(z.numpy(), z.shape),  # read-only
    ],
    ids=["numpy", "fp64", "other byte order", "with a graph", "read-only"],
)
def test_arrays_and_tensors_of_the_same_numbers_give_the_same_estimate(form):
    few = {**SMALL, "max_steps": 5}
    assert mi.estimate(form(X), form(Y), **few) == mi.estimate(X, Y, **few)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_and_trained_in_single(dtype, found):
    half = mi.estimate(X.to(dtype), Y.to(dtype), **SMALL)
    assert half.value == pytest.approx(found.value, abs=0.1)
    assert next(half.objective.parameters()).dtype == torch.float32


def test_an_array_of_one_dimension_is_one_column():
    few = {**SMALL, "max_steps": 5}
    assert mi.estimate(X[:, 0], Y[:, 0].numpy(), **few) == mi.estimate(X[:, :1], Y[:, :1], **few)


def test_units_and_origins_of_columns_do_not_matter_unless_standardize_is_off():
    moved = X.double() * torch.tensor([1e6, 1e-6]) + torch.tensor([3.0, 1e3])
    few = {"dtype": torch.float64, **SMALL, "max_steps": 12}
    ours, same = (mi.estimate(z, Y.double(), **few).value for z in (moved, X.double()))
    assert ours == pytest.approx(same, abs=1e-6)
    assert abs(mi.estimate(moved, Y.double(), standardize=False, **few).value - same) > 0.1


def test_a_module_is_copied_and_the_trained_copy_is_in_the_result():
    critic = Dots()
    found = mi.estimate(X, Y, critic=critic, **SMALL)
    assert found.critic == "Dots" and found.value > 0.2
    assert critic.scale.item() == pytest.approx(0.1) and critic.scale.grad is None
    assert found.objective.critic.f.scale > 0.2
    z = [(t - t.mean(0)) / t.std(0) for t in (X, Y)]
    assert found.objective.value(*z, block=50).value == pytest.approx(found.value, abs=0.1)
    assert mi.estimate(X, Y, critic=critic, **SMALL) == found


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.float64, "standardize": False}], ids=["cast", "as it is"])
def test_it_trains_where_gradients_are_off(mode, options):
    few = {**SMALL, "max_steps": 5, **options}
    expected = mi.estimate(X.double(), Y.double(), critic=Dots(), **few)
    with mode():
        assert mi.estimate(X.double().clone(), Y.double().clone(), critic=Dots(), **few) == expected
        assert not torch.is_grad_enabled()


def test_options_of_the_objective_pass_through():
    few = {**SMALL, "max_steps": 2}
    assert mi.estimate(X, Y, "smile", tau=0.1, **few).objective.tau == 0.1
    assert mi.estimate(X, Y, "tuba", baseline=None, **few).objective.number is not None
    assert isinstance(mi.estimate(X, Y, "tuba", **few).objective.baseline, nn.Sequential)


class Wrong(Dots):
    def forward(self, x, y):
        return super().forward(x, y)[:, :1]


BAD = {
    "ksg": ({"bound": "ksg"}, ValueError, "bound is 'ksg', which is no bound.*jk.mi.ksg"),
    "bound": ({"bound": "nwjj"}, ValueError, "bound is 'nwjj', must be one of 'info_nce'"),
    "critic": ({"critic": "joined"}, ValueError, "critic is 'joined', must be one of 'inner_product'"),
    "function": ({"critic": torch.matmul}, TypeError, "critic is .*must be a module, since it is trained"),
    "shapes": ({"critic": Wrong()}, ValueError, r"f\(x, y\) is of shape \(\d+, 1\), must be \(\d+, \d+\)"),
    "nothing to train": ({"critic": nn.Bilinear(2, 2, 1).requires_grad_(False)}, ValueError, "critic is a Bilinear without one"),
    "club": ({"bound": "club", "critic": "joint"}, ValueError, "critic is 'joint', must be None or a module"),
    "columns": ({"y": Y[:, :1], "critic": "inner_product"}, ValueError, "critic is 'inner_product', must be 'bilinear'"),
    "list": ({"x": [[1.0]]}, TypeError, r"x is a list, \[\[1.0\]\], must be a float tensor or a NumPy array"),
    "integers": ({"x": X.long()}, TypeError, "x is a tensor .* dtype int64, must be float64.*: cast it"),
    "array of integers": ({"y": Y.long().numpy()}, TypeError, "y is an array .* dtype int64, must be float32.*: cast it"),
    "images": ({"x": X[:, None, None]}, ValueError, r"x is of shape \(1000, 1, 1, 2\), must have 1 or 2 dimensions"),
    "empty": ({"x": X[:0]}, ValueError, r"x is of shape \(0, 2\), must not be empty"),
    "lengths": ({"y": Y[:-1]}, ValueError, "y is of 999 rows, must have 1000 like x"),
    "nan": ({"y": Y.clone().index_put((torch.tensor(7), torch.tensor(1)), torch.tensor(math.nan))}, ValueError,
            "y is nan at row 7, column 1, must have neither NaN nor infinities"),
    "constant": ({"x": torch.cat([X, 0 * X + 0.1], dim=1)}, ValueError, "x is constant in column 2 of the 600 rows"),
    "huge": ({"x": 1e300 * X.double()}, ValueError, "x is too large in column 0"),
    "tiny": ({"y": Y.double().numpy() * np.array([1, 1e-200])}, ValueError, "y is too small in column 1, must have a standard"),
    "beyond fp32": ({"y": Y.abs().double().numpy() * np.array([1, 1e200]), "standardize": False}, ValueError,
                    r"y is .*e\+\d+ at row 0, column 1, must be within what torch.float32 holds: standardize"),
    "masked": ({"x": np.ma.masked_greater(X.numpy(), 1)}, TypeError,
               r"x is a masked array of shape \(1000, 2\), must not be masked"),
    "rows": ({"x": X[:9], "y": Y[:9]}, ValueError, "x is of 9 rows, must have more"),
    "batch": ({"batch_size": 101}, ValueError, "batch_size is 101, must be at most 100 for 1000 pairs"),
    "batch of one": ({"batch_size": 1}, ValueError, "batch_size is 1, must be at least 2"),
    "steps": ({"max_steps": 0}, ValueError, "max_steps is 0, must be at least 1"),
    "patience": ({"patience": 2.5}, TypeError, "patience is a float, 2.5, must be an int"),
    "seed": ({"seed": -1}, ValueError, "seed is -1, must be at least 0"),
    "large seed": ({"seed": 2**63}, ValueError, "seed is 9223372036854775808, must be below"),
    "held out": ({"held_out": 0.5}, ValueError, "held_out is 0.5, must be above 0 and below 0.5"),
    "rate": ({"learning_rate": 0.0}, ValueError, "learning_rate is 0.0, must be > 0"),
    "device": ({"device": "gpu"}, ValueError, "device is 'gpu', must be a device that torch finds here"),
    "device of another type": ({"device": 3.0}, TypeError, "device is a float, 3.0"),
    "dtype": ({"dtype": torch.bfloat16}, ValueError, "dtype is torch.bfloat16, must be torch.float32 or torch.float64"),
    "progress": ({"progress": "yes"}, TypeError, "progress is a str, 'yes', must be True or False"),
    "standardize": ({"standardize": 1}, TypeError, "standardize is a int, 1, must be True or False"),
    "option": ({"tau": 3.0}, ValueError, "tau is 3.0, must be left out: it is an option of 'smile'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    options, error, match = BAD[case]
    with pytest.raises(error, match=match):
        mi.estimate(**{"x": X, "y": Y, "batch_size": 50, "max_steps": 1, **options})


class Then(mi.Critic):
    """Inner products, until something happens to them at a step of the training."""

    def __init__(self, step, happens):
        super().__init__()
        self.at, self.happens, self.scale = step, happens, nn.Parameter(torch.tensor(0.1))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x, y):
        self.count += self.training
        scale = self.happens(self.scale) if self.training and self.count == self.at else self.scale
        return mi.DotScores(scale * x, y)


@pytest.mark.parametrize("step", [5, 15, 38])
def test_a_loss_that_is_not_finite_is_an_error_naming_the_step_and_a_remedy(step):
    match = rf"the loss is nan at step {step}: try a smaller learning_rate \(it was 0.003\)"
    with pytest.raises(RuntimeError, match=match):
        mi.estimate(X, Y, critic=Then(step, lambda scale: scale * math.nan), **SMALL)


def test_training_with_a_rate_far_too_large_is_an_error_and_never_a_nan():
    with pytest.raises(RuntimeError, match="try a smaller learning_rate"):
        mi.estimate(X, Y, "nwj", **{**SMALL, "learning_rate": 1e3})


def test_an_interruption_passes_through():
    def interrupt(scale):
        raise KeyboardInterrupt

    before = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        mi.estimate(X, Y, critic=Then(3, interrupt), **SMALL)
    assert torch.random.get_rng_state().equal(before)


def test_a_value_near_its_cap_says_so_and_one_below_does_not(found):
    near = dataclasses.replace(found, value=0.81 * math.log(50))
    assert near.near_cap and "near its cap of 3.912 nats, which limits the value" in str(near)
    assert not dataclasses.replace(found, value=0.79 * math.log(50)).near_cap
    assert not found.near_cap and found.warning == "" and len(str(found).splitlines()) == 3
    assert dataclasses.replace(found, note="not a bound yet").warning == "not a bound yet"


def test_the_interval_is_students_and_the_result_prints_and_becomes_json(found):
    half = scipy.stats.t.ppf(0.975, found.blocks - 1) * found.stderr
    assert found.interval == pytest.approx((found.value - half, found.value + half))
    low, high = found.interval
    line = f"info_nce, lower bound: {found.value:.3f} nats, 95 % from {low:.3f} to {high:.3f}, cap 3.912\n"
    assert line in repr(found)
    made = json.loads(json.dumps(dataclasses.replace(found, cap=math.inf).to_dict(), allow_nan=False))
    assert made["value"] == found.value and made["cap"] is None and made["interval"] == [low, high]
    assert made["history"][0] == vars(found.history[0]) and "objective" not in made


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 10, 37, 400, 999])
@pytest.mark.parametrize("inside", [0.5, 0.95, 0.999])
def test_quantiles_of_students_t(inside, degrees):
    assert quantile(inside, degrees) == pytest.approx(scipy.stats.t.ppf((1 + inside) / 2, degrees), rel=1e-9)
    assert quantile(inside, 10**6) == pytest.approx(scipy.stats.norm.ppf((1 + inside) / 2), rel=0.01)


def test_a_plot_shows_the_training_the_value_and_the_cap(found, tmp_path):
    (axes,) = found.plot(tmp_path / "plot.png").axes
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["pairs to stop by"] == [point.stopping for point in found.history]
    assert lines["cap 3.912"] == [found.cap] * 2
    uncapped = dataclasses.replace(found, cap=math.inf).plot()
    assert not any("cap" in line.get_label() for line in uncapped.axes[0].lines)


def test_a_bar_is_shown_if_it_is_asked_for_and_not_elsewhere_than_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    mi.estimate(X, Y, **{**SMALL, "max_steps": 12}, progress=True)
    assert "nats" in capsys.readouterr().err
    mi.estimate(X, Y, **{**SMALL, "max_steps": 12})
    assert capsys.readouterr().err == ""


def test_without_an_open_stderr_there_is_no_bar(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stderr in (None, closed):
        monkeypatch.setattr(sys, "stderr", stderr)
        for progress in (None, True):
            assert mi.estimate(X, Y, **{**SMALL, "max_steps": 1}, progress=progress).steps == 1


def test_rich_and_matplotlib_are_named_where_they_are_missing(found, monkeypatch):
    for name in ("rich", "rich.console", "rich.progress", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    few = {**SMALL, "max_steps": 1}
    assert mi.estimate(X, Y, **few).steps == 1
    with pytest.raises(ImportError, match="progress=True needs rich: pip install rich"):
        mi.estimate(X, Y, **few, progress=True)
    with pytest.raises(ImportError, match="plot: needs matplotlib: pip install matplotlib"):
        found.plot()


def test_the_trained_critic_reads_other_pairs_by_the_columns_of_its_training():
    x = 5 + 3 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    y = x + torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
    found = mi.estimate(x, y, "nwj", "bilinear", batch_size=128, max_steps=300, dtype=torch.float64)
    again = found.on(x, y)
    mean, deviation = (torch.stack([getattr(c, part) for c in found.columns]) for part in ("mean", "deviation"))
    ready = [(z.double() - m) / d for z, m, d in zip((x, y), mean, deviation, strict=True)]
    assert again.value == found.objective.value(*ready, 128).value
    assert again.blocks == 3000 // 128
    assert found.on(x, y.flip(0)).value < 0.1 < again.value


def test_other_pairs_that_do_not_fit_the_training():
    x = torch.randn(600, 2)
    found = mi.estimate(x, x + torch.randn(600, 2), "nwj", "bilinear", batch_size=32, max_steps=1)
    with pytest.raises(ValueError, match=r"^on: y is of shape \(600, 1\), must have 2 columns, as in the training"):
        found.on(x, x[:, :1])
    with pytest.raises(ValueError, match=r"^on: x is of 20 rows, must have at least 32, the batch size"):
        found.on(x[:20], x[:20])
    with pytest.raises(ValueError, match=r"^on: y is of 599 rows, must have 600 like x"):
        found.on(x, x[:599])
