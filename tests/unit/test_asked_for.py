"""Only requested results are computed: no gradient without grad mode, none of a constant, nothing twice in a backward."""

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.backends import chunked, cpu
from jessl_kernels.native import native_status
from tests.data import normals
from tests.skipping import Counting

N, D = 400, 24  # some tiles each way

# Losses of two batches with a known upstream gradient, so that gradients are made in the forward pass.
LOSSES = {
    "info_nce": jk.info_nce,
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 10.0, normalize=True),
    "nt_xent": jk.nt_xent,
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, 10.0, -10.0, normalize=True),
    "sup_con": lambda x, y: jk.sup_con(torch.stack([x, y], dim=1), torch.arange(N) // 2),
    "kde_entropy": lambda x, y: jk.kde_entropy(torch.cat([x, y]), bandwidth=0.8),
    "uniformity": lambda x, y: jk.uniformity(torch.cat([x, y])),
    "anchored": lambda x, y: jk.pairwise_logsumexp(x, y, anchor=x.detach()[:, 0], reduction="mean"),
}
losses = pytest.mark.parametrize("loss", LOSSES)

needs_extension = pytest.mark.skipif(not native_status().available, reason=native_status().reason or "built")


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = normals(2, N, D, seed=0).float().unbind()
    return x.clone().requires_grad_(), y.clone().requires_grad_()


def never(*args, **kwargs):
    raise AssertionError("a gradient was computed")


@pytest.fixture
def core(monkeypatch):
    counting = Counting(cpu._core)
    monkeypatch.setattr(cpu, "_core", counting)
    with jk.use_backend("cpu"):
        yield counting


@needs_extension
@losses
def test_without_grad_mode_or_for_constants_no_tile_is_pulled(loss, core):
    x, y = batches()
    with torch.no_grad():
        assert LOSSES[loss](x, y).isfinite()
    assert core.tiles[1] > 0 == core.tiles[2]
    assert not LOSSES[loss](x.detach(), y.detach()).requires_grad
    assert core.tiles[1] > 0 == core.tiles[2]
    LOSSES[loss](x, y)
    assert core.tiles[2] > 0


@losses
def test_chunked_makes_none_either(loss, monkeypatch):
    monkeypatch.setattr(chunked._strips, "sums_and_grads", never)
    monkeypatch.setattr(chunked._strips, "grads", never)
    x, y = batches()
    with jk.use_backend("chunked"):
        with torch.no_grad():
            assert LOSSES[loss](x, y).isfinite()
        assert not LOSSES[loss](x.detach(), y.detach()).requires_grad
        with pytest.raises(AssertionError, match="a gradient was computed"):
            LOSSES[loss](x, y).backward()


@needs_extension
@losses
def test_the_backward_of_a_loss_only_multiplies(loss, core, monkeypatch):
    x, y = batches()
    value = 3 * LOSSES[loss](x, y)
    monkeypatch.setattr(cpu, "_core", None)  # nothing could be computed
    value.backward()
    assert x.grad.abs().sum() > 0


@needs_extension
@pytest.mark.parametrize("loss", ["info_nce", "clip_loss", "siglip_loss", "anchored"])
@pytest.mark.parametrize("constant", [0, 1])
def test_the_gradient_of_a_constant_has_no_place_to_be_written_to(loss, constant, core, monkeypatch):
    seen = []
    addresses = cpu._Out.addresses
    monkeypatch.setattr(cpu._Out, "addresses", lambda out: seen.append(addresses(out)) or seen[-1])
    given = [batch.detach() if k == constant else batch for k, batch in enumerate(batches())]
    LOSSES[loss](*given).backward()
    *places, first, end = seen[0]  # of the gradients, and of the columns that one is made for
    assert [bool(address) for address in places] == [constant == 1, constant == 0, False, False, False]
    assert end - first == (N if constant == 0 else 0)


@needs_extension
def test_scores_are_made_once_where_half_of_the_workspace_holds_them(core):
    """3,840 rows fill it; a copy of the batch in the workspace changes nothing."""
    views = normals(2, 1920, 64, seed=0).float().requires_grad_()
    jk.nt_xent(views[0], views[1])
    assert core.tiles[1] == 20 * 21 // 2
