"""Modules of entropy and reconstruction: their functions, what they hold from step to step, the slow network."""

import io
import math

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk
from tests import data

N, D, K = 12, 6, 8


def views(*seeds: int) -> list[torch.Tensor]:
    return [data.normals(N, D, seed=seed).float() for seed in seeds]


def reloaded(module, again):
    """`again` with the state of `module`, through a file."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    return again


@pytest.mark.parametrize("width", [{"concentration": 6.0}, {"kernel": "gaussian", "bandwidth": 0.8}])
@pytest.mark.parametrize("learnable", [False, True])
def test_er_is_the_loss_and_prints_its_widths(width, learnable):
    z = views(0, 1)
    module = jk.er.ER(**width, learnable=learnable)
    torch.testing.assert_close(module(*z), jk.er.loss(*z, **width))
    assert len(list(module.parameters())) == (2 if learnable else 0)
    name = next(reversed(width))
    assert f"{name}={width[name]:.4g}, q_{name}={width[name]:.4g}, learnable={learnable}" in repr(module)
    again = reloaded(module, jk.er.ER(**{**width, name: 1.0}, learnable=learnable))
    torch.testing.assert_close(again.width, module.width)


def test_prototypes_are_unit_rows_again_at_each_call():
    module = jk.er.Prototypes(K, D)
    optimizer = torch.optim.SGD(module.parameters(), lr=10.0)
    for _ in range(2):
        jk.er.swav(views(0, 1), module()).backward()
        optimizer.step()
    assert float((module.weight.detach().norm(dim=1) - 1).abs().max()) > 1e-3
    torch.testing.assert_close(module().detach().norm(dim=1), torch.ones(K))


@pytest.mark.parametrize("er", [False, True])
def test_swav_is_its_function_with_prototypes_that_learn(er):
    module = jk.er.SwAV(K, D, er=er, temperature=0.2)
    function = jk.er.swav_er if er else jk.er.swav
    z = views(0, 1)
    expected = function(z, module.prototypes().detach(), local=views(2), temperature=0.2)
    value = module(z, views(2))
    torch.testing.assert_close(value, expected)
    value.backward()
    assert module.prototypes.weight.grad.any()


def test_swav_keeps_a_queue_of_each_view_in_step():
    module = jk.er.SwAV(K, D, queue=2 * N + 3)
    batches = [views(2 * step, 2 * step + 1) for step in range(5)]
    for step, batch in enumerate(batches):
        value = module(batch)
        earlier = [torch.cat([*(b[v] for b in batches[:step][::-1]), torch.zeros(0, D)])[: 2 * N + 3] for v in (0, 1)]
        torch.testing.assert_close(value, jk.er.swav(batch, module.prototypes(), queue=earlier))
        again = reloaded(module, jk.er.SwAV(K, D, queue=2 * N + 3))
    torch.testing.assert_close(again.eval()(batches[0]), module.eval()(batches[0]))
    assert "queue=27" in repr(module)
    held = module.queues.clone()
    module(batches[0])
    assert torch.equal(held, module.queues)  # in evaluation nothing is taken in


def test_byol_and_its_er_form_are_their_functions():
    z, t = views(0, 1), views(2, 3)
    torch.testing.assert_close(jk.er.BYOL()(z, t), jk.er.byol(z, t))
    expected = jk.er.byol_er(z, t, concentration=4.0, projections=views(4))
    torch.testing.assert_close(jk.er.BYOL(4.0)(z, t, views(4)), expected)


def test_dino_moves_its_centre_after_the_loss_and_only_in_training():
    z, t, c, c2 = views(0, 1), views(2, 3), *(F.normalize(data.normals(K, D, seed=s).float(), dim=1) for s in (5, 6))
    module = jk.er.DINO(K, momentum=0.75, teacher_temperature=0.1)
    torch.testing.assert_close(module(z, t, c, c2), jk.er.dino(z, t, c, c2, teacher_temperature=0.1))
    mean = torch.cat([F.normalize(v, dim=1) @ c2.T for v in t]).mean(dim=0)
    torch.testing.assert_close(module.center.value, 0.25 * mean)
    expected = jk.er.dino(z, t, c, c2, center=0.25 * mean, teacher_temperature=0.07)
    torch.testing.assert_close(module.eval()(z, t, c, c2, teacher_temperature=0.07), expected)
    torch.testing.assert_close(module.center.value, 0.25 * mean)
    er = jk.er.DINO(K, er=True)
    torch.testing.assert_close(er(z, t, c, c2), jk.er.dino_er(z, t, c, c2))


def test_under_autocast_a_centre_stays_in_fp32():
    t, c = views(2, 3), F.normalize(data.normals(K, D, seed=5).float(), dim=1)
    inside, outside = jk.er.Center(K), jk.er.Center(K)
    with torch.autocast("cpu", torch.bfloat16):
        inside.update(t, c)
    outside.update(t, c)
    assert torch.equal(inside.value, outside.value)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(D, D), torch.nn.BatchNorm1d(D))


def test_a_teacher_is_the_moving_average_of_its_student_without_gradient():
    student = network()
    teacher = jk.er.EMATeacher(student, momentum=0.9)
    start = [p.detach().clone() for p in student.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    student(torch.randn(N, D))  # moves the statistics of batch normalisation
    teacher.update(student)
    for slow, before in zip(teacher.network.parameters(), start, strict=True):
        torch.testing.assert_close(slow, before + 0.1)
        assert not slow.requires_grad
    for slow, given in zip(teacher.network.buffers(), student.buffers(), strict=True):
        assert torch.equal(slow, given)
    assert not teacher(torch.randn(N, D)).requires_grad


def test_a_momentum_follows_half_a_cosine_to_1_and_resumes():
    student = network()
    teacher = jk.er.EMATeacher(student, momentum=0.8, steps=4)
    seen = []
    for _ in range(6):
        seen.append(teacher.momentum)
        teacher.update(student)
    expected = [1 - 0.2 * (math.cos(math.pi * min(step / 4, 1)) + 1) / 2 for step in range(6)]
    assert seen == pytest.approx(expected)
    assert reloaded(teacher, jk.er.EMATeacher(network(), momentum=0.8, steps=4)).updates == 6


def test_a_teacher_of_another_shape_is_refused():
    teacher = jk.er.EMATeacher(torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"EMATeacher.update: student is of weight \(3, 5\), must have \(3, 4\) like"):
        teacher.update(torch.nn.Linear(5, 3))
    with pytest.raises(
        ValueError, match=r"EMATeacher.update: student is of other parameters \(bias\), must be the net"
    ):
        teacher.update(torch.nn.Linear(4, 3, bias=False))
