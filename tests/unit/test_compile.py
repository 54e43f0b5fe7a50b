"""torch.compile and torch.export: one graph for numbers and sizes that change."""

import pytest
import torch
import torch._dynamo.testing
from torch import nn

import jessl_kernels as jk

N, D = 6, 3


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_compiled_code_does_not_recompile_for_a_new_temperature_tensor():
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda z, t: jk.nt_xent(*z.split(N), temperature=t), fullgraph=True, backend=counter)
    values = {compiled(rows(0, 2 * N, D), torch.tensor(t)).item() for t in (0.1, 0.2, 0.3)}
    assert len(values) == 3
    assert counter.frame_count == 1


FLOATS = {
    "temperature": lambda z, t: jk.nt_xent(*z.split(N), temperature=t),
    "logit_scale": lambda z, t: jk.clip_loss(*z.split(N), t),
    "logit_bias": lambda z, t: jk.siglip_loss(*z.split(N), 10.0, -t),
    "bandwidth": lambda z, t: jk.kde_entropy(z, bandwidth=t),
    "concentration": lambda z, t: jk.kde_entropy(z, kernel="vmf", concentration=t),
    "t": lambda z, t: jk.uniformity(z, t=t),
    "power": lambda z, t: jk.alignment(*z.split(N), power=t),
    "scale": lambda z, t: jk.pairwise_logsumexp(z, scale=t, reduction="mean"),
    "clamp": lambda z, t: jk.pairwise_sum(z, phi=jk.phi.clamp(-t, t), reduction="mean"),
}


@pytest.mark.parametrize("name", FLOATS)
def test_compiled_code_takes_a_float_that_changes(name):
    """A scheduled temperature: from its second value on, dynamo traces it as a symbol."""
    compiled = torch.compile(FLOATS[name], fullgraph=True, backend="aot_eager")
    for t in (0.5, 0.6, 1.3):
        z, twin = (rows(0, 2 * N, D).requires_grad_() for _ in range(2))
        FLOATS[name](z, t).backward()
        value = compiled(twin, t)
        value.backward()
        torch.testing.assert_close(value, FLOATS[name](z, t), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(twin.grad, z.grad, rtol=1e-5, atol=1e-6)


def test_compiled_metrics_take_batches_of_any_size():
    def recall(x, y):
        return jk.retrieval_metrics(x, y)["x_to_y/recall@1"]

    compiled = torch.compile(recall, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (6, 9, 17):
        x, y = rows(0, size, D), rows(1, size, D)
        torch.testing.assert_close(compiled(x, y), recall(x, y))


def guided(x, y):
    return jk.Exclude(guide=(x, y, x.sum(dim=1)))


CENTRED = jk.er.DINO(D).eval()  # in training each call moves the centre, and with it the next value

ONE_GRAPH = {
    "info_nce": lambda x, y: jk.info_nce(x, y, y),
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 5.0, normalize=True),
    "nt_xent": jk.nt_xent,
    "dcl": jk.dcl,
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, 10.0, -10.0),
    "sup_con": lambda x, y: jk.sup_con(x, torch.arange(len(x)) // 2),
    "rows": lambda x, y: jk.clip_loss(x, y, 5.0, normalize=True, reduction="none").sum(),
    "kde_entropy": lambda x, y: jk.kde_entropy(x, bandwidth=0.5),
    "kde_entropy of a rule": lambda x, y: jk.kde_entropy(x, bandwidth="scott", weights=y.square().sum(dim=1).detach()),
    "kde_log_density": lambda x, y: jk.kde_log_density(x, y, bandwidth=0.5).mean(),
    "kde_entropy of a compact kernel": lambda x, y: jk.kde_entropy(x, bandwidth=5.0, kernel="epanechnikov"),
    "kde_entropy of Student's t": lambda x, y: jk.kde_entropy(x, bandwidth=0.5, kernel="student", df=3.0),
    "kde_entropy of a covariance": lambda x, y: jk.kde_entropy(x, bandwidth=torch.eye(D) + 0.1),
    "information of two views": lambda x, y: jk.kde_mutual_information(x, y, bandwidth="silverman"),
    "kde_score": lambda x, y: jk.kde_score(x, y, bandwidth=0.5, kernel="student", df=2.0).square().sum(),
    "renyi2_entropy": lambda x, y: jk.renyi2_entropy(x, bandwidth=0.5),
    "koleo": lambda x, y: jk.koleo(x, k=2),
    "uniformity": lambda x, y: jk.uniformity(x),
    "pairwise_logsumexp": lambda x, y: jk.pairwise_logsumexp(x, y, dim="both", reduction="mean"),
    "pairwise_sum": lambda x, y: jk.pairwise_sum(x, y, exclude="diagonal").sum(),
    "attend": lambda x, y: jk.attend(x, y, y.square(), exclude="diagonal").square().sum(),
    "soft_cross_entropy": lambda x, y: jk.soft_cross_entropy(x, y, y.square(), x.square()),
    "pairwise_topk": lambda x, y: jk.pairwise_topk(x, y, k=2)[0].sum(),
    "a module": jk.nn.NTXent(learnable=True),
    "hard negatives": lambda x, y: jk.row_loss(
        [x, y], join="tilt_difference", tilts=(1.5, 0.5), positives=len(x), exclude="diagonal", normalize=True
    ),
    "ids": lambda x, y: jk.clip_loss(x, y, 5.0, ids=torch.arange(len(x)) // 2, normalize=True),
    "ids of negatives": lambda x, y: jk.info_nce(
        x, y, y, ids=torch.arange(len(x)) // 2, negative_ids=torch.arange(len(x)) // 3, same_id="ignore"
    ),
    "keys": lambda x, y: jk.sup_con(x, torch.arange(len(x)) // 2, keys=y, key_labels=torch.arange(len(y)) // 3),
    "a guide": lambda x, y: jk.row_loss(x, y, join="softplus", positives=0, exclude=guided(x, y)),
    "own join, a guide": lambda x, y: jk.row_loss(
        x, y, join=lambda N, P, s, n_pos, n_neg: N[0] - P + n_neg.log1p(), positives=0, exclude=guided(x, y)
    ),
    "a mask": lambda x, y: jk.info_nce(x, y, x[:, None] + y[:, None], negatives_mask=torch.arange(len(x))[:, None] > 2),
    "a bound by two sweeps": jk.mi.Objective("interpolated").bound_of,
    "a bound by a clamp": jk.mi.Objective("smile").bound_of,
    "a bound with an average": jk.mi.Objective("mine", decay=0.0),
    "own join": lambda x, y: jk.row_loss(x, y, join=lambda N, P, s, n_pos, n_neg: N[0] - P + n_neg.log(), positives=0),
    "entropy and reconstruction": lambda x, y: jk.er.loss(x, y, concentration=5.0),
    "swav": lambda x, y: jk.er.swav([x, y], torch.eye(D)),
    "dino_er": lambda x, y: jk.er.dino_er([x, y], [y, x], torch.eye(D), torch.eye(D)),
    "a centre": lambda x, y: CENTRED([x, y], [y, x], torch.eye(D), torch.eye(D)),
}


# Those whose parts are in others: dcl is nt_xent but for a word, joins and guides are looked at apart, and objectives of
# prototypes in test_er_objectives.py.
COMBINED = ("dcl", "own join, a guide", "swav", "dino_er")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if name in COMBINED else ()) for name in ONE_GRAPH]
)
def test_one_graph_serves_batches_of_forty_sizes(name):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(ONE_GRAPH[name], fullgraph=True, backend=counter, dynamic=True)
    graphs = []
    for size in (6, 9, *range(20, 58)):
        x, y = rows(0, size, D).requires_grad_(), rows(1, size, D)
        compiled(x, y).backward()
        graphs.append(counter.frame_count)
    twin = x.detach().requires_grad_()
    ONE_GRAPH[name](twin, y).backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-5, atol=1e-6)
    assert graphs == [graphs[0]] * 40


@pytest.mark.parametrize("name", ["nt_xent", "rows", "siglip_loss"])
def test_an_exported_loss_takes_batches_of_any_size(name):
    class Loss(nn.Module):
        def forward(self, x, y):
            return ONE_GRAPH[name](x, y)

    size = torch.export.Dim("N", min=2)
    shapes = {"x": {0: size}, "y": {0: size}}
    program = torch.export.export(Loss(), (rows(0, 7, D), rows(1, 7, D)), dynamic_shapes=shapes)
    for n in (5, 23):
        batch = rows(2, n, D), rows(3, n, D)
        torch.testing.assert_close(program.module()(*batch), ONE_GRAPH[name](*batch), rtol=1e-5, atol=1e-6)


def test_export_keeps_the_loss_as_one_operator():
    class Loss(nn.Module):
        def forward(self, z):
            return jk.nt_xent(*z.split(N))

    program = torch.export.export(Loss(), (rows(0, 2 * N, D),))
    assert "jessl_kernels.row_loss" in str(program.graph)
    torch.testing.assert_close(program.module()(rows(1, 2 * N, D)), jk.nt_xent(*rows(1, 2 * N, D).split(N)))
