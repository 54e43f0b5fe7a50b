"""SwAV and DINO are those of lightly, which takes the matrices of scores; and finite where lightly's are not."""

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk
from tests import cases
from tests.data import normals
from tests.peers import installed

N, D, K = 12, 6, 10


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(normals(*shape, seed=seed), dim=-1).requires_grad_()


def leaves() -> dict[str, torch.Tensor]:
    views = {name: unit(N, D, seed=seed) for seed, name in enumerate(("z1", "z2", "small", "t1", "t2"))}
    return {**views, "c": unit(K, D, seed=7), "c2": unit(K, D, seed=8)}


def same(ours, theirs) -> None:
    """Value and gradients of two calls of leaves, in fp64."""
    results = []
    for function in (ours, theirs):
        given = leaves()
        value = function(**given).squeeze()
        value.backward()
        results.append([value.detach(), *(given[name].grad for name in ("z1", "z2", "small", "c"))])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-13)


@cases.backends
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("queue", [False, True], ids=["", "queue"])
def test_swav_and_gradients_are_those_of_lightly(backend, iterations, queue):
    earlier = [unit(7, D, seed=seed).detach() for seed in (20, 21)] if queue else None

    def theirs(z1, z2, small, c, **_):
        peer = installed.SwaVLoss(temperature=0.2, sinkhorn_iterations=iterations, sinkhorn_epsilon=0.05)
        of_queue = None if earlier is None else [z @ c.T for z in earlier]
        return peer([z1 @ c.T, z2 @ c.T], [small @ c.T], of_queue)

    def ours(z1, z2, small, c, **_):
        options = {"temperature": 0.2, "iterations": iterations, "normalize": False}
        return jk.er.swav([z1, z2], c, local=[small], queue=earlier, **options)

    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        same(ours, theirs)


@cases.backends
def test_dino_its_gradients_and_its_centre_are_those_of_lightly(backend):
    # 1/16 and 1/8 are exact in fp32, in which lightly holds the teacher's temperature.
    peer = installed.DINOLoss(K, teacher_temp=0.0625, student_temp=0.125).double()
    module = jk.er.DINO(K, temperature=0.125, teacher_temperature=0.0625, normalize=False).double()
    start = normals(K, seed=30)
    peer.center.data.copy_(start)
    module.center.value.copy_(start)

    def theirs(z1, z2, small, t1, t2, c, c2):
        return peer([t.detach() @ c2.detach().T for t in (t1, t2)], [z @ c.T for z in (z1, z2, small)])

    def ours(z1, z2, small, t1, t2, c, c2):
        return module([z1, z2, small], [t1, t2], c, c2)

    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        for _ in range(3):  # the centre of each call is made by those before
            same(ours, theirs)
    torch.testing.assert_close(module.center.value, peer.center.flatten(), rtol=1e-12, atol=1e-14)
    assert not torch.allclose(module.center.value, start)


def test_codes_of_lightly_overflow_at_a_small_epsilon_and_ours_do_not():
    z1, z2, c = (t.detach().float() for t in (unit(N, D, seed=0), unit(N, D, seed=1), unit(K, D, seed=2)))
    z1[0] = c[0]
    peer = installed.SwaVLoss(sinkhorn_epsilon=0.01)([z1 @ c.T, z2 @ c.T], [])
    assert not peer.isfinite()
    in_fp64 = installed.SwaVLoss(sinkhorn_epsilon=0.01)([z1.double() @ c.T.double(), z2.double() @ c.T.double()], [])
    torch.testing.assert_close(jk.er.swav([z1, z2], c, epsilon=0.01).double(), in_fp64.squeeze(), rtol=1e-5, atol=1e-6)
