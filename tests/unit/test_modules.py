"""Modules: the options they pass on, the numbers they hold, print and load; queues."""

import io

import pytest
import torch

import jessl_kernels as jk
from tests import data

MODULES = {
    "InfoNCE": (jk.nn.InfoNCE(0.2, learnable=True), lambda x, y: jk.info_nce(x, y, temperature=0.2)),
    "NTXent": (jk.nn.NTXent(0.2, learnable=True), lambda x, y: jk.nt_xent(x, y, temperature=0.2)),
    "DCL": (jk.nn.DCL(0.2, learnable=True), lambda x, y: jk.dcl(x, y, temperature=0.2)),
    "CLIP": (jk.nn.CLIP(5.0), lambda x, y: jk.clip_loss(x, y, 5.0)),
    "SigLIP": (jk.nn.SigLIP(), lambda x, y: jk.siglip_loss(x, y, 10.0, -10.0)),
    "SupCon": (
        jk.nn.SupCon(0.2, learnable=True, form="in"),
        lambda x, y: jk.sup_con(x, torch.arange(len(x)) // 3, temperature=0.2, form="in"),
    ),
    "KDEEntropy": (jk.nn.KDEEntropy(0.7, learnable=True), lambda x, y: jk.kde_entropy(x, bandwidth=0.7)),
    "KDEEntropy-vmf": (
        jk.nn.KDEEntropy(concentration=5.0, kernel="vmf", learnable=True),
        lambda x, y: jk.kde_entropy(x, kernel="vmf", concentration=5.0),
    ),
    "KDEEntropy-scott": (jk.nn.KDEEntropy("scott"), lambda x, y: jk.kde_entropy(x, bandwidth="scott")),
    "KDEEntropy-student": (
        jk.nn.KDEEntropy(0.7, kernel="student", df=2.0),
        lambda x, y: jk.kde_entropy(x, bandwidth=0.7, kernel="student", df=2.0),
    ),
    "KDEEntropy-likelihood": (jk.nn.KDEEntropy("likelihood"), lambda x, y: jk.kde_entropy(x, bandwidth="likelihood")),
    "Uniformity": (jk.nn.Uniformity(3.0), lambda x, y: jk.uniformity(x, t=3.0)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_their_functions_and_learn_their_scalars(name):
    module, function = MODULES[name]
    x, y = data.pairs("random", 20, 4, seed=0)
    second = {"SupCon": torch.arange(20) // 3}.get(name.split("-")[0], y)
    inputs = (x,) if name.startswith(("KDE", "Uni")) else (x, second)
    value = module(*inputs)
    torch.testing.assert_close(value, function(x, y), rtol=1e-5, atol=1e-6)
    for parameter in module.parameters():
        (gradient,) = torch.autograd.grad(value, parameter, retain_graph=True)
        assert gradient.isfinite()
        assert gradient != 0


def test_clip_clamps_its_scale_as_clip_does_and_can_leave_the_limit():
    module = jk.nn.CLIP(200.0)
    torch.testing.assert_close(module.logit_scale, torch.tensor(100.0))
    x, y = data.pairs("random", 20, 4, seed=0)  # a scale this large would ruin them
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-3)
    module(x, y).backward()
    optimiser.step()
    assert module.logit_scale < 99.0


def test_modules_print_what_they_are_made_with():
    assert repr(jk.nn.NTXent(0.2)) == "NTXent(temperature=0.2, learnable=False, reduction='mean', normalize=True)"
    expected = (
        "CLIP(logit_scale=14.29, max_scale=100.0, learnable=True, reduction='mean', normalize=False, same_id='mean')"
    )
    assert repr(jk.nn.CLIP()) == expected
    shown = repr(jk.nn.KDEEntropy("scott"))
    assert shown == "KDEEntropy(bandwidth='scott', learnable=False, kernel='gaussian', estimator='loo')"
    assert repr(jk.nn.Uniformity(3.0)) == "Uniformity(t=3.0)"
    assert repr(jk.nn.Queue(8, 4, labels=True)) == "Queue(8, 4, labels=True, filled=0)"


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_state_dict_of_open_clip_is_loaded(shape):
    class Model(torch.nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.loss = loss

    clip, siglip = Model(jk.nn.CLIP(1.0)), Model(jk.nn.SigLIP(1.0))
    clip.load_state_dict({"loss.logit_scale": torch.full(shape, 2.0)})
    siglip.load_state_dict({"loss.logit_scale": torch.full(shape, 3.0), "loss.logit_bias": torch.tensor(-4.0)})
    assert clip.loss.log_logit_scale.tolist() == 2.0
    assert (siglip.loss.log_logit_scale.tolist(), siglip.loss.logit_bias.tolist()) == (3.0, -4.0)
    again = Model(jk.nn.CLIP(1.0))
    again.load_state_dict(clip.state_dict())
    assert again.loss.log_logit_scale.tolist() == 2.0


def test_modules_take_ids_and_keys():
    x, y = data.pairs("random", 20, 4, seed=0)
    ids, mask = torch.arange(20) // 2, torch.ones(20, 3, dtype=torch.bool)
    keys, sets = torch.randn(5, 4), torch.randn(20, 3, 4)
    labels = torch.arange(5)
    pairs = [
        (jk.nn.InfoNCE(same_id="sum")(x, y, ids=ids), jk.info_nce(x, y, ids=ids, same_id="sum")),
        (
            jk.nn.InfoNCE()(x, y, sets, negatives_mask=mask.roll(1)),
            jk.info_nce(x, y, sets, negatives_mask=mask.roll(1)),
        ),
        (jk.nn.CLIP(5.0)(x, y, ids), jk.clip_loss(x, y, 5.0, ids=ids)),
        (jk.nn.SigLIP(same_id="ignore")(x, y, ids), jk.siglip_loss(x, y, 10.0, -10.0, ids=ids, same_id="ignore")),
        (
            jk.nn.SupCon(in_batch=False)(x, ids, keys=keys, key_labels=labels),
            jk.sup_con(x, ids, keys=keys, key_labels=labels, in_batch=False),
        ),
    ]
    for ours, function in pairs:
        torch.testing.assert_close(ours, function, rtol=1e-5, atol=1e-6)


def test_a_queue_holds_the_last_keys():
    queue = jk.nn.Queue(5, 2)
    assert queue.keys.shape == (0, 2)
    batches = torch.arange(14.0).view(7, 2).requires_grad_()
    expected = []
    for batch in batches.split((2, 2, 3)):
        expected = [*expected, *batch.tolist()][-5:]
        queue.enqueue(batch)
        assert sorted(queue.keys.tolist()) == sorted(expected)
    assert not queue.keys.requires_grad
    queue.enqueue(torch.arange(100.0, 124.0).view(12, 2))  # more than it holds
    assert sorted(queue.keys.tolist()) == torch.arange(114.0, 124.0).view(5, 2).tolist()


def test_a_queue_of_labels_and_what_is_saved_of_it():
    queue = jk.nn.Queue(4, 2, labels=True)
    for first in (0, 3):
        keys = torch.arange(first, first + 3.0)[:, None].expand(3, 2)
        queue.enqueue(keys, torch.arange(first, first + 3, dtype=torch.int32))
    assert queue.keys[:, 0].tolist() == queue.labels.tolist() and sorted(queue.labels.tolist()) == [2, 3, 4, 5]
    file = io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    again = jk.nn.Queue(4, 2, labels=True)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.keys, queue.keys) and torch.equal(again.labels, queue.labels)
    for each in (queue, again):
        each.enqueue(torch.full((1, 2), 9.0), torch.tensor([9]))
    assert torch.equal(again.keys, queue.keys)
    moved = again.to("meta", torch.float16)
    assert moved.keys.is_meta and moved.keys.dtype == torch.float16 and moved.labels.dtype == torch.int64


def test_a_queue_serves_moco_from_the_first_step_on():
    queue = jk.nn.Queue(8, 4)
    query, key = data.pairs("random", 6, 4, seed=0)
    query = query.requires_grad_()
    first = jk.info_nce(query, key, queue.keys)
    torch.testing.assert_close(first, jk.info_nce(query, key))
    queue.enqueue(key)
    later = jk.info_nce(query, key, queue.keys, in_batch=False)
    assert later > 0
    queue.enqueue(key.flip(0))  # before the backward pass, as training loops do
    later.backward()
    assert query.grad.isfinite().all() and query.grad.any()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_before_the_first_step_a_queue_alone_costs_nothing(reduction):
    queue = jk.nn.Queue(8, 4, labels=True)
    query, key = data.pairs("random", 6, 4, seed=0)
    query = query.requires_grad_()
    losses = [
        jk.info_nce(query, key, queue.keys, in_batch=False, reduction=reduction),
        jk.info_nce(query, key, queue.keys, ids=queue.labels.new_zeros(6), in_batch=False, same_id="ignore"),
        jk.sup_con(query, torch.zeros(6).long(), keys=queue.keys, key_labels=queue.labels, in_batch=False),
    ]
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss.sum(), query)
        assert not loss.any() and not gradient.any()
    sets = torch.empty(6, 0, 4)
    torch.testing.assert_close(jk.info_nce(query, key, sets), jk.info_nce(query, key))


def test_a_queue_in_a_compiled_step_is_a_graph_break_and_no_new_program():
    queue = jk.nn.Queue(40, 4)

    def step(query, key):
        loss = jk.info_nce(query, key, queue.keys)
        queue.enqueue(key)
        return loss

    compiled = torch.compile(step, backend="aot_eager", dynamic=True)
    twin = jk.nn.Queue(40, 4)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for _ in range(12):
            query, key = torch.randn(5, 4), torch.randn(5, 4)
            torch.testing.assert_close(compiled(query, key), jk.info_nce(query, key, twin.keys))
            twin.enqueue(key)


def test_modules_on_meta_print_and_queues_of_another_size_are_refused():
    with torch.device("meta"):
        assert repr(jk.nn.CLIP()).startswith("CLIP(logit_scale=…, ")
    large, small = jk.nn.Queue(9, 4), jk.nn.Queue(4, 4)
    large.enqueue(torch.randn(9, 4))
    with pytest.raises((RuntimeError, ValueError), match=r"size mismatch|must be of one of 4"):
        small.load_state_dict(large.state_dict())
    assert small.keys.shape == (0, 4)


X, IDS = torch.eye(4), torch.arange(4)
QUEUE = {
    "size": (lambda: jk.nn.Queue(0, 4), ValueError, "Queue: size is 0, must be > 0"),
    "dim": (lambda: jk.nn.Queue(4, 2.0), TypeError, "Queue: dim is a float, 2.0, must be an int"),
    "dtype": (lambda: jk.nn.Queue(4, 4, dtype=torch.int64), TypeError, "Queue: dtype is int64, must be float64"),
    "flag": (lambda: jk.nn.Queue(4, 4, labels=1), TypeError, "Queue: labels is a int, 1, must be True or False"),
    "keys": (lambda: jk.nn.Queue(4, 4).enqueue([1.0]), TypeError, "Queue.enqueue: keys is a list"),
    "width": (lambda: jk.nn.Queue(4, 3).enqueue(X), ValueError, r"keys is of shape \(4, 4\), must have 3 columns"),
    "device": (lambda: jk.nn.Queue(4, 4).enqueue(X.to("meta")), ValueError, "keys is on meta, must be on cpu"),
    "labels": (lambda: jk.nn.Queue(4, 4, labels=True).enqueue(X), ValueError, "labels is None, must be given"),
    "no labels": (lambda: jk.nn.Queue(4, 4).enqueue(X, IDS), ValueError, "labels is given, must be None"),
    "lengths": (
        lambda: jk.nn.Queue(4, 4, labels=True).enqueue(X, IDS[:3]),
        ValueError,
        r"labels is of shape \(3,\), must be \(4,\), one per key",
    ),
    "asked for": (lambda: jk.nn.Queue(4, 4).labels, ValueError, "Queue: labels is asked for, are not held"),
    "same_id": (lambda: jk.nn.SigLIP(same_id="mean"), ValueError, "SigLIP: same_id is 'mean', must be one of"),
}


@pytest.mark.parametrize("name", QUEUE)
def test_wrong_argument(name):
    run, error, message = QUEUE[name]
    with pytest.raises(error, match=message):
        run()
