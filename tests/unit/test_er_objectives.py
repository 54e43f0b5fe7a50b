"""SwAV, BYOL, DINO and their ER forms: each is its definition by matrices, by every backend, with its gradients."""

import math
import threading

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk
from jessl_kernels.backends import Settings, settings
from jessl_kernels.er import cross_entropy
from tests import cases, data, executor
from tests.oracles import entropy_reconstruction as oracle
from tests.yardstick import judge

N, D, K = 13, 6, 9


def unit(t: torch.Tensor) -> torch.Tensor:
    return F.normalize(t.double(), dim=1)


def inputs_of(dtype: torch.dtype) -> dict:
    """Two global views and a small crop, targets of the slow network, and two sets of prototypes."""
    made = {name: data.normals(N, D, seed=seed) for seed, name in enumerate(("z1", "z2", "z3", "t1", "t2"))}
    made |= {"c": unit(data.normals(K, D, seed=7)), "c2": unit(data.normals(K, D, seed=8))}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    number = torch.tensor(0.2, dtype=wide)
    return {**{name: data.given(t, dtype) for name, t in made.items()}, "temperature": number}


OLD = [data.normals(7, D, seed=seed).bfloat16() for seed in (9, 10)]  # numbers that every dtype holds
CENTER = 0.3 * data.normals(K, seed=11)


def center_like(z):
    return CENTER.to(torch.float64 if z.dtype == torch.float64 else torch.float32)


# name: (the call by either side, names of its inputs)
OBJECTIVES = {
    "swav": (lambda of, z1, z2, c, temperature: of.swav([z1, z2], c, temperature=temperature), "z1 z2 c temperature"),
    "swav-crops": (lambda of, z1, z2, z3, c: of.swav([z1, z2], c, local=[z3], iterations=5), "z1 z2 z3 c"),
    "swav-queue": (
        lambda of, z1, z2, c: of.swav([z1, z2], c, queue=[old.to(z1.dtype) for old in OLD], epsilon=0.1),
        "z1 z2 c",
    ),
    "swav_er": (
        lambda of, z1, z2, z3, c, temperature: of.swav_er(
            [z1, z2], c, local=[z3], temperature=temperature, epsilon=0.15
        ),
        "z1 z2 z3 c temperature",
    ),
    "discrete": (
        lambda of, z1, z2, c, temperature: of.discrete_bound(
            z1, z2, c, temperature=temperature, target_temperature=0.15
        ),
        "z1 z2 c temperature",
    ),
    "byol": (lambda of, z1, z2, z3, t1, t2: of.byol([z1, z2, z3], [t1, t2]), "z1 z2 z3 t1 t2"),
    "byol_er": (
        lambda of, z1, z2, z3, t1, t2, temperature: of.byol_er(
            [z1, z2], [t1, t2], concentration=1 / temperature, projections=[z3]
        ),
        "z1 z2 z3 t1 t2 temperature",
    ),
    "dino": (
        lambda of, z1, z2, z3, t1, t2, c, c2, temperature: of.dino(
            [z1, z2, z3], [t1, t2], c, c2, center=center_like(z1), temperature=temperature, teacher_temperature=0.15
        ),
        "z1 z2 z3 t1 t2 c c2 temperature",
    ),
    "dino_er": (
        lambda of, z1, z2, t1, t2, c, c2: of.dino_er([z1, z2], [t1, t2], c, c2, teacher_temperature=0.15),
        "z1 z2 t1 t2 c c2",
    ),
}
each = pytest.mark.parametrize("name", OBJECTIVES)


def chosen(name: str, dtype: torch.dtype) -> dict:
    every = inputs_of(dtype)
    return {argument: every[argument] for argument in OBJECTIVES[name][1].split()}


@pytest.fixture(params=[None, 4], ids=["", "blocks"])
def blocks(request, monkeypatch):
    """Prototypes at once, or by blocks of this many."""
    if request.param:
        for name in ("BLOCK", "BLOCK_OF_CPU"):
            monkeypatch.setattr(cross_entropy, name, request.param * 4 * D)


@cases.backends
@cases.dtypes
@each
def test_value_and_gradients(name, dtype, backend, blocks, request):
    if (
        backend == "triton"
        and not executor.REAL
        and (name in ("swav-queue", "dino") or request.node.callspec.params["blocks"])
    ):
        pytest.skip(
            "without a GPU neither a queue, nor a centre, nor a backward of its own finds its tensors on the device"
        )
    call, _ = OBJECTIVES[name]
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(name, lambda **i: call(jk.er, **i), lambda **i: call(oracle, **i), chosen(name, dtype), seed=0)


@each
def test_gradcheck(name, blocks):
    call, _ = OBJECTIVES[name]
    inputs = chosen(name, torch.float64)
    # Targets and codes are constants for autograd, which finite differences do not know: they are held still here.
    moved = [k for k in inputs if k not in ("t1", "t2", "c2") and (not name.startswith("swav") or k == "temperature")]
    leaves = [inputs[k].requires_grad_() for k in moved]

    def value(*given):
        found = call(jk.er, **{**inputs, **dict(zip(moved, given, strict=True))})
        return found if isinstance(found, torch.Tensor) else found.value

    assert not leaves or torch.autograd.gradcheck(value, tuple(leaves))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if name == "swav-queue" else ()) for name in OBJECTIVES]
)
@pytest.mark.parametrize("scale", [1.0, pytest.param(1e3, marks=pytest.mark.nightly)])
def test_one_graph_under_compile(name, scale):
    torch._dynamo.reset()
    call, _ = OBJECTIVES[name]
    inputs = chosen(name, torch.float32)

    def run(inputs):
        found = call(jk.er, **inputs)
        return found if isinstance(found, torch.Tensor) else found.value

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        leaves = {
            k: (v * scale if k[0] in "zt" and v.dim() else v).detach().requires_grad_() for k, v in inputs.items()
        }
        value = function(leaves)
        value.backward()
        results.append((value, [leaf.grad for leaf in leaves.values() if leaf.grad is not None]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_targets_have_no_gradient():
    inputs = {k: v.requires_grad_() for k, v in inputs_of(torch.float32).items()}
    t1, t2, c2 = inputs["t1"], inputs["t2"], inputs["c2"]
    z = [inputs["z1"], inputs["z2"]]
    jk.er.byol(z, [t1, t2]).backward()
    jk.er.byol_er(z, [t1, t2]).backward()
    jk.er.dino(z, [t1, t2], inputs["c"], c2).backward()
    jk.er.dino_er(z, [t1, t2], inputs["c"], c2).backward()
    assert [t.grad for t in (t1, t2, c2)] == [None] * 3
    assert all(t.grad.any() for t in (*z, inputs["c"]))


@pytest.mark.parametrize("name", ["swav-crops", "dino"])
def test_a_loss_is_differentiated_twice_with_the_same_gradients(name, blocks):
    call, _ = OBJECTIVES[name]
    leaves = {k: v.requires_grad_() for k, v in chosen(name, torch.float32).items() if k != "temperature"}
    value = call(jk.er, **leaves, **({"temperature": 0.2} if name == "dino" else {}))
    wanted = [leaf for k, leaf in leaves.items() if k not in ("t1", "t2", "c2")]
    first = torch.autograd.grad(value, wanted, retain_graph=True)
    again = torch.autograd.grad(value, wanted, torch.tensor(3.0))
    torch.testing.assert_close([3 * g for g in first], list(again), rtol=1e-5, atol=1e-7)


def test_a_backward_pass_in_another_thread_has_the_settings_of_its_forward_pass(monkeypatch):
    """As every backward pass on a GPU."""
    monkeypatch.setattr(cross_entropy, "BLOCK_OF_CPU", 4 * 4 * D)
    seen = []
    actual = cross_entropy.attend
    monkeypatch.setattr(cross_entropy, "attend", lambda *a, **k: (seen.append(settings()), actual(*a, **k))[1])
    inputs = {k: v.requires_grad_() for k, v in chosen("swav", torch.float32).items() if k != "temperature"}
    with jk.use_backend("reference", workspace=12345, skip_below=1e-6):
        value = jk.er.swav([inputs["z1"], inputs["z2"]], inputs["c"])
    thread = threading.Thread(target=value.backward)
    thread.start()
    thread.join()
    assert len(seen) > 2 and set(seen) == {Settings("reference", 12345, 1e-6)} and inputs["c"].grad is not None


def test_the_temperature_of_a_teacher_has_no_gradient():
    inputs = chosen("dino", torch.float32)
    slow = torch.tensor(0.15, requires_grad=True)
    z = [inputs["z1"].requires_grad_(), inputs["z2"]]
    for center in (None, CENTER.float()):
        value = jk.er.dino(
            z, [inputs["t1"], inputs["t2"]], inputs["c"], inputs["c2"], center=center, teacher_temperature=slow
        )
        value.backward()
        assert slow.grad is None


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_gradients_by_torch_func(name, blocks):
    call, _ = OBJECTIVES[name]
    inputs = {k: v for k, v in chosen(name, torch.float64).items() if k != "temperature"}
    options = {**inputs, "temperature": 0.2}
    inputs["c"].requires_grad_()
    found = torch.func.grad(lambda z: call(jk.er, **{**options, "z1": z}))(inputs["z1"])
    leaf = inputs["z1"].clone().requires_grad_()
    call(jk.er, **{**options, "z1": leaf}).backward()
    torch.testing.assert_close(found, leaf.grad)


def test_a_backward_pass_under_autocast_is_that_of_its_forward_pass(blocks):
    inputs = chosen("swav", torch.float32)
    grads = []
    for enabled in (False, True):
        leaves = [inputs[k].clone().requires_grad_() for k in ("z1", "z2", "c")]
        value = jk.er.swav(leaves[:2], leaves[2])
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value.backward()
        grads.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_a_slow_network_that_moves_before_the_backward_pass_is_noticed(blocks):
    inputs = chosen("dino", torch.float32)
    z, keys = [inputs["z1"].requires_grad_(), inputs["z2"]], inputs["c2"].clone()
    value = jk.er.dino(z, [inputs["t1"], inputs["t2"]], inputs["c"].requires_grad_(), keys)
    keys.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def published_codes(s: torch.Tensor, iterations: int = 3) -> torch.Tensor:
    """Sinkhorn as it is usually written, by exponentials."""
    q = s.exp().T
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / len(q)
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


@cases.backends
@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_codes_are_those_of_sinkhorn_by_exponentials(backend, iterations):
    z, c = unit(data.normals(N, D, seed=0)), unit(data.normals(K, D, seed=1))
    s = z @ c.T / 0.05
    with jk.use_backend(backend):
        found = (s + jk.er.sinkhorn(z, c, iterations=iterations)).softmax(dim=1)
    torch.testing.assert_close(found, published_codes(s, iterations), rtol=1e-10, atol=1e-13)


def test_codes_tend_to_balance():
    z, c = unit(data.normals(N, D, seed=0)), unit(data.normals(K, D, seed=1))
    codes = (z @ c.T / 0.05 + jk.er.sinkhorn(z, c, iterations=1000)).softmax(dim=1)
    torch.testing.assert_close(codes.sum(dim=0), torch.full((K,), N / K).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("epsilon", [0.01, 1e-3, 1e-4])
def test_sinkhorn_is_finite_where_exponentials_overflow(epsilon):
    z, c = unit(data.normals(N, D, seed=0)).float(), unit(data.normals(K, D, seed=1)).float()
    z[0] = c[0]  # a cosine of 1: e^{1/ε} is beyond fp32
    assert not published_codes(z @ c.T / epsilon).isfinite().all()
    balance = jk.er.sinkhorn(z, c, epsilon=epsilon)
    expected = jk.er.sinkhorn(z.double(), c.double(), epsilon=epsilon)
    torch.testing.assert_close(balance.double() * epsilon, expected * epsilon, rtol=1e-5, atol=1e-5)
    leaf = z.clone().requires_grad_()
    value = jk.er.swav([leaf, z.flip(0)], c, epsilon=epsilon)
    value.backward()
    assert value.isfinite() and leaf.grad.isfinite().all()


def test_a_prototype_that_nobody_takes_has_its_share_from_sinkhorn_and_counts_0_in_the_entropy():
    z = unit(data.normals(N, D, seed=0)) * torch.tensor([0.1] * (D - 1) + [1.0])
    z = unit(z.abs()).float().requires_grad_()
    c = torch.eye(D)
    c = torch.cat([c, -torch.ones(1, D) / math.sqrt(D)]).requires_grad_()  # opposite to every row
    s = z.detach() @ c.detach().T / 1e-3
    assert float(s.softmax(dim=1).sum(dim=0)[-1]) == 0
    codes = (s + jk.er.sinkhorn(z, c, epsilon=1e-3, iterations=10)).softmax(dim=1)
    assert float(codes.sum(dim=0)[-1]) > 0.1 * N / (D + 1)
    entropy = jk.er.assignment_entropy(z, c, temperature=1e-3)
    entropy.backward()
    assert 0 <= entropy <= math.log(D) and z.grad.isfinite().all() and c.grad.isfinite().all()
    value = jk.er.swav_er([z, z.flip(0)], c, epsilon=1e-3)
    assert value.isfinite()


def test_the_entropy_of_one_hot_assignments_is_not_below_0_nor_of_equal_ones_below_log_k():
    c = torch.eye(4)
    same = torch.eye(4)[:1].repeat(6, 1)
    assert 0 <= float(jk.er.assignment_entropy(same, c, temperature=0.01)) < 1e-30
    equal = torch.ones(6, 4)
    assert float(jk.er.assignment_entropy(equal, c)) == pytest.approx(math.log(4), abs=1e-6)


def test_the_er_forms_are_minus_the_bound_where_both_networks_agree():
    z = [data.normals(N, D, seed=s).float() for s in (0, 1)]
    c = unit(data.normals(K, D, seed=2)).float()
    widths = {"temperature": 0.2, "target_temperature": 0.1}
    expected = jk.er.discrete_loss(*z, c, **widths)
    torch.testing.assert_close(jk.er.swav_er(z, c, temperature=0.2, epsilon=0.1), expected)
    torch.testing.assert_close(jk.er.dino_er(z, z, c, c, temperature=0.2, teacher_temperature=0.1), expected)
    bound = jk.er.bound(*z, concentration=6.0, symmetric=True).value
    torch.testing.assert_close(jk.er.byol_er(z, z, concentration=6.0), -bound)


def test_a_collapsed_encoder_has_a_bound_of_0_and_a_clustering_one_of_log_k():
    c = torch.eye(4)
    collapsed, spread = torch.eye(4)[:1].repeat(8, 1), torch.eye(4).repeat(2, 1)
    assert float(jk.er.discrete_bound(collapsed, collapsed, c, temperature=0.02).value) == pytest.approx(0, abs=1e-5)
    assert float(jk.er.discrete_bound(spread, spread, c, temperature=0.02).value) == pytest.approx(
        math.log(4), abs=1e-5
    )
    # Plain DINO without a centre prefers neither: both have a loss of 0.
    for z in (collapsed, spread):
        assert float(jk.er.dino([z, z], [z, z], c, c, temperature=0.02)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["swav", "swav_er", "dino", "dino_er"])
def test_unit_rows_are_taken_as_they_are(name):
    z, t = ([F.normalize(data.normals(N, D, seed=s + k), dim=1) for s in (0, 1)] for k in (0, 5))
    c, c2 = (unit(data.normals(K, D, seed=s)) for s in (2, 3))
    inputs = (z, c) if name.startswith("swav") else (z, t, c, c2)
    function = getattr(jk.er, name)
    torch.testing.assert_close(function(*inputs, normalize=False), function(*inputs))
    with pytest.raises(
        ValueError, match=rf"^{name}: (views|students)\[1\] is not of unit rows \(row 3 has norm 2\), must be"
    ):
        z[1][3] *= 2
        function(*inputs, normalize=False)


def test_under_autocast_scores_and_means_are_of_the_same_rounded_numbers():
    z = [data.normals(N, D, seed=s).float().requires_grad_() for s in (0, 1)]
    c = unit(data.normals(K, D, seed=2)).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = jk.er.swav(z, c)
    value.backward()
    rounded = [F.normalize(v.detach(), dim=1).bfloat16() for v in z]
    torch.testing.assert_close(value, jk.er.swav(rounded, c.detach().bfloat16(), normalize=False), rtol=1e-4, atol=1e-4)
    assert c.grad.dtype == torch.float32 and c.grad.isfinite().all()
