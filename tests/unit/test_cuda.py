"""The cuda backend: when it computes, and what it asks of a GPU. Its results are those of the suite, on a model of a GPU."""

import contextlib
import mmap
import types

import pytest
import torch
from torch._subclasses import FakeTensorMode

import jessl_kernels as jk
from jessl_kernels import native, phi
from jessl_kernels.backends import cuda, triton
from jessl_kernels.cuda import served
from jessl_kernels.literals import BackendName
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Loss, Positives, RowProblem
from jessl_kernels.problem.types import Needs
from tests import cases, cuda_model

N, D = 6, 4


@pytest.fixture
def model():
    with cuda_model.model():
        yield


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr(triton, "MISSING", "not installed")
    monkeypatch.setattr(cuda, "MISSING", "")


def test_cuda_computes_cuda_tensors_where_triton_is_missing(without_triton):
    with FakeTensorMode():
        chosen = cases.planned(torch.empty(N, D, device="cuda"), reduction="mean")
    assert chosen.backend == "cuda" and chosen.declined["triton"] == ["not installed"]


@pytest.mark.parametrize(
    ("rows", "dimensions", "path"),
    [
        (5000, 32, "no strips: few dimensions, scores in registers"),
        (1024, 33, "no strips: a small batch, all scores in memory"),
        (1025, 33, "strips of 1025 rows, products by the library"),
    ],
)
def test_explain_says_which_problems_need_no_strips(without_triton, rows, dimensions, path):
    with FakeTensorMode():
        x = torch.empty(rows, dimensions, device="cuda")
        assert cases.planned(x, reduction="mean").path == path
        (found,) = jk.explain(jk.pairwise_topk, x, k=3).steps
    assert found.path.startswith("strips")


def test_triton_comes_first(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(cuda, "MISSING", "")
    with FakeTensorMode():
        assert cases.planned(torch.empty(N, D, device="cuda"), reduction="mean").backend == "triton"


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("φ 'cubic' is not compiled into it", {"phi": phi.Phi("cubic", lambda u: u.pow_(3), lambda u: 3 * u * u)}),
        ("more than 64 diagonals to exclude or to keep", {"exclude": jk.Exclude(diagonals=tuple(range(65)))}),
        ("float64 is not compiled into it", {"dtype": torch.float64}),
        ("x is on meta", {"device": "meta"}),
        ("no toolkit", {"missing": "no toolkit"}),
    ],
    ids=["φ", "diagonals", "dtype", "device", "missing"],
)
def test_cuda_says_why_it_declines_and_chunked_computes(reason, change, without_triton, monkeypatch):
    monkeypatch.setattr(cuda, "MISSING", change.get("missing", ""))
    options = {name: change[name] for name in ("phi", "exclude") if name in change}
    with FakeTensorMode():
        x = torch.empty(N, D, device=change.get("device", "cuda"), dtype=change.get("dtype", torch.float32))
        chosen = cases.planned(x, reduction="mean", **options)
    assert chosen.backend == "chunked" and chosen.declined["cuda"] == [reason]


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of this compute capability, on which a library for these architectures finds these devices."""

    def make(capability, architectures, devices="1"):
        library = types.SimpleNamespace(devices=lambda: devices)
        info = {"toolkit": "13.0", "architectures": architectures}
        served._unserved.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(native, "cuda", lambda: library)
        monkeypatch.setattr(native, "cuda_status", lambda: native.NativeStatus(True, info=info))

    yield make
    served._unserved.cache_clear()


@pytest.mark.parametrize(
    ("capability", "architectures", "serves"),
    [
        ((8, 9), "8.0 8.6", True),
        ((8, 0), "8.6", False),
        ((9, 0), "8.0 8.6", False),
        ((12, 1), "7.5 8.0+PTX", True),
        ((7, 5), "8.0+PTX", False),
        ((9, 0), "9.0a", True),
        ((10, 0), "9.0a+PTX", False),
    ],
)
def test_a_gpu_that_the_library_was_not_built_for_is_declined(gpu, without_triton, capability, architectures, serves):
    gpu(capability, architectures)
    with FakeTensorMode():
        chosen = cases.planned(torch.empty(N, D, device="cuda"), reduction="mean")
    assert chosen.backend == ("cuda" if serves else "chunked")
    told = "its kernels were built for {}, and the GPU is {}.{}".format(architectures, *capability)
    assert chosen.declined.get("cuda", []) == ([] if serves else [told])


def test_a_driver_that_is_older_than_the_toolkit_is_a_reason_to_decline(gpu, without_triton):
    gpu((9, 0), "9.0", devices="none: CUDA driver version is insufficient for CUDA runtime version")
    with FakeTensorMode():
        chosen = cases.planned(torch.empty(N, D, device="cuda"), reduction="mean")
    assert chosen.backend == "chunked"
    assert chosen.declined["cuda"] == [
        "its kernels were built with CUDA 13.0, which finds devices: none: CUDA driver version is insufficient for CUDA "
        "runtime version"
    ]


def test_a_tracer_takes_what_the_library_serves_for_a_constant(monkeypatch):
    def untraceable(index):
        print(index)
        return "why"

    monkeypatch.setattr(served, "_unserved", untraceable)
    monkeypatch.setattr(served, "torch", types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True)))
    traced = torch.compile(lambda x: x + len(served.unserved(0)), backend="eager", fullgraph=True)
    assert traced(torch.zeros(())) == 3


def test_more_tilts_than_kernels_have_room_for_are_declined(without_triton):
    with FakeTensorMode():
        x = torch.empty(N, D, device="cuda")
        problem = RowProblem((x,), (), 1.0, None, None, Exclude(), "dot", phi.IDENTITY)
        many = tuple(float(k + 1) for k in range(5))
        assert cuda.declines(problem, "logsumexp") == []
        several = problem.__class__(**{**vars(problem), "negatives": problem.negatives._replace(tilts=many)})
        assert cuda.declines(several, "logsumexp") == ["more than 4 tilts"]


class Recorder:
    """Stands for the compiled module, and keeps the names of the functions that were called."""

    def __init__(self):
        self.called: list[str] = []

    def Sweep(self, *_):
        return self

    def __getattr__(self, name):
        return lambda *_: self.called.append(name)

    def whole(self, *_):
        self.called.append("whole")
        return types.SimpleNamespace(room=0, run=lambda *_: self.called.append("run"))


PROBLEMS = {
    "dot": {"kind": "dot", "cols": True},
    "sqdist": {"kind": "sqdist", "cols": True},
    "rows alone": {"kind": "dot", "normalize": True},
    "few dimensions": {"kind": "sqdist", "cols": True},
}
LAUNCHED = {
    "dot": ["pair_scores", "absorb", "score_grad", "rows_back", "rows_back"],
    "sqdist": [
        "pair_scores", "settle", "absorb", "settle", "score_grad", "close_rows", "close_columns", "rows_back", "rows_back",
    ],
    "rows alone": ["unit_rows", "unit_rows", "pair_scores", "absorb", "score_grad", "rows_back", "rows_back"],
    "few dimensions": ["whole", "run"],
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_loss_reads_no_number_of_the_device_and_mixes_no_devices(problem, dtype, monkeypatch):
    """Meta tensors have no numbers: reading one, or handing one of the host's to an operation with them, is an error."""
    recorder = Recorder()
    monkeypatch.setattr(native, "cuda", lambda: recorder)
    N, D = 1100, 20 if problem == "few dimensions" else 40
    x, y = (torch.empty(N, D, device="meta", dtype=dtype) for _ in range(2))
    bias = torch.empty(N, device="meta")
    scale = torch.empty((), device="meta")
    words = {"positives": Positives(shift=2), "phi": phi.IDENTITY, **PROBLEMS[problem]}
    loss = RowProblem((x,), (y,), scale, bias, bias, Exclude(), **words)
    needs = Needs(True, slice(0, N), True, True, True)
    value, gradients = cuda.cuda.row_loss(loss, Loss("softplus"), needs, 16 << 20)
    assert value.is_meta and gradients.x.shape == (N, D)
    assert recorder.called == LAUNCHED[problem]


GIB = 1 << 30


def far(rows: int, row_stride: int, columns: int) -> torch.Tensor:
    """(rows, columns) fp32 in which rows begin this many elements apart: memory of which only the touched pages exist."""
    size = ((rows - 1) * row_stride + columns + 16) * 4
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    return torch.frombuffer(room, dtype=torch.float32).as_strided((rows, columns), (row_stride, 1))


def sweep(scale: torch.Tensor, tilts: tuple[float, ...] = (1.0,)):
    none = (0, 0)
    return cuda_model.module().Sweep(
        0, 0, "identity", none, scale.data_ptr(), 0.0, 0, 0, [], [], [], [], none, none, "logsumexp", tilts
    )


def test_strips_of_more_elements_than_32_bits_count(model):
    """Three rows 2³⁰ elements apart: the last begins 2³¹ elements after the first, 8 GiB."""
    numbers = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    t, u = far(3, GIB, 12), far(3, GIB, 12)
    t[:, :9] = numbers
    scale, total, reference = torch.tensor(2.0), torch.zeros(1, 3), torch.zeros(1, 3)
    where = (t.data_ptr(), GIB, 0, 3, 9)
    kernels = sweep(scale)
    kernels.absorb(where, (reference.data_ptr(), total.data_ptr(), 0, 0, 3), (0, 0, 0, 0, 0))
    torch.testing.assert_close((reference + total.log())[0], (2 * numbers).logsumexp(1))
    factor = 1 / total
    side = (reference.data_ptr(), factor.data_ptr(), 0, 0, 3)
    kernels.score_grad(where, (side, (0, 0, 0, 0, 0), 0), 0, ((u.data_ptr(), 0, 0, 0, 0, 0), "float32"))
    torch.testing.assert_close(u[:, :9], 2 * (2 * numbers).softmax(1))
    kernels.finish(where)
    assert torch.equal(t[:, :9], 2 * numbers)


def test_embeddings_further_apart_than_32_bits_count(model):
    x, y = far(3, GIB, 2), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    x[:] = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    t, close_above = torch.zeros(3, 16), torch.tensor(-torch.inf)
    squares = torch.zeros(5)
    of_x = (x.data_ptr(), GIB, 1, 2, "float32")
    of_y = (y.data_ptr(), 2, 1, 2, "float32")
    kernels = sweep(torch.tensor(1.0))
    kernels.settle((t.data_ptr(), 16, 0, 3, 5), of_x, of_y, (squares.data_ptr(),) * 2 + (close_above.data_ptr(),))
    torch.testing.assert_close(t[:, :5], -torch.cdist(x, y).square())


def test_a_launch_that_cannot_be_made_is_an_error_with_the_kernels_name(model):
    scale = torch.tensor(1.0)
    with pytest.raises(RuntimeError, match=r"^finish: a grid or a block beyond the limits"):
        sweep(scale).finish((0, 16, 0, 0, 9))  # no rows
    with pytest.raises(ValueError, match="too many tilts"):
        sweep(scale, (1.0,) * 5)


WAYS = {
    "few dimensions": (20, contextlib.nullcontext),
    "small batch": (40, contextlib.nullcontext),
    "strips": (20, cuda_model.by_strips),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
def test_results_have_the_same_bits_in_whatever_order_threads_and_blocks_run(model, kind, way):
    """The model draws a new order for every launch."""
    D, chosen = WAYS[way]
    x = torch.randn(70, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for _ in range(3):
        with jk.use_backend("cuda"), chosen():
            y = 0.9 * x.detach()
            row, col = jk.pairwise_logsumexp(x, y, kind=kind, dim="both")
            loss = jk.row_loss(x, join="softplus", positives=1, kind=kind)
        found.append((row, col, loss, *torch.autograd.grad(row.square().sum() + col.sum() + loss, x)))
    assert all(torch.equal(a, b) for again in found[1:] for a, b in zip(again, found[0], strict=True))


def merged_blocks(x, y, a):
    ids = torch.arange(9) % 4
    first, *others = (
        jk.row_sums(x, block, positives=(ids, of_block))
        for block, of_block in zip(y.split([5, 1, 3]), ids.split([5, 1, 3]), strict=True)
    )
    sums = first.merge(*others)
    return (torch.logaddexp(sums.N[0] - sums.P, torch.zeros_like(a)) + sums.spread).sum()


# The suite has these in fp64 alone, which this backend leaves to others.
CALLS = {
    "a log-sum-exp beside the pairs": lambda x, y, a: jk.row_loss(
        x, y, join="difference", positives=torch.tensor([3, 3, -1, 0, 7, 2, 5, 8, 1]), also=a
    ),
    "pieces": lambda x, y, a: jk.row_loss([x, 2 * y], [y, x, 0.5 * x], join="softplus", positives=1, normalize=True),
    "blocks of keys": merged_blocks,
    "the mean over negatives": lambda x, y, a: (
        jk.row_sums(x, y, positives=0, negative_spread=True).negative_spread.square().sum()
    ),
    "a join of one's own": lambda x, y, a: jk.row_loss(
        x, y, join=lambda N, P, spread, p, n: torch.tanh(N[0] - P), positives=2, dim="both"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_fp32_is_what_the_reference_computes_in_fp64(model, name):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(*shape, generator=generator) for shape in ((9, 6), (9, 6), (9,))]
    found = []
    runs: list[tuple[BackendName, torch.dtype]] = [("cuda", torch.float32), ("reference", torch.float64)]
    for backend, dtype in runs:
        leaves = [t.detach().to(dtype, copy=True).requires_grad_() for t in given]
        with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
            value = CALLS[name](*leaves)
            value.backward()
        found.append([value.detach(), *(t.grad for t in leaves if t.grad is not None)])
    for ours, truth in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), truth.double(), rtol=2e-5, atol=1e-6)
