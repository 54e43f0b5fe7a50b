"""Two views, or keys and further negatives, are one batch in two tensors, each read in place with any layout."""

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.native import native_status
from tests.data import normals

N, D = 203, 24  # rows of a piece: neither a tile nor a multiple of one

LOSSES = {
    "nt_xent": jk.nt_xent,
    "dcl": jk.dcl,
    "nt_xent-unit-rows": lambda a, b: jk.nt_xent(a, b, normalize=False, temperature=9.0),
    "negatives": lambda a, b: jk.info_nce(a.detach().flip(0), a, b),
    "negatives-learning": lambda a, b: jk.info_nce(a.flip(0), a, b),
    "negatives-symmetric": lambda a, b: jk.info_nce(a.detach().flip(0), a, b, symmetric=True),
}
losses = pytest.mark.parametrize("loss", LOSSES)

# Layouts of the same numbers in memory.
LAYOUTS = {
    "contiguous": lambda z: z.contiguous(),
    "transposed": lambda z: z.t().contiguous().t(),
    "rows with gaps": lambda z: torch.stack([z, torch.full_like(z, torch.nan)], dim=1)[:, 0],
    "columns with gaps": lambda z: torch.stack([z, torch.full_like(z, torch.nan)], dim=2)[..., 0],
    "negated": lambda z: torch._neg_view(-z),
}


@pytest.fixture(autouse=True)
def _cpu_backend():
    if not native_status().available:
        pytest.skip("without the extension views are joined")
    with jk.use_backend("cpu", workspace=2**18):
        yield


def answers(loss: str, *views: torch.Tensor, upstream: float = 1.0) -> list[torch.Tensor]:
    """Value and gradients."""
    views = tuple(view.detach().requires_grad_() for view in views)
    value = LOSSES[loss](*views)
    return [value.detach(), *torch.autograd.grad(value * upstream, views)]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


@losses
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("d", "workspace"), [(D, 2**18), (32, 2**18), (32, 2**23)], ids=["tiles", "in place", "copied"]
)
def test_bits_do_not_depend_on_how_each_piece_lies_in_memory(loss, dtype, d, workspace):
    """Tiles are copied, or read in place if the layout allows it, or read from a copy of the batch."""
    views = normals(2, N, d, seed=0).to(dtype).unbind()
    with jk.use_backend("cpu", workspace=workspace):
        expected = answers(loss, *views)
        for one in LAYOUTS:
            for other in LAYOUTS:
                assert equal(answers(loss, LAYOUTS[one](views[0]), LAYOUTS[other](views[1])), expected), (one, other)


@losses
def test_pieces_are_the_batch_that_the_other_backends_join(loss):
    views = normals(2, N, D, seed=1).unbind()
    with jk.use_backend("reference"):
        expected = answers(loss, *views, upstream=3.0)
    for ours, truth in zip(answers(loss, *views, upstream=3.0), expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-11, atol=1e-13)


@losses
@pytest.mark.parametrize("learning", [0, 1])
def test_one_piece_may_be_a_constant(loss, learning):
    views = normals(2, N, D, seed=2).float().unbind()
    expected = answers(loss, *views)
    learned = views[learning].clone().requires_grad_()
    value = LOSSES[loss](*(learned if k == learning else view for k, view in enumerate(views)))
    value.backward()
    assert equal([value.detach(), learned.grad], [expected[0], expected[1 + learning]])


@losses
def test_a_piece_may_be_both(loss):
    z = normals(N, D, seed=3).float()
    value, first, second = answers(loss, z, z.clone())
    z.requires_grad_()
    twice = LOSSES[loss](z, z)
    (gradient,) = torch.autograd.grad(twice, z)
    assert torch.equal(twice.detach(), value)
    torch.testing.assert_close(gradient, first + second, rtol=1e-5, atol=1e-8)  # three terms are added in another order


@losses
def test_gradients_can_be_written_to_one_at_a_time(loss):
    a, b = (view.float().requires_grad_() for view in normals(2, N, D, seed=4).unbind())
    LOSSES[loss](a, b).backward()
    assert a.grad is not None and b.grad is not None
    before = b.grad.clone()
    a.grad.zero_()
    assert torch.equal(b.grad, before)


@losses
def test_a_compiled_loss_joins_them(loss):
    views = normals(2, N, D, seed=5).float().unbind()
    expected = answers(loss, *views)
    compiled = torch.compile(LOSSES[loss], backend="aot_eager", fullgraph=True)
    learned = [view.clone().requires_grad_() for view in views]
    value = compiled(*learned)
    value.backward()
    assert equal([value.detach(), *(z.grad for z in learned)], expected)


@losses
def test_a_second_derivative_is_refused(loss):
    views = [view.float().requires_grad_() for view in normals(2, N, D, seed=6).unbind()]
    for gradient in torch.autograd.grad(LOSSES[loss](*views), views, create_graph=True):
        with pytest.raises(RuntimeError, match="no second derivatives"):
            gradient.square().sum().backward(retain_graph=True)


def test_negatives_may_be_more_or_fewer_than_the_keys():
    query, keys = normals(2, N, D, seed=7).unbind()
    for count in (1, 7, 191, 192, 193, 3 * N):
        queue = normals(D, count, seed=8).t()  # as a queue of past keys is held, one in a column

        def made(backend, queue=queue):
            leaves = [t.detach().requires_grad_() for t in (query, keys, queue)]
            with jk.use_backend(backend):
                value = jk.info_nce(*leaves)
            return [value.detach(), *torch.autograd.grad(value, leaves)]

        for ours, truth in zip(made("cpu"), made("reference"), strict=True):
            torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-13)


def test_a_gradient_that_is_written_to_leaves_the_other_to_autograd():
    views = [view.float().requires_grad_() for view in normals(2, N, D, seed=11).unbind()]
    weight = torch.ones((), requires_grad=True)
    one, other = torch.autograd.grad(jk.nt_xent(*views), views)
    later = (weight * other).sum()
    one.mul_(0.5)
    later.backward()
    assert weight.grad == other.sum()


def test_a_subclass_as_the_second_piece_is_joined():
    class Named(torch.Tensor):
        pass

    one, other = normals(2, N, D, seed=12).float().unbind()
    torch.testing.assert_close(
        jk.nt_xent(one, other.as_subclass(Named)).as_subclass(torch.Tensor), jk.nt_xent(one, other)
    )


@pytest.mark.parametrize("learning", [0, 1])
def test_func_grad_by_one_of_them(learning):
    views = normals(2, N, D, seed=13).float().unbind()
    expected = answers("nt_xent", *views)[1 + learning]
    torch.testing.assert_close(torch.func.grad(jk.nt_xent, argnums=learning)(*views), expected, rtol=1e-5, atol=1e-8)


def test_skipping_puts_the_joined_batch_in_order():
    centers = normals(20, 2, seed=9).repeat_interleave(60, dim=0)
    views = (centers + 0.001 * normals(2, len(centers), 2, seed=10)).float().unbind()
    expected = answers("nt_xent", *views)
    with jk.use_backend("cpu", skip_below=1e-6):
        skipped = answers("nt_xent", *views)
    for ours, truth in zip(skipped, expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-6)
