"""The words of scores and of losses, each defined once in each of three languages: they are the same functions."""

import importlib.util

import pytest
import torch

from jessl_kernels.native import native, native_status
from jessl_kernels.problem.join import JOINS
from jessl_kernels.problem.phi import CLAMP, IDENTITY, LAPLACE
from jessl_kernels.problem.psi import PSIS
from tests import executor

PHIS = {phi.name: phi for phi in (IDENTITY, CLAMP, LAPLACE)}
VALUES = torch.tensor([-80.0, -20.0, -3.0, -0.7, -0.1, -1e-3, 0.0, 1e-3, 0.4, 2.0, 17.0, 60.0], dtype=torch.float64)
BELOW = VALUES[VALUES < 0]  # where log(1 − e^s) is


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
    parameters = (-2.0, 1.5) if name == "clamp" else ()
    for u in (BELOW if name == "laplace" else VALUES).tolist():
        one = torch.tensor([u], dtype=torch.float64)
        value = PHIS[name].value(one.clone(), *parameters)
        slope = PHIS[name].slope(one.clone(), *parameters)
        found = native().phi(name, *(parameters or (0.0, 0.0)), u)
        assert found == pytest.approx((float(value), float(slope)), rel=1e-13)


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
