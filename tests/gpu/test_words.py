"""The words of Triton's kernels, φ, ψ and joins, against those of Python: the same names, values and slopes."""

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

import triton
import triton.language as tl

from jessl_kernels.problem.join import JOINS
from jessl_kernels.problem.phi import PHIS
from jessl_kernels.problem.psi import PSIS
from jessl_kernels.triton import words
from tests import executor

COUNT = 512
BAR = {torch.float64: 1e-13, torch.float32: 2e-6}


@pytest.fixture
def gpu():
    with executor.gpu():
        yield


@triton.jit
def psi_kernel(s, value, slope, PSI: tl.constexpr, TILT: tl.constexpr, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    at = tl.load(s + i)
    tl.store(value + i, words.psi_of(at, PSI, TILT))
    tl.store(slope + i, words.psi_slope(at, PSI, TILT))


@triton.jit
def join_kernel(N, P, spread, n, value, slopes, JOIN: tl.constexpr, TILTS: tl.constexpr, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    logs = ()
    for k in tl.static_range(TILTS):
        logs = logs + (tl.load(N + k * COUNT + i),)  # noqa: RUF005 - what Triton knows of tuples
    given = tl.load(P + i), tl.load(spread + i), tl.load(n + i)
    tl.store(value + i, words.join_value(logs, given[0], given[1], given[2], JOIN))
    of_n, of_p, of_spread = words.join_slopes(logs, given[0], given[1], given[2], JOIN)
    for k in tl.static_range(TILTS):
        tl.store(slopes + k * COUNT + i, of_n[k])
    tl.store(slopes + TILTS * COUNT + i, of_p)
    tl.store(slopes + (TILTS + 1) * COUNT + i, of_spread)


@triton.jit
def phi_kernel(u, value, slope, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    at = tl.load(u + i)
    tl.store(value + i, words.phi_of(at, PHI, LOW, HIGH))
    tl.store(slope + i, words.phi_slope(at, PHI, LOW, HIGH))


def test_the_names_are_those_of_python():
    assert set(words.JOINS) == set(JOINS) and set(words.PSIS) == set(PSIS) and set(words.PHIS) == set(PHIS)
    assert set(words.WITH_SPREAD) == {join.name for join in JOINS.values() if join.spread}


def test_slopes_that_are_called_constant_are():
    for name in words.CONSTANT:
        of_n, _, _ = JOINS[name].slopes((torch.randn(5),), torch.randn(5), torch.zeros(5), torch.ones(5))
        assert torch.equal(of_n[0], torch.ones(5))


@pytest.mark.kernels
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", BAR)
@pytest.mark.parametrize("tilt", [1.0, -1.0, 0.5])
@pytest.mark.parametrize("psi", PSIS)
def test_a_psi_is_that_of_python(psi, tilt, dtype):
    s = torch.linspace(-30, 30, COUNT, dtype=torch.float64)
    if psi == "log1m_exp":  # defined below 0; dense near 0
        s = -(torch.linspace(-16, 3.5, COUNT, dtype=torch.float64).exp()) / tilt
    s = s.to(dtype)
    s[0] = -torch.inf
    value, slope = torch.empty_like(s), torch.empty_like(s)
    psi_kernel[(1,)](s, value, slope, PSI=psi, TILT=tilt, COUNT=COUNT)
    wide = s[1:].double() * tilt
    for ours, truth in ((value, PSIS[psi].value(wide)), (slope, PSIS[psi].slope(wide))):
        assert float(ours[0]) == 0
        torch.testing.assert_close(ours[1:].double(), truth, rtol=BAR[dtype], atol=1e-30)


@pytest.mark.kernels
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", BAR)
@pytest.mark.parametrize("name", [name for name in PHIS if name != "identity"])
def test_a_phi_is_that_of_python(name, dtype):
    parameters = {"clamp": (-2.0, 1.5), "student": (2.5,)}.get(name, ())
    u = torch.linspace(-3, 0, COUNT, dtype=torch.float64)
    u[:200] = -(torch.linspace(-16, 0, 200, dtype=torch.float64).exp())  # dense near 0
    u = u.to(dtype)
    u[:4] = torch.tensor([-1.0, -1 - 1e-6, -torch.inf, torch.nan])
    value, slope = torch.empty_like(u), torch.empty_like(u)
    low, high = (*parameters, 0.0, 0.0)[:2]
    phi_kernel[(1,)](u, value, slope, PHI=name, LOW=low, HIGH=high, COUNT=COUNT)
    known, wide = PHIS[name], u.double()
    for ours, truth in (
        (value, known.value(wide.clone(), *parameters)),
        (slope, known.slope(wide.clone(), *parameters)),
    ):
        torch.testing.assert_close(ours.double(), truth, rtol=4 * BAR[dtype], atol=4 * BAR[dtype], equal_nan=True)


@pytest.mark.kernels
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", BAR)
@pytest.mark.parametrize("join", JOINS)
def test_a_join_is_that_of_python(join, dtype):
    known = JOINS[join]
    N = 9 * torch.randn(known.tilts, COUNT, dtype=dtype)
    P, spread = 9 * torch.randn(COUNT, dtype=dtype), torch.rand(COUNT, dtype=dtype)
    n = torch.randint(1, 9, (COUNT,)).to(dtype)
    value, slopes = torch.empty_like(P), torch.empty(known.tilts + 2, COUNT, dtype=dtype)
    join_kernel[(1,)](N, P, spread, n, value, slopes, JOIN=join, TILTS=known.tilts, COUNT=COUNT)
    given = N.double().unbind(0), P.double(), spread.double(), n.double()
    bar = {"rtol": BAR[dtype], "atol": 10 * BAR[dtype]}
    torch.testing.assert_close(value.double(), known.value(*given), **bar)
    of_n, of_p, of_spread = known.slopes(*given)
    none = torch.zeros_like(given[1])
    truth = [*of_n, none if of_p is None else of_p, none if of_spread is None else of_spread]
    torch.testing.assert_close(slopes.double(), torch.stack(truth), **bar)
