"""The losses of examples/variants.py and examples/small_batches.py against their dense forms, in fp64. Other files test their
sums on every backend; here all tensors are on the host."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

import jessl_kernels as jk
from tests import cases, data

EXAMPLES = Path(__file__).parents[2] / "examples"
N, D, T = 12, 6, 0.2


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


backends = pytest.mark.parametrize("backend", [name for name in cases.BACKENDS if name != "triton"])
variants, small = load("variants"), load("small_batches")
OWN = torch.eye(N, dtype=torch.bool)
PROBABILITY = torch.linspace(0.05, 0.5, N, dtype=torch.float64)
WEIGHT = torch.linspace(0.2, 3.0, N, dtype=torch.float64)
GUIDES = data.normals(N, 3, seed=8).double(), data.normals(N, 3, seed=9).double()


def scores(x, y, temperature=T):
    return normalize(x, dim=1) @ normalize(y, dim=1).T / temperature


def views(x, y, temperature=T):
    """Scores of [x; y] with itself, −inf for a row with itself; its positives; its negatives alone."""
    s = scores(torch.cat([x, y]), torch.cat([x, y]), temperature)
    positive = torch.arange(2 * N).roll(N)
    itself = torch.eye(2 * N, dtype=torch.bool)
    negatives = s.masked_fill(itself | itself.roll(N, dims=1), -torch.inf)
    return s.gather(1, positive[:, None])[:, 0], negatives


def dense_hardness(x, y, a=1.0):
    s = scores(x, y)
    logits = torch.where(OWN, s, s + a * s.detach())
    return cross_entropy(logits, torch.arange(N))


def dense_dclw(x, y, sigma=0.5):
    positive, negatives = views(x, y)
    cosine = (normalize(x, dim=1) * normalize(y, dim=1)).sum(dim=1).detach()
    weight = 2 - (cosine / sigma).exp() / (cosine / sigma).exp().mean()
    return (negatives.logsumexp(dim=1) - weight.repeat(2) * positive).mean()


def dense_weighted(x, y):
    s = scores(x, y)
    return cross_entropy(torch.where(OWN, s, s + WEIGHT.log()), torch.arange(N))


def dense_guided(x, y, margin=0.1):
    g, h = (normalize(z, dim=1) for z in GUIDES)
    guided = g @ h.T
    out = (guided > guided.diagonal()[:, None] - margin) & ~OWN
    assert out.any() and not out.all()
    return cross_entropy(scores(x, y).masked_fill(out, -torch.inf), torch.arange(N))


def dense_batched(x, y):
    return torch.stack(
        [cross_entropy(scores(a, b), torch.arange(4)) for a, b in zip(x.split(4), y.split(4), strict=True)]
    ).mean()


def dense_debiased(x, y, prior=0.1):
    positive, negatives = views(x, y)
    n = 2 * N - 2
    mean = negatives.exp().sum(dim=1) / n
    g = ((mean - prior * positive.exp()) / (1 - prior)).clamp(min=math.exp(-1 / T))
    return -(positive.exp() / (positive.exp() + n * g)).log().mean()


def dense_flat(x, y):
    positive, negatives = views(x, y)
    v = (negatives - positive[:, None]).exp().sum(dim=1)
    return (v / v.detach()).mean()


def dense_spectral(x, y):
    s = x @ y.T
    return -2 * s.diagonal().mean() + s[~OWN].square().mean()


# name: (the example's loss, its dense form)
LOSSES = {
    "smoothed": (
        lambda x, y: variants.smoothed_info_nce(x, y, smoothing=0.2, temperature=T),
        lambda x, y: cross_entropy(scores(x, y), torch.arange(N), label_smoothing=0.2),
    ),
    "hardness": (lambda x, y: variants.hardness_weighted_info_nce(x, y, temperature=T), dense_hardness),
    "weighted": (lambda x, y: variants.weighted_info_nce(x, y, WEIGHT, temperature=T), dense_weighted),
    "corrected": (
        lambda x, y: variants.corrected_info_nce(x, y, PROBABILITY, temperature=T),
        lambda x, y: cross_entropy(scores(x, y) - PROBABILITY.log(), torch.arange(N)),
    ),
    "dclw": (lambda x, y: variants.dclw(x, y, temperature=T), dense_dclw),
    "batched": (
        lambda x, y: variants.batched_info_nce(x.unflatten(0, (3, 4)), y.unflatten(0, (3, 4)), temperature=T),
        dense_batched,
    ),
    "guided": (lambda x, y: variants.guided_info_nce(x, y, *GUIDES, margin=0.1, temperature=T), dense_guided),
    "flat_nce": (lambda x, y: small.flat_nce(x, y, temperature=T), dense_flat),
    "debiased": (lambda x, y: small.debiased(x, y, temperature=T), dense_debiased),
    "debiased, clamped": (
        lambda x, y: small.debiased(x, y, prior=0.6, temperature=T),
        lambda x, y: dense_debiased(x, y, 0.6),
    ),
    "spectral": (small.spectral, dense_spectral),
}


def assert_same(ours, dense, x, y):
    x, y = (z.clone().requires_grad_() for z in (x, y))
    value, truth = ours(x, y), dense(x, y)
    torch.testing.assert_close(value, truth, rtol=1e-9, atol=1e-9)
    for a, t in zip(torch.autograd.grad(value, (x, y)), torch.autograd.grad(truth, (x, y)), strict=True):
        torch.testing.assert_close(a, t, rtol=1e-7, atol=1e-9)


def pair():
    return data.pairs("random", N, D, seed=0, dtype=torch.float64)


@backends
@pytest.mark.parametrize("name", LOSSES)
def test_an_example_is_its_dense_form(backend, name):
    with jk.use_backend(backend):
        if name == "guided" and backend == "cpu":
            with pytest.raises(NotImplementedError, match="a guide is not compiled into it"):
                LOSSES[name][0](*pair())
            return
        assert_same(*LOSSES[name], *pair())


@backends
def test_sogclr_moves_its_estimates_and_divides_by_them(backend):
    x, y = pair()
    index = torch.arange(N).flip(0)
    sogclr = small.SogCLR(N, gamma=0.7, temperature=T)
    sogclr.log_u = sogclr.log_u.double()
    u = None
    with jk.use_backend(backend):
        for _ in range(3):

            def g(x, y):
                positive, negatives = views(x, y)
                return (negatives - positive[:, None]).exp().sum(dim=1) / (2 * N - 2)

            before = g(x, y).detach()
            u = before if u is None else 0.3 * u + 0.7 * before
            held = sogclr.log_u.clone()

            def ours(x, y, held=held):
                sogclr.log_u = held.clone()
                return sogclr(x, y, index)

            assert_same(ours, lambda x, y, u=u: T * (g(x, y) / u).mean(), x, y)
            torch.testing.assert_close(sogclr.log_u[index].T.flatten().exp(), u)
            x, y = y + 0.1, x


@pytest.mark.parametrize("module", [variants, small], ids=["variants", "small_batches"])
def test_an_example_runs(module, capsys):
    module.main()
    assert "nan" not in capsys.readouterr().out
