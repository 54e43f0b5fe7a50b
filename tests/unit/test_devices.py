"""No host synchronisation, no mixing of devices, and no sum in the order in which threads of a GPU arrive.

Every public function on fake CUDA tensors and on meta tensors.
"""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import jessl_kernels as jk
from jessl_kernels import _checks
from jessl_kernels.backends import cuda, ordered_sums, triton
from jessl_kernels.ops import gather_scatter
from tests import cases

N, M, D = 6, 4, 3


def _made_on(device: str, module, **options):
    # Fake CUDA parameters with a graph abort in a torch without CUDA; on meta the learnable ones are tested too.
    with torch.device(device):
        return module(**options)


def _calls(device: str | None, grad: bool) -> dict:
    def new(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, requires_grad=grad)

    x, y, negatives, paired, views = new(N, D), new(N, D), new(M, D), new(N, M, D), new(N, 2, D)
    number, widths = torch.ones((), device=device), torch.ones(D, device=device)
    ids, weights = torch.zeros(N, dtype=torch.int64, device=device), torch.ones(N, device=device)
    other_ids = torch.zeros(M, dtype=torch.int64, device=device)
    mask = torch.ones(N, M, dtype=torch.bool, device=device)
    by_ids = jk.Exclude(diagonals=(0,), same=(ids, ids), different=(ids, ids), keep=(1,))
    calls = {
        "info_nce": lambda: jk.info_nce(x, y),
        "info_nce-negatives": lambda: jk.info_nce(x, y, negatives, temperature=number, symmetric=True),
        "info_nce-paired": lambda: jk.info_nce(x, y, paired, reduction="none"),
        "info_nce-ids": lambda: jk.info_nce(x, y, negatives, ids=ids, negative_ids=other_ids, same_id="sum"),
        "info_nce-ignore": lambda: jk.info_nce(x, y, negatives, ids=ids, same_id="ignore", in_batch=False),
        "info_nce-mask": lambda: jk.info_nce(x, y, paired, negatives_mask=mask),
        "clip_loss": lambda: jk.clip_loss(x, y, number),
        "clip_loss-ids": lambda: jk.clip_loss(x, y, number, ids=ids),
        "siglip_loss-ids": lambda: jk.siglip_loss(x, y, number, number, ids=ids),
        "sup_con-keys": lambda: jk.sup_con(x, ids, keys=negatives, key_labels=other_ids),
        "guide": lambda: jk.pairwise_logsumexp(x, y, exclude=jk.Exclude(guide=(x, y, weights))),
        "clip_loss-none": lambda: jk.clip_loss(x, y, 10.0, reduction="none"),
        "nt_xent": lambda: jk.nt_xent(x, y, temperature=number),
        "dcl": lambda: jk.dcl(x, y),
        "siglip_loss": lambda: jk.siglip_loss(x, y, number, number),
        "sup_con": lambda: jk.sup_con(x, ids),
        "sup_con-views": lambda: jk.sup_con(views, ids, form="in", reduction="none"),
        "kde_log_density": lambda: jk.kde_log_density(x, y, bandwidth=widths, weights=weights),
        "kde_entropy-weights": lambda: jk.kde_entropy(x, bandwidth=number, weights=weights),
        "kde_entropy-vmf": lambda: jk.kde_entropy(x, kernel="vmf", concentration=number),
        "kde_entropy-covariance": lambda: jk.kde_entropy(x, bandwidth=x.T @ x),
        "kde_entropy-student": lambda: jk.kde_entropy(x, bandwidth=number, kernel="student", df=3.0),
        "kde_entropy-linear": lambda: jk.kde_entropy(x, bandwidth=number, kernel="linear"),
        "kde_entropy-likelihood": lambda: jk.kde_entropy(x, bandwidth="likelihood"),
        "kde_mutual_information": lambda: jk.kde_mutual_information(x, y, bandwidth="scott"),
        "kde_mutual_information-vmf": lambda: jk.kde_mutual_information(x, y, kernel="vmf", concentration=number),
        "kde_score": lambda: jk.kde_score(x, y, bandwidth=widths, weights=weights),
        "kde_score-epanechnikov": lambda: jk.kde_score(x, y, bandwidth=number, kernel="epanechnikov"),
        "renyi2_entropy": lambda: jk.renyi2_entropy(x, bandwidth=widths),
        "bandwidth_by_likelihood-vmf": lambda: jk.bandwidth_by_likelihood(x, kernel="vmf") + 0 * x.sum(),
        "koleo": lambda: jk.koleo(x),
        "uniformity": lambda: jk.uniformity(x, t=number),
        "alignment": lambda: jk.alignment(x, y, power=1.5),
        "pairwise_logsumexp": lambda: jk.pairwise_logsumexp(
            x, anchor=weights, col_anchor=weights, row_bias=weights, exclude=by_ids, dim="both", reduction="sum"
        ),
        "pairwise_sum": lambda: jk.pairwise_sum(x, y, col_bias=weights, dim="col"),
        "pairwise_topk": lambda: jk.pairwise_topk(x, y, k=2)[0],
        "pairwise_topk-laplace": lambda: jk.pairwise_topk(x, y, k=2, kind="sqdist", phi="laplace", dim="both")[1][0],
    }
    for kernel in ("gaussian", "laplace"):
        for bandwidth in ("scott", "silverman", 0.5):
            for estimator in ("loo", "resubstitution", "plugin", "plugin_normalized"):
                calls[f"kde_entropy-{kernel}-{bandwidth}-{estimator}"] = lambda k=kernel, b=bandwidth, e=estimator: (
                    jk.kde_entropy(x, bandwidth=b, kernel=k, estimator=e)
                )
    for module in (jk.nn.InfoNCE, jk.nn.NTXent, jk.nn.DCL, jk.nn.CLIP, jk.nn.SigLIP):
        calls[f"nn.{module.__name__}"] = lambda module=module: _made_on(device, module, learnable=grad)(x, y)
    calls["nn.SupCon"] = lambda: _made_on(device, jk.nn.SupCon, learnable=grad)(x, ids)
    calls["nn.KDEEntropy"] = lambda: _made_on(device, jk.nn.KDEEntropy, bandwidth=1.0, learnable=grad)(x)
    calls["nn.Uniformity"] = lambda: jk.nn.Uniformity()(x)
    unit, center = torch.nn.functional.normalize(negatives, dim=1), torch.ones(M, device=device)
    calls |= {
        "er.loss-vmf": lambda: jk.er.loss(x, y, concentration=number),
        "er.bound": lambda: jk.er.bound(x, y, kernel="gaussian", bandwidth="scott", q_bandwidth=widths).value,
        "er.discrete_loss": lambda: jk.er.discrete_loss(x, y, unit, temperature=number),
        "er.swav": lambda: jk.er.swav([x, y], unit, local=[x], queue=[y, y], temperature=number),
        "er.swav_er": lambda: jk.er.swav_er([x, y], unit),
        "er.byol": lambda: jk.er.byol([x, y], [x, y]),
        "er.byol_er-vmf": lambda: jk.er.byol_er([x, y], [x, y], concentration=number),
        "er.dino": lambda: jk.er.dino([x, y], [x, y], unit, unit, center=center),
        "er.dino_er": lambda: jk.er.dino_er([x, y], [x, y], unit, unit),
        "er.ER-vmf": lambda: _made_on(device, jk.er.ER, concentration=2.0, learnable=grad)(x, y),
    }
    if not grad:
        calls["retrieval_metrics"] = lambda: jk.retrieval_metrics(x, y)["x_to_y/recall@1"]
        calls["explain"] = lambda: torch.ones((), device=device) * len(str(cases.planned(x, y, kind="sqdist")))
    return calls


@pytest.mark.parametrize("name", _calls("meta", False))
def test_value_on_fake_cuda_tensors_reads_nothing_and_stays_on_the_device(name):
    with FakeTensorMode():
        assert _calls("cuda", False)[name]().device.type == "cuda"


def test_triton_computes_cuda_tensors():
    pytest.importorskip("triton")
    with FakeTensorMode():
        chosen = cases.planned(torch.empty(N, D, device="cuda"), reduction="mean")
    assert chosen.backend == "triton" and "x is on cuda" in chosen.declined["cpu"][0]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("φ 'cubic' is not compiled into it", {"phi": jk.phi.Phi("cubic", lambda u: u.pow_(3), lambda u: 3 * u * u)}),
        ("more than 64 diagonals to exclude or to keep", {"exclude": jk.Exclude(diagonals=tuple(range(65)))}),
        ("more than 2³¹ − 2²⁰ rows", {"rows": 2**31 - 2**20 + 1}),
        ("x is on meta", {"device": "meta"}),
        ("the GPU is older than Ampere (compute capability 8.0)", {"capability": (7, 5)}),
        ("not installed (pip install triton)", {"missing": "not installed (pip install triton)"}),
    ],
    ids=["φ", "diagonals", "rows", "device", "capability", "missing"],
)
def test_triton_says_why_it_declines_and_chunked_computes(reason, change, monkeypatch):
    monkeypatch.setattr(triton, "MISSING", change.get("missing", ""))
    monkeypatch.setattr(cuda, "MISSING", "not built")
    if "capability" in change:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(triton, "_capability", lambda device: change["capability"])
    options = {name: change[name] for name in ("phi", "exclude") if name in change}
    with FakeTensorMode():
        x = torch.empty(change.get("rows", N), D, device=change.get("device", "cuda"))
        chosen = cases.planned(x, reduction="mean", **options)  # rows of their own would be joined chunk by chunk
    assert chosen.backend == "chunked"
    assert chosen.declined["triton"] == [reason]


def test_what_is_traced_of_a_loss_is_an_operator_that_triton_will_compute():
    pytest.importorskip("triton")
    with FakeTensorMode():
        x, y = (torch.empty(N, D, device="cuda") for _ in range(2))
        graph = make_fx(lambda x, y: jk.clip_loss(x, y, 10.0))(x, y).graph
    (ours,) = (node for node in graph.nodes if "jessl_kernels" in str(node.target))
    assert str(ours.target) == "jessl_kernels.row_loss.default" and "triton" in ours.args


@pytest.mark.parametrize("name", _calls("meta", True))
def test_value_and_gradient_on_meta_tensors(name):
    value = _calls("meta", True)[name]()
    assert value.is_meta
    value.sum().backward()


class InFp32(TorchDispatchMode):
    """Refuses tensors of fp64, which MPS does not have."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(made):
            assert not isinstance(t, torch.Tensor) or t.dtype != torch.float64, f"{func} makes fp64"
        return made


# The normaliser of "vmf", one number, is computed on the host.
@pytest.mark.parametrize("name", [name for name in _calls("cpu", True) if "vmf" not in name])
@pytest.mark.parametrize("backend", ["chunked", "reference"])
def test_a_device_without_fp64_is_asked_for_none(backend, name, monkeypatch):
    monkeypatch.setattr(_checks, "WITHOUT_FP64", {"cpu"})
    with jk.use_backend(backend), InFp32():
        if not name.endswith("-plugin"):
            _calls("cpu", True)[name]().sum().backward()
            return
        with pytest.raises(ValueError, match="estimator is 'plugin', must be another on cpu, which has no fp64"):
            _calls("cpu", True)[name]()


# The operators named by torch.use_deterministic_algorithms that a loss might dispatch; in place too. index_put adds in order on
# CUDA, but not in compiled code. An embedding's gradient is not on that list, but uses atomics in torch 2.11.
UNORDERED = {
    *("index_add", "index_copy", "index_put", "index_reduce", "put", "scatter", "scatter_add", "scatter_reduce"),
    *("bincount", "cumprod", "cumsum", "embedding_dense_backward", "histc", "kthvalue", "logcumsumexp", "median"),
}


class InOrder(TorchDispatchMode):
    """Refuses operators that on CUDA add in the order in which threads arrive; sums of integers are the same in any order."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        unordered = func.overloadpacket.__name__.rstrip("_").removeprefix("_unsafe_") in UNORDERED
        assert not (unordered and args[0].is_floating_point()), f"{func} differs from run to run on a GPU"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", _calls("meta", True))
def test_neither_value_nor_gradient_is_added_up_in_the_order_of_arrival(name):
    with InOrder():
        _calls("meta", True)[name]().sum().backward()


@pytest.mark.parametrize("backend", ["chunked", "triton"])
@pytest.mark.parametrize(
    "loss", ["clip_loss", "sup_con", "sup_con-views", "kde_entropy-gaussian-0.5-loo", "pairwise_sum"]
)
def test_nor_do_the_backends_of_gpus_add_anything_so(loss, backend, monkeypatch):
    monkeypatch.setattr(gather_scatter, "_is_eager_on_cpu", lambda rows: False)
    # As on a GPU: in a backward nothing names the device.
    monkeypatch.setattr(gather_scatter, "one_by_one", ordered_sums.in_pairs)
    monkeypatch.setattr(ordered_sums, "one_by_one", ordered_sums.in_pairs)
    call = _calls(None if backend == "triton" else "cpu", True)[loss]  # None: the GPU's, real or pretended
    with jk.use_backend(backend), InOrder():
        call().sum().backward()


@pytest.mark.parametrize(("n", "count"), [(1, 3), (2, 1), (7, 9), (100, 5), (100, 300), (1000, 1)])
def test_rows_summed_in_pairs_are_rounded_log2_n_times(n, count):
    generator = torch.Generator().manual_seed(n)
    rows, at = torch.randn(n, D, generator=generator), torch.randint(count, (n,), generator=generator)
    with InOrder():
        in_pairs = ordered_sums.in_pairs(rows, at, count)
        vector = ordered_sums.in_pairs(rows[:, 0], at, count)
    assert torch.equal(vector, in_pairs[:, 0])
    truth, size = (ordered_sums.one_by_one(t.double(), at, count) for t in (rows, rows.abs()))
    assert ((in_pairs - truth).abs() <= math.ceil(math.log2(n)) * torch.finfo(torch.float32).eps / 2 * size).all()


def test_a_nan_among_rows_summed_in_pairs_stays_with_its_place():
    rows = torch.tensor([1.0, torch.nan, 2.0, torch.inf, 3.0])
    found = ordered_sums.in_pairs(rows, torch.tensor([2, 0, 2, 4, 2]), 6)
    torch.testing.assert_close(found, torch.tensor([torch.nan, 0.0, 6.0, 0.0, torch.inf, 0.0]), equal_nan=True)
