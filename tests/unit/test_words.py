"""The words of scores and of losses, each defined once in each of three languages: they are the same functions."""

import importlib.util

import pytest
import torch

from jessl_kernels.native import native, native_status
from jessl_kernels.problem.join import JOINS
from jessl_kernels.problem.phi import PHIS
from jessl_kernels.problem.psi import PSIS
from tests import executor

PARAMETERS = {"clamp": (-2.0, 1.5), "student": (2.5,)}
VALUES = torch.tensor([-80.0, -20.0, -3.0, -0.7, -0.1, -1e-3, 0.0, 1e-3, 0.4, 2.0, 17.0, 60.0], dtype=torch.float64)
BELOW = VALUES[VALUES < 0]  # where log(1 − e^s) is, and u of a distance
EDGE = torch.tensor([-1 - 1e-12, -1.0, -1 + 1e-12, -0.999, -0.5, -1e-12], dtype=torch.float64)  # of a support


def of_join(name: str) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Sums in every order of size."""
    generator = torch.Generator().manual_seed(0)
    N = tuple(8 * torch.randn(40, generator=generator, dtype=torch.float64) for _ in range(JOINS[name].tilts))
    P = 8 * torch.randn(40, generator=generator, dtype=torch.float64)
    spread = torch.rand(40, generator=generator, dtype=torch.float64)
    return [(N, P, spread, torch.randint(1, 9, (40,), generator=generator).double())]


@pytest.mark.parametrize("name", JOINS)
def test_slopes_of_a_join_are_its_derivatives(name):
    for N, P, spread, n in of_join(name):
        leaves = [t.clone().requires_grad_() for t in (*N, P, spread)]
        value = JOINS[name].value(tuple(leaves[: len(N)]), leaves[-2], leaves[-1], n)
        truth = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        of_n, of_p, of_spread = JOINS[name].slopes(N, P, spread, n)
        for found, expected in zip((*of_n, of_p, of_spread), truth, strict=True):
            zero = torch.zeros_like(P)
            torch.testing.assert_close(zero if found is None else found, zero if expected is None else expected)


@pytest.mark.parametrize("name", JOINS)
def test_a_join_is_the_same_in_cpp(name):
    if not native_status().available:
        pytest.skip(native_status().reason)
    for N, P, spread, n in of_join(name):
        value, (of_n, of_p, of_spread) = JOINS[name].value(N, P, spread, n), JOINS[name].slopes(N, P, spread, n)
        for i in range(len(P)):
            found, slopes = native().join(name, [float(t[i]) for t in N], float(P[i]), float(spread[i]), float(n[i]))
            assert found == pytest.approx(float(value[i]), rel=1e-13, abs=1e-15)
            expected = [*(t[i] for t in of_n), *(0.0 if t is None else t[i] for t in (of_p, of_spread))]
            assert flat(slopes)[: len(expected)] == pytest.approx([float(t) for t in expected], rel=1e-13, abs=1e-15)


def flat(slopes) -> list[float]:
    found = []
    for part in slopes:
        found += flat(part) if isinstance(part, (list, tuple)) else [float(part)]
    return found


@pytest.mark.parametrize("name", PSIS)
def test_a_psi_has_its_slope_and_is_the_same_in_cpp(name):
    values = (BELOW if name == "log1m_exp" else VALUES[VALUES != 0]).clone().requires_grad_()
    value = PSIS[name].value(values)
    expected = torch.autograd.grad(value.sum(), values, allow_unused=True)[0] if value.requires_grad else None
    slope = PSIS[name].slope(values.detach())
    torch.testing.assert_close(slope, torch.zeros_like(slope) if expected is None else expected, rtol=1e-12, atol=1e-15)
    empty = torch.tensor([-torch.inf], dtype=torch.float64)
    assert PSIS[name].value(empty) == 0 and PSIS[name].slope(empty) == 0
    if native_status().available:
        for s, v, d in zip(values.tolist(), value.tolist(), slope.tolist(), strict=True):
            assert native().psi(name, s) == pytest.approx((v, d), rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("name", PHIS)
def test_a_phi_is_the_same_in_cpp(name):
    if not native_status().available:
        pytest.skip(native_status().reason)
    parameters = PARAMETERS.get(name, ())
    for u in of_phi(name).tolist():
        one = torch.tensor([u], dtype=torch.float64)
        value = PHIS[name].value(one.clone(), *parameters)
        slope = PHIS[name].slope(one.clone(), *parameters)
        found = native().phi(name, *(*parameters, 0.0, 0.0)[:2], u)
        assert found == pytest.approx((float(value), float(slope)), rel=1e-13, nan_ok=True)


def of_phi(name: str) -> torch.Tensor:
    """Scores at which a φ is defined, at its edges, where two points meet, and NaN."""
    known = PHIS[name]
    values = VALUES if "dot" in known.kinds else torch.cat([BELOW, torch.zeros(1, dtype=torch.float64)])
    return torch.cat([values, EDGE if known.compact else EDGE[:0], torch.tensor([torch.nan], dtype=torch.float64)])


@pytest.mark.parametrize("name", PHIS)
def test_the_slope_of_a_phi_is_its_derivative_and_finite_everywhere(name):
    parameters, u = PARAMETERS.get(name, ()), of_phi(name)[:-1]
    slope = PHIS[name].slope(u.clone(), *parameters)
    assert slope.isfinite().all()
    smooth = (u < -1e-6) & ((u + 1).abs() > 1e-6) if PHIS[name].kinds == ("sqdist",) else u > -torch.inf
    u, slope = u[smooth], slope[smooth]
    step = 1e-6 * (u.abs() if PHIS[name].kinds == ("sqdist",) else torch.ones_like(u))
    high, low = (PHIS[name].value(u + side * step, *parameters) for side in (1, -1))
    truth = torch.where(high == low, 0.0, (high - low) / (2 * step))  # also where both are −inf
    torch.testing.assert_close(slope, truth, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, phi in PHIS.items() if phi.compact])
def test_a_compact_phi_has_a_support(name):
    inside, outside = torch.tensor([0.0, -0.5, -0.999]), torch.tensor([-1.0, -1.5, -9.0, -torch.inf])
    value, slope = PHIS[name].value(inside.clone()), PHIS[name].slope(inside.clone())
    assert value[0] == 0 and (value <= 0).all() and value.isfinite().all() and (slope >= 0).all()
    assert (PHIS[name].value(outside.clone()) == -torch.inf).all() and not PHIS[name].slope(outside.clone()).any()


def test_every_language_knows_the_same_words():
    if importlib.util.find_spec("triton") is not None:
        with executor.gpu():
            from jessl_kernels.triton import words

            assert set(words.JOINS) == set(JOINS) and set(words.PSIS) == set(PSIS) and set(words.PHIS) == set(PHIS)
    if native_status().available:
        for name in JOINS:
            native().join(name, [0.0] * JOINS[name].tilts, 0.0, 0.0, 1.0)
        for name in PSIS:
            native().psi(name, -1.0)
        with pytest.raises(ValueError, match="unknown join"):
            native().join("no such join", [0.0], 0.0, 0.0, 1.0)
