"""Under autocast towers and queues of different dtypes get its dtype; outside of it they are refused by name."""

import pytest
import torch

import jessl_kernels as jk
from tests.data import normals

N, D = 12, 8


def batch(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return normals(N, D, seed=seed).to(dtype).requires_grad_()


# Losses of two batches that may differ in dtype.
MEETING = {
    "info_nce": jk.info_nce,
    "a queue": lambda x, y: jk.info_nce(x, x.flip(0), y),
    "symmetric": lambda x, y: jk.info_nce(x, y, symmetric=True),
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 2.0, normalize=True),
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, 2.0, -2.0, normalize=True),
    "nt_xent": jk.nt_xent,
    "dcl": jk.dcl,
    "row_loss": lambda x, y: jk.row_loss([x, y], join="softplus", positives=N, exclude="diagonal"),
    "pairwise_logsumexp": lambda x, y: jk.pairwise_logsumexp(x, y, reduction="mean"),
    "attend": lambda x, y: jk.attend(x, y, y).square().sum(),
    "pairwise_topk": lambda x, y: jk.pairwise_topk(x, y, k=2)[0].sum(),
}
# Functions that autocast leaves in fp32.
WIDE = {
    "kde_log_density": lambda x, y: jk.kde_log_density(x, y, bandwidth=1.0).sum(),
    "distances": lambda x, y: jk.pairwise_logsumexp(x, y, kind="sqdist", reduction="mean"),
    "alignment": jk.alignment,
    "soft_cross_entropy": lambda x, y: jk.soft_cross_entropy(x, y, y, x, temperature=1.0),
}


@pytest.mark.parametrize("backend", ["cpu", "chunked", "reference"])
@pytest.mark.parametrize("name", MEETING)
def test_batches_of_two_dtypes_meet_in_that_of_autocast(name, backend):
    x, y = batch(0), batch(1, torch.float16)
    with torch.autocast("cpu", torch.bfloat16), jk.use_backend(backend):
        loss = MEETING[name](x, y)
        same = MEETING[name](x.detach().requires_grad_(), y.detach().float().requires_grad_())
    loss.backward()
    torch.testing.assert_close(loss, same, rtol=1e-6, atol=1e-6)
    assert x.grad is not None and x.grad.dtype == torch.float32
    assert y.grad is not None and y.grad.dtype == torch.float16
    assert x.grad.isfinite().all() and y.grad.isfinite().all()


@pytest.mark.parametrize("name", WIDE)
def test_distances_of_batches_of_two_dtypes_meet_in_fp32(name):
    x, y = batch(0), batch(1, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = WIDE[name](x, y)
    loss.backward()
    assert y.grad is not None and y.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, WIDE[name](x.detach(), y.detach().float()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*MEETING, *WIDE])
def test_elsewhere_and_in_fp64_they_are_refused_by_name(name):
    call = (MEETING | WIDE)[name]
    with pytest.raises(TypeError, match="must be float32 like"):
        call(batch(0), batch(1, torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="must be float64 like"):
        call(batch(0, torch.float64), batch(1))


def test_retrieval_compares_scores_of_one_rounding():
    """Under autocast negatives are rounded scores. Positives must be rounded too, or ties would be decided by rounding."""
    z = torch.nn.functional.normalize(batch(0).detach(), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = jk.retrieval_metrics(z, z, k=1)
    assert found["x_to_y/recall@1"] == 1
    rounded = z.bfloat16().float()
    torch.testing.assert_close(found["mean_positive"], rounded.square().sum(dim=1).mean())
