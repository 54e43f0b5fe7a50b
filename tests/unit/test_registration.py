"""Operators and autograd: schema, fake, compile, func.grad, autocast, and what must be refused."""

import contextlib
import copy

import pytest
import torch
import torch._dynamo.testing
import torch.utils.checkpoint
from torch import nn

import jessl_kernels as jk
from jessl_kernels.backends import BACKENDS
from jessl_kernels.problem.flat import tensors_of, to_schema, words_of
from jessl_kernels.problem.row_loss import Positives, RowProblem
from jessl_kernels.problem.types import Terms

N, D = 6, 3


def rows(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def mean_loss(z):
    return jk.nt_xent(*z.split(len(z) // 2))


def row_loss(z):
    return jk.nt_xent(*z.split(len(z) // 2), reduction="none").square().sum()


def both_sides(z):
    return jk.clip_loss(*z.split(len(z) // 2), 10.0, normalize=True)


def distances(z):
    return jk.kde_entropy(z, bandwidth=0.8)


def pair_sum(z):
    return jk.siglip_loss(*z.split(len(z) // 2), 10.0, -10.0)


def total(z):
    return jk.uniformity(z)


LOSSES = [mean_loss, row_loss, both_sides, distances, pair_sum, total]
losses = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)


def op_arguments(kind: str, requires_grad: bool, *, one_piece: bool = False, **words) -> tuple:
    ids = torch.tensor([0, 1, 1, -1])
    keys = [rows(1, 5, D)] if one_piece else [rows(1, 2, D), rows(8, 3, D)]
    problem = RowProblem(
        x=(rows(0, 4, D).requires_grad_(requires_grad),),
        y=tuple(piece.requires_grad_(requires_grad) for piece in keys),
        scale=torch.tensor(0.7, requires_grad=requires_grad),
        row_bias=rows(2, 4).requires_grad_(requires_grad),
        col_bias=rows(3, 5).requires_grad_(requires_grad),
        exclude=jk.Exclude(diagonals=(0,), same=(ids, torch.tensor([1, 1, 2, 0, -1])), keep=(1,)),
        kind=kind,
        phi=jk.phi.clamp(-2.0, 2.0),
        **words,
    )
    return to_schema(words_of(problem), tensors_of(problem))


def sums_and_slopes(problem_arguments: tuple) -> tuple[list, list]:
    """Sums and slopes of rows and of columns, with positives by ids."""
    sums = torch.ops.jessl_kernels.row_sums(*problem_arguments, "reference", 1 << 20)
    slopes = [
        rows(4, 1, 4),
        rows(5, 4),
        rows(6, 4),
        torch.empty(0),
        rows(7, 1, 5),
        rows(8, 5),
        rows(9, 5),
        torch.empty(0),
    ]
    return sums, slopes


@pytest.mark.parametrize("kind", ["dot", "sqdist"])
@pytest.mark.parametrize("backend", ["chunked", "reference", "cpu"])
@pytest.mark.parametrize("name", ["row_sums", "row_grads", "row_loss", "attach", "total", "top_k"])
def test_opcheck_accepts_every_operator(name, backend, kind):
    if BACKENDS[backend].MISSING:
        pytest.skip(BACKENDS[backend].MISSING)
    end = (backend, 1 << 20)
    differentiable = name in ("row_loss", "attach", "total")
    labels = (torch.tensor([0, 1, 2, 2]), torch.tensor([2, 0, 1, 0, -1]))
    with_positives = {
        "positives": Positives(row_ids=labels[0], col_ids=labels[1]),
        "of_positives": Terms(linear=True),
        "cols": True,
    }
    simple = name in ("total", "top_k")
    arguments = op_arguments(kind, differentiable, one_piece=simple, **({} if simple else with_positives))
    needs = [True] * (2 if simple else 3) + [True] * 3 + [False] * 3
    rest: tuple = ()
    if name in ("row_grads", "attach"):
        sums, slopes = sums_and_slopes(op_arguments(kind, False, **with_positives))
        values = [value.requires_grad_(name == "attach" and value.numel() > 0) for value in slopes]
        rest = (sums, slopes, needs) if name == "row_grads" else (values, sums)
    elif name == "row_loss":
        rest = ("softplus_spread", "mean", 0.5, rows(10, 4).abs(), None, needs)
    elif name != "row_sums":
        rest = (2,) if name == "top_k" else (needs,)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    if differentiable:
        checks += ("test_autograd_registration",)
    outcome = torch.library.opcheck(
        getattr(torch.ops.jessl_kernels, name).default, (*arguments, *rest, *end), test_utils=checks
    )
    assert set(outcome.values()) == {"SUCCESS"}


@pytest.mark.parametrize(("name", "rest"), [("gather_rows", ()), ("scatter_sum", (7,))])
def test_rows_taken_and_summed_by_their_numbers_differentiate_each_other(name, rest):
    x = rows(0, 6, D, dtype=torch.float64).requires_grad_()
    numbers = torch.tensor([0, 3, 3, 5, 0, 0])
    op = getattr(torch.ops.jessl_kernels, name).default
    assert set(torch.library.opcheck(op, (x, numbers, *rest)).values()) == {"SUCCESS"}
    assert torch.autograd.gradcheck(lambda t: op(t, numbers, *rest), x)
    assert torch.autograd.gradgradcheck(lambda t: op(t, numbers, *rest).square(), x)


@losses
def test_compiled_without_graph_breaks_gives_the_eager_numbers(loss):
    z = rows(0, 2 * N, D).requires_grad_()
    compiled = rows(0, 2 * N, D).requires_grad_()
    loss(z).backward()
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled)
    value.backward()
    assert value.item() == pytest.approx(loss(z).item(), rel=1e-6)
    torch.testing.assert_close(compiled.grad, z.grad, rtol=1e-5, atol=1e-7)


@losses
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_no_trace_asks_whether_a_device_has_autocast(loss, autocast, monkeypatch):
    """Dynamo of torch 2.11 cannot trace the question."""
    answer = torch._C._is_autocast_available

    def untraceable(device):
        torch._dynamo.graph_break()  # only a trace must not ask; Dynamo itself may
        return answer(device)

    torch._dynamo.reset()
    monkeypatch.setattr(torch._C, "_is_autocast_available", untraceable)
    z, twin = (rows(0, 2 * N, D).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value, expected = torch.compile(loss, fullgraph=True, backend="aot_eager")(z), loss(twin)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(z.grad, twin.grad, rtol=1e-5, atol=1e-7)


@losses
def test_func_grad_and_vjp_agree_with_backward(loss):
    z = rows(0, 2 * N, D).requires_grad_()
    loss(z).backward()
    torch.testing.assert_close(torch.func.grad(loss)(z.detach()), z.grad, rtol=1e-6, atol=1e-8)
    _, pull = torch.func.vjp(loss, z.detach())
    torch.testing.assert_close(pull(torch.tensor(1.0))[0], z.grad, rtol=1e-6, atol=1e-8)


@losses
def test_gradient_penalty_raises_instead_of_leaving_terms_out(loss):
    z = rows(0, 2 * N, D).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z), z, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


@losses
def test_hessian_raises(loss):
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.functional.hessian(loss, rows(0, 2 * N, D))
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.hessian(loss)(rows(0, 2 * N, D))


def test_second_derivative_of_the_registered_operators_raises():
    arguments = op_arguments("dot", True, one_piece=True)
    needs = [True] * 5 + [False] * 3
    value, *_ = torch.ops.jessl_kernels.total(*arguments, needs, "chunked", 1 << 20)
    (gradient,) = torch.autograd.grad(value, arguments[0][0], create_graph=True)
    with pytest.raises((RuntimeError, NotImplementedError)):
        gradient.square().sum().backward()


@losses
def test_vmap_and_jvp_are_refused_by_name(loss):
    with pytest.raises(NotImplementedError, match="no vmap rule"):
        torch.func.vmap(loss)(rows(0, 2, 2 * N, D))
    z = rows(0, 2 * N, D)
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(loss, (z,), (z,))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        loss(torch.autograd.forward_ad.make_dual(z, z))


@losses
def test_backward_twice_gives_the_same_bits(loss):
    z = rows(0, 2 * N, D).requires_grad_()
    value = loss(z)
    first, second = (torch.autograd.grad(value, z, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@losses
def test_a_gradient_that_was_written_to_is_never_handed_out_again(loss):
    z = rows(0, 2 * N, D).requires_grad_()
    value = loss(z)
    value.backward(retain_graph=True)
    first = z.grad.clone()
    z.grad.zero_()
    value.backward(retain_graph=True)
    assert torch.equal(z.grad, first)
    (made,) = torch.autograd.grad(value, z, retain_graph=True)
    made.zero_()
    # This notices a second copy that the loss keeps, but no other copy.
    with contextlib.suppress(RuntimeError):
        assert torch.equal(torch.autograd.grad(value, z)[0], first)


@losses
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_gives_the_plain_gradient(loss, reentrant):
    plain, checkpointed = (rows(0, 2 * N, D).requires_grad_() for _ in range(2))
    loss(plain).backward()
    torch.utils.checkpoint.checkpoint(loss, checkpointed, use_reentrant=reentrant).backward()
    assert torch.equal(checkpointed.grad, plain.grad)


@losses
def test_two_runs_give_the_same_bits(loss):
    runs = []
    for _ in range(2):
        z = rows(0, 200, D).requires_grad_()
        value = loss(z)
        value.backward()
        runs.append((value.detach(), z.grad))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_dot_scores_in_its_dtype_and_returns_fp32(dtype):
    z = rows(0, 2 * N, D).requires_grad_()
    with torch.autocast("cpu", dtype):
        value = mean_loss(z)
    value.backward()
    unit = nn.functional.normalize(rows(0, 2 * N, D)).to(dtype)
    expected = jk.nt_xent(*unit.split(N), normalize=False)
    assert value.dtype == torch.float32
    assert z.grad.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_autocast_leaves_distances_vmf_and_fp64_alone():
    z = rows(0, 2 * N, D)
    for loss in (distances, total, lambda z: jk.kde_entropy(z, kernel="vmf", concentration=5.0)):
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(z)
        assert torch.equal(inside, loss(z))
    with torch.autocast("cpu", torch.bfloat16):
        inside = mean_loss(z.double())
    assert torch.equal(inside, mean_loss(z.double()))


def test_loss_dtype_is_fp32_for_half_and_fp64_for_fp64_and_gradients_are_like_the_inputs():
    for dtype, out in ((torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)):
        z = rows(0, 2 * N, D, dtype=dtype).requires_grad_()
        value = mean_loss(z)
        value.backward()
        assert value.dtype == out
        assert z.grad.dtype == dtype


def test_a_large_loss_scale_reaches_fp16_gradients_unflushed():
    """GradScaler needs this: gradients stay in fp32 until the upstream gradient has been multiplied in."""
    z = rows(0, 4096, 8, dtype=torch.float16).requires_grad_()
    (mean_loss(z) * 2**16).backward()
    reference = rows(0, 4096, 8, dtype=torch.float16).float().requires_grad_()
    (mean_loss(reference) * 2**16).backward()
    assert (z.grad == 0).float().mean() < 1e-3
    assert (z.grad.float() - reference.grad).norm() < 5e-3 * reference.grad.norm()


def test_a_copied_module_with_the_state_of_another_gives_its_numbers():
    module = jk.nn.NTXent(0.3, learnable=True)
    twin = jk.nn.NTXent(0.9, learnable=True)
    twin.load_state_dict(module.state_dict())
    z = rows(0, 2 * N, D)
    assert torch.equal(module(*z.split(N)), copy.deepcopy(twin)(*z.split(N)))


class TrainingStep(nn.Module):
    """An encoder and a loss whose temperature is learnt, as one module that a wrapper can hold."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.loss = nn.Linear(D, D), jk.nn.NTXent(learnable=True)

    def forward(self, z):
        return self.loss(*self.encoder(z).split(N))


@pytest.fixture
def one_process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_ddp_gives_the_gradients_of_the_bare_module(one_process_group):
    bare, wrapped = TrainingStep(), nn.parallel.DistributedDataParallel(TrainingStep())
    for module in (bare, wrapped):
        module(rows(0, 2 * N, D)).backward()
    for (name, plain), (_, found) in zip(bare.named_parameters(), wrapped.module.named_parameters(), strict=True):
        assert torch.equal(plain.grad, found.grad), name


def test_fsdp_trains_as_the_bare_module(one_process_group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    bare, sharded = TrainingStep(), TrainingStep()
    fully_shard(sharded.encoder, mesh=init_device_mesh("cpu", (1,)))
    for module in (bare, sharded):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        module(rows(0, 2 * N, D)).backward()
        optimizer.step()
    torch.testing.assert_close(sharded.encoder.weight.full_tensor(), bare.encoder.weight)
