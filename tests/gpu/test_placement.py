"""The pretended GPU refuses, as a GPU does, two memories in one operation and a host tensor for a kernel."""

import numpy
import pytest
import torch

import jessl_kernels as jk
from tests import executor, placement


def rows(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def gpu():
    with executor.gpu():
        yield


@pytest.mark.usefixtures("gpu")
def test_what_a_test_makes_lies_on_the_gpu_and_keeps_its_numbers_and_its_gradient():
    x = torch.tensor([1.5, 2.5], requires_grad=True)
    assert x.is_leaf and x.requires_grad
    (x * torch.arange(2)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


@pytest.mark.usefixtures("gpu")
def test_two_memories_in_one_operation_are_refused_and_numbers_are_not():
    x = rows()
    with pytest.raises(RuntimeError, match="would mix two devices"):
        x + rows().cpu()
    with pytest.raises(RuntimeError, match="would mix two devices"):
        torch.stack([torch.ones(()), torch.ones(()).cpu()])
    assert (x * torch.ones(()).cpu()).shape == x.shape
    assert (x + rows().cpu().to(x.device)).shape == x.shape
    assert (x + x.new_ones(16)).shape == x.shape


@pytest.mark.usefixtures("gpu")
def test_numpy_does_not_see_the_gpu():
    for convert in (torch.Tensor.numpy, numpy.asarray):
        with pytest.raises(TypeError):
            convert(rows())
        assert convert(rows().cpu()).shape == (4, 16)


@pytest.mark.usefixtures("gpu")
def test_tensors_from_before_lie_on_the_host():
    with pytest.raises(RuntimeError, match="would mix two devices"):
        rows() + BEFORE


BEFORE = torch.ones(16)


@pytest.mark.usefixtures("gpu")
def test_a_device_that_the_package_forgets_to_name_is_refused(monkeypatch):
    """Numbers made on the host work unnoticed on the CPU; on a GPU they are an address that no kernel may read."""
    x, partners = rows().bfloat16(), torch.tensor([1, 0, 3, 2])

    def loss() -> torch.Tensor:
        return jk.row_loss(x, join="softplus", positives=partners, exclude="diagonal")

    # Compiled under another file name, because tensors that test files make are moved.
    forgetful = eval(compile("lambda arange: lambda *a, device, **k: arange(*a, **k)", "package.py", "eval"))
    with jk.use_backend("triton"):
        loss()
        monkeypatch.setattr(torch, "arange", forgetful(torch.arange))
        with pytest.raises(RuntimeError, match="row_sums would be handed a host tensor"):
            loss()


@pytest.mark.usefixtures("gpu")
@pytest.mark.skipif(executor.REAL, reason="a GPU says nothing of it")
@pytest.mark.parametrize(
    "code",
    [
        "x.sum().item()",
        "float(x[0, 0])",
        "x.cpu()",
        "x.to('cpu')",
        "x.clone().copy_(host)",
        "host.to(x.device)",
        "bool((x > 0).all())",
    ],
)
def test_the_package_may_not_wait_for_the_gpu_and_tests_may(code):
    x, host = rows(), rows().cpu()
    for file, refused in ((placement.PACKAGE + "planted.py", True), ("elsewhere.py", False)):
        planted = eval(compile(f"lambda x, host: {code}", file, "eval"))
        if refused:
            with pytest.raises(RuntimeError, match="the host would wait for the GPU"):
                planted(x, host)
        else:
            planted(x, host)


@pytest.mark.skipif(executor.REAL, reason="there is a GPU")
def test_afterwards_nothing_is_pretended():
    with executor.gpu():
        assert rows().device.type == "cuda"
    assert rows().device.type == "cpu"
    assert not torch.cuda.is_available()
    assert not torch.are_deterministic_algorithms_enabled()


def test_on_a_gpu_the_same_mode_moves_instead():
    """Any other device serves to show it."""
    with placement.Placed("meta"):
        assert torch.ones(2).is_meta
        assert torch.ones(2, device="cpu").device.type == "cpu"
        assert torch.randn(2, generator=torch.Generator().manual_seed(0), requires_grad=True).is_meta
        assert rows().is_meta
        assert not jk.nn.NTXent(learnable=True).log_temperature.is_meta  # the package's tensors stay in place
