"""gradcheck, torch.func, forward mode and batched gradients: results are right, or a call is refused by name."""

import pytest
import torch
from torch.autograd import forward_ad

import jessl_kernels as jk
from jessl_kernels.ops import autograd, gather_scatter
from tests import cases, data

LABELS = torch.arange(16) // 3


def rows() -> torch.Tensor:
    return data.normals(16, 5, seed=0).float()


@pytest.fixture(params=["cpu", "chunked", "off the CPU"])
def backend(request, monkeypatch):
    if request.param != "off the CPU":
        return request.param
    monkeypatch.setattr(gather_scatter, "_is_eager_on_cpu", lambda rows: False)
    return "chunked"


def sup_con(z: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    return jk.sup_con(z, LABELS.to(z.device), reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_mode_through_labels_is_refused(backend, reduction, dtype):
    z = rows().to(dtype)
    with jk.use_backend(backend):
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            torch.func.jvp(lambda x: sup_con(x, reduction), (z,), (torch.ones_like(z),))
        with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            sup_con(forward_ad.make_dual(z, torch.ones_like(z)), reduction)


def test_labels_and_top_k_have_gradients_by_torch_func(backend):
    for function in (sup_con, lambda z: jk.pairwise_topk(z, k=2)[0].sum()):
        leaf = rows().requires_grad_()
        with jk.use_backend(backend):
            function(leaf).backward()
            found = torch.func.grad(function)(leaf.detach())
        torch.testing.assert_close(found, leaf.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device_would_wait", [False, True], ids=["", "as on a GPU"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_several_upstreams_at_once(dtype, device_would_wait, monkeypatch):
    if device_would_wait:
        monkeypatch.setattr(autograd, "_is_one", lambda upstream: False)
    z = rows().to(dtype).requires_grad_()
    loss = jk.nt_xent(z[:8], z[8:])
    upstream = torch.tensor([1.0, 2.0, -1.0], dtype=loss.dtype)
    (found,) = torch.autograd.grad(loss, z, upstream, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(loss, z)
    assert found.dtype == dtype
    torch.testing.assert_close(found, upstream.to(dtype)[:, None, None] * one)


@pytest.mark.parametrize("temperature", [10**400, 1e-320])
def test_a_temperature_that_no_float_is_the_inverse_of_is_refused(temperature):
    with pytest.raises(ValueError, match=r"^info_nce: temperature is .*, must be"):
        jk.info_nce(rows(), rows(), temperature=temperature)


@pytest.mark.parametrize("kind", ["dot", "sqdist"])
@pytest.mark.parametrize("phi", [None, "clamp", "laplace"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@cases.backends
def test_gradcheck_in_fp64(backend, kind, phi, reduction):
    if phi == "laplace" and kind == "dot":
        pytest.skip("a distance kernel has no dot scores")
    phi = jk.phi.clamp(-0.5, 0.7) if phi == "clamp" else phi
    (x, y), (a, r), (b, c) = (
        data.pairs("random", n, d, seed=n, dtype=torch.float64) for n, d in ((5, 3), (5, 1), (4, 1))
    )
    inputs = [t.requires_grad_() for t in (x, y[:4].clone(), torch.tensor(0.3, dtype=torch.float64))]
    inputs += [t.flatten().clone().requires_grad_() for t in (r, c, a, b)]

    def run(x, y, scale, row_bias, col_bias, anchor, col_anchor):
        return jk.pairwise_logsumexp(
            x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias, anchor=anchor,
            col_anchor=col_anchor, exclude="diagonal", dim="both", reduction=reduction,
        )  # fmt: skip

    with jk.use_backend(backend, workspace=100):
        assert torch.autograd.gradcheck(run, inputs)
