"""The entropy of a whole data set against its definition, from any kind of rows, and over an interruption."""

import io
import math

import numpy as np
import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.entropy import rows, sweep
from tests import data, placement
from tests.oracles import density

N, D = 233, 5
KERNELS = {
    "gaussian": {"bandwidth": 0.5},
    "per-dimension": {"bandwidth": torch.tensor([0.3, 0.5, 0.7, 0.9, 1.1])},
    "silverman": {"bandwidth": "silverman"},
    "laplace-scott": {"kernel": "laplace", "bandwidth": "scott"},
    "vmf": {"kernel": "vmf", "concentration": 20.0},
}
Z = data.normals(N, D, seed=0).float() * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]) + 7
WEIGHTS = data.normals(N, seed=1).float().abs()
WEIGHTS[:3] = 0.0
WEIGHTS[190:] = 0.0  # two whole blocks and a part of one


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 20)


@pytest.fixture
def calls(monkeypatch):
    """How often pairs of blocks are summed; the call of that number is interrupted."""

    class Calls:
        made, interrupted = 0, math.inf

        def __call__(self, *args, **options):
            self.made += 1
            if self.made == self.interrupted:
                raise KeyboardInterrupt
            return jk.pairwise_logsumexp(*args, **options)

    calls = Calls()
    monkeypatch.setattr(sweep, "pairwise_logsumexp", calls)
    return calls


def definition(z, estimator="loo", weights=None, bandwidth=None, **width):
    z = z.double()
    if isinstance(bandwidth, str):
        bandwidth = density.bandwidth_rule(bandwidth, z, None if weights is None else weights.double())
    width = width | ({} if bandwidth is None else {"bandwidth": bandwidth})
    return float(density.kde_entropy(z, estimator=estimator, weights=weights, **width))


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("estimator", ["loo", "resubstitution"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_value_is_that_of_the_definition(kernel, estimator, weights, backend):
    with jk.use_backend(backend):
        found = jk.entropy_of(Z, estimator=estimator, weights=weights, **KERNELS[kernel])
    assert found.value == pytest.approx(definition(Z, estimator, weights, **KERNELS[kernel]), abs=2e-6)


@pytest.mark.parametrize("size", [N, 20, 40, 19, 2])
def test_blocks_of_any_size_give_the_same(size, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", size)
    found = jk.entropy_of(Z.double(), bandwidth=0.5)
    assert found.value == pytest.approx(definition(Z, bandwidth=0.5), abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_the_standard_error_is_of_the_mean_over_points(weights):
    found = jk.entropy_of(Z, weights=weights, bandwidth=2.0)
    w = density.normalized(weights, Z.double())
    s = w.log()[None, :] + density.log_kernel(Z.double(), Z.double(), bandwidth=2.0)
    h = torch.log1p(-w) - s.fill_diagonal_(-torch.inf).logsumexp(dim=1)
    square = (w * (h - (w * h).sum())).square().sum() / (1 - w.square().sum())
    assert found.stderr == pytest.approx(math.sqrt(square), rel=1e-5)
    if weights is None:
        assert found.stderr == pytest.approx(float(h.std()) / math.sqrt(N), rel=1e-5)
    assert found.interval == pytest.approx((found.value - 1.96 * found.stderr, found.value + 1.96 * found.stderr))


def test_equal_weights_are_none():
    plain, weighted = (jk.entropy_of(Z, weights=w, bandwidth=0.5) for w in (None, torch.full((N,), 3.0)))
    assert weighted.value == pytest.approx(plain.value, abs=1e-6) and weighted.weighted and not plain.weighted


def mapped(tmp_path):
    np.save(tmp_path / "z.npy", Z.numpy())
    return np.load(tmp_path / "z.npy", mmap_mode="r")


SOURCES = {
    "array": lambda folder: Z.numpy(),
    "memory-mapped": mapped,
    "big-endian": lambda folder: Z.numpy().astype(">f4"),
    "every other row backwards": lambda folder: np.repeat(Z.numpy(), 2, axis=0)[::-2][::-1],
    "columns first": lambda folder: np.asfortranarray(Z.numpy()),
    "requires a gradient": lambda folder: Z.clone().requires_grad_(),
    "batches": lambda folder: iter(Z.split(50)),
    "batches of arrays": lambda folder: [batch.numpy() for batch in Z.split(50)],
    "loader with labels": lambda folder: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(Z, torch.arange(N)), batch_size=32
    ),
}


@pytest.fixture(scope="module", params=["per-dimension", "silverman", "vmf"])
def on_the_host(request):
    """Made before tensors are on a device."""
    width = KERNELS[request.param]
    return width, {weighted: definition(Z, "loo", WEIGHTS if weighted else None, **width) for weighted in (False, True)}


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_on_a_device_are_summed_there(on_the_host, weighted, backend, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 60)
    monkeypatch.setattr(
        placement, "_refuse_to_the_package", lambda what: None
    )  # it is no loss, and may wait for the GPU
    width, expected = on_the_host
    width = {name: of.cuda() if isinstance(of, torch.Tensor) else of for name, of in width.items()}
    with jk.use_backend(backend):
        found = jk.entropy_of(Z.cuda(), weights=WEIGHTS if weighted else None, **width)
    assert found.value == pytest.approx(expected[weighted], abs=2e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_rows_of_any_kind_give_the_same_bits(source, tmp_path):
    assert jk.entropy_of(SOURCES[source](tmp_path), bandwidth=0.5) == jk.entropy_of(Z, bandwidth=0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_rounded_rows(dtype):
    found = jk.entropy_of(Z.to(dtype), bandwidth=0.5)
    assert found.value == pytest.approx(definition(Z.to(dtype), bandwidth=0.5), abs=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert jk.entropy_of(Z.to(dtype), bandwidth=0.5) == found


def test_one_dimension_is_one_column():
    assert jk.entropy_of(Z[:, 0], bandwidth=0.5) == jk.entropy_of(Z[:, :1], bandwidth=0.5)


def test_points_that_see_no_other_have_an_infinite_entropy_in_json_null():
    found = jk.entropy_of(torch.tensor([[0.0], [1e30]]), bandwidth=1.0)
    assert found.value == math.inf and found.to_dict()["value"] is None


def test_each_pair_of_blocks_is_summed_once(calls):
    jk.entropy_of(Z, bandwidth=0.5)
    blocks = math.ceil(N / 20)
    assert calls.made == blocks * (blocks + 1) // 2


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("at", [1, 2, 17, 78])
def test_an_interrupted_sweep_goes_on_to_the_same_bits(at, weights, calls, tmp_path):
    whole = jk.entropy_of(Z, bandwidth="scott", weights=weights)
    options = {"bandwidth": "scott", "weights": weights, "state": tmp_path / "sums"}
    calls.made, calls.interrupted = 0, at
    with pytest.raises(KeyboardInterrupt):
        jk.entropy_of(Z, **options)
    calls.made, calls.interrupted = 0, math.inf
    again = jk.entropy_of(Z.numpy(), **options)
    assert again == whole and calls.made == 78 - (at - 1)
    # The file stays, and holds all of it.
    calls.made = 0
    assert jk.entropy_of(Z, **options) == whole and calls.made == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sums"]


def test_the_state_is_saved_as_the_sweep_goes_on(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "EVERY", 0.0)
    seen = []
    inner = calls.__call__

    def watched(*args, **options):
        seen.append((tmp_path / "sums").exists() and torch.load(tmp_path / "sums", weights_only=True)["done"])
        return inner(*args, **options)

    monkeypatch.setattr(sweep, "pairwise_logsumexp", watched)
    jk.entropy_of(Z[:60], bandwidth=0.5, state=tmp_path / "sums")
    assert seen == [False, 1, 2, 3, 4, 5]


OTHERS = {
    "data": ({"z": Z + 1e-6}, "which is of other data"),
    "dtype": ({"z": Z.double()}, "which was made with dtype torch.float32, must be"),
    "rows": ({"z": Z[:-1]}, "which was made with rows 233, must be .*rows is 232"),
    "bandwidth": ({"bandwidth": 0.6}, r"which was made with bandwidth 0\.5, must be .*bandwidth is 0\.6"),
    "kernel": ({"kernel": "laplace"}, "which was made with kernel gaussian"),
    "estimator": ({"estimator": "resubstitution"}, "which was made with estimator loo"),
    "weights": ({"weights": WEIGHTS}, "which was made with weights None"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_problem_is_refused_and_left_as_it_is(other, tmp_path, calls):
    options = {"z": Z, "bandwidth": 0.5, "state": tmp_path / "sums"}
    jk.entropy_of(**options)
    before, (changed, message) = (tmp_path / "sums").read_bytes(), OTHERS[other]
    calls.made = 0
    with pytest.raises(ValueError, match=rf"^entropy_of: state is .*sums, {message}.*name another file, or delete it$"):
        jk.entropy_of(**{**options, **changed})
    assert calls.made == 0 and (tmp_path / "sums").read_bytes() == before


def test_a_covariance_of_one_column_is_no_width(tmp_path):
    found = jk.entropy_of(Z[:, :1], bandwidth=torch.tensor([[0.25]]), state=tmp_path / "sums")
    assert found.bandwidth == ((0.25,),) and "gaussian kernel, a covariance, loo" in str(found)
    assert found.value == pytest.approx(jk.entropy_of(Z[:, :1], bandwidth=0.5).value, abs=1e-5)
    with pytest.raises(ValueError, match=r"made with bandwidth \[\[0\.25\]\], must be .*bandwidth is 0\.25"):
        jk.entropy_of(Z[:, :1], bandwidth=0.25, state=tmp_path / "sums")


def test_points_that_no_other_reaches_are_counted_and_told():
    z = torch.tensor([[0.0], [0.1], [5.0], [9.0]])
    found = jk.entropy_of(z, kernel="tophat", bandwidth=1.0)
    assert found.value == math.inf and found.unreached == 2
    assert str(found).endswith("infinite because no other point reaches 2 of them: a wider kernel would")
    assert jk.entropy_of(z[:2], kernel="tophat", bandwidth=1.0).unreached == 0


def test_a_row_without_a_direction_has_no_place_on_the_sphere():
    z = Z.clone()
    z[170] = 0
    with pytest.raises(ValueError, match="entropy_of: z is 0 in row 170, must have a direction in every row"):
        jk.entropy_of(z, kernel="vmf", concentration=5.0)


def test_a_rule_of_other_data_is_refused_for_the_data(tmp_path):
    jk.entropy_of(Z, bandwidth="scott", state=tmp_path / "sums")
    with pytest.raises(ValueError, match=r"state is .*sums, which is of other data"):
        jk.entropy_of(2 * Z, bandwidth="scott", state=tmp_path / "sums")


def of_text(path):
    path.write_text("sums")


def of_another_kind(path):
    torch.save({"weights": torch.ones(3)}, path)


def of_a_pickle(path):
    torch.save({"format": io.StringIO()}, path)


@pytest.mark.parametrize("made", [of_text, of_another_kind, of_a_pickle])
def test_a_file_that_is_no_state_is_refused_and_left_as_it_is(made, tmp_path):
    file = tmp_path / "sums"
    made(file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"^entropy_of: state is .*sums, which is no state of an entropy, must be"):
        jk.entropy_of(Z, bandwidth=0.5, state=file)
    assert file.read_bytes() == before


def test_a_state_that_could_not_be_written_is_refused_before_the_sweep(tmp_path, calls):
    with pytest.raises(ValueError, match=r"^entropy_of: state is .*, must be in a folder that exists"):
        jk.entropy_of(Z, bandwidth=0.5, state=tmp_path / "nowhere" / "sums")
    assert calls.made == 0


def marred(row, column, value):
    z = Z.clone()
    z[row, column] = value
    return z


constant = torch.cat([Z[:, :2], torch.full((N, 1), 0.1)], dim=1)
WRONG = {
    "nothing": ({"z": object()}, TypeError, "z is a object, .*, must be a float tensor, a NumPy array, or an iterable"),
    "name": ({"z": "z.npy"}, TypeError, "z is a str, 'z.npy', must be"),
    "integers": ({"z": Z.long()}, TypeError, "z is a tensor of shape .*int64, must be"),
    "integer array": ({"z": Z.numpy().astype(int)}, TypeError, "z is an array of shape .* int64, must be"),
    "masked": ({"z": np.ma.array(Z.numpy())}, TypeError, "z is a masked array of shape"),
    "sparse": ({"z": Z.to_sparse()}, TypeError, "z is .*, must be dense"),
    "cube": ({"z": Z[None]}, ValueError, r"z is of shape \(1, 233, 5\), must have 1 or 2 dimensions"),
    "cube array": ({"z": Z[None].numpy()}, ValueError, r"z is of shape \(1, 233, 5\), must have 1 or 2 dimensions"),
    "one row": ({"z": Z[:1]}, ValueError, r"z is of shape \(1, 5\), must have at least 2 rows"),
    "no columns": ({"z": Z[:, :0]}, ValueError, r"z is of shape \(233, 0\), must have at least 2 rows and 1 column"),
    "no batches": ({"z": []}, ValueError, "z is without a batch, must be"),
    "batches of words": ({"z": ["z"]}, TypeError, "z, batch 0, is a str, 'z', must be"),
    "batches of other widths": (
        {"z": [Z, Z[:, :4]]},
        ValueError,
        "z, batch 1, is of shape .* 5 columns like the first",
    ),
    "batches of other dtypes": ({"z": [Z, Z.double()]}, TypeError, "z, batch 1, is .* must be float32 like the first"),
    "nan": ({"z": marred(219, 3, math.nan)}, ValueError, "z is nan at row 219, column 3, must have neither NaN"),
    "infinity": ({"z": marred(0, 0, math.inf)}, ValueError, "z is inf at row 0, column 0, must have neither"),
    "constant": (
        {"z": constant, "bandwidth": "scott"},
        ValueError,
        "bandwidth is 'scott', must be a number: dimension 2",
    ),
    "constant where it counts": (
        {"z": torch.cat([Z[:, :1], (WEIGHTS == 0)[:, None].float()], dim=1), "bandwidth": "scott", "weights": WEIGHTS},
        ValueError,
        "bandwidth is 'scott', must be a number: dimension 1",
    ),
    "no bandwidth": ({"bandwidth": None}, ValueError, "bandwidth is None, must be > 0"),
    "negative bandwidth": ({"bandwidth": -0.1}, ValueError, "bandwidth is -0.1, must be > 0"),
    "unknown rule": ({"bandwidth": "scot"}, ValueError, "bandwidth is 'scot', must be one of 'scott'"),
    "bandwidths": ({"bandwidth": torch.ones(4)}, ValueError, r"bandwidth is of shape \(4,\), must be a number, \(5,"),
    "both widths": ({"concentration": 1.0}, ValueError, "concentration is given, must be None"),
    "vmf of a bandwidth": ({"kernel": "vmf"}, ValueError, "bandwidth is given, must be None"),
    "vmf without": ({"kernel": "vmf", "bandwidth": None}, ValueError, "concentration is None, must be given"),
    "kernel": ({"kernel": "box"}, ValueError, "kernel is 'box', must be one of"),
    "estimator": ({"estimator": "plugin"}, ValueError, "estimator is 'plugin', must be one of 'loo'"),
    "weights": ({"weights": [1.0]}, TypeError, "weights is a list, .*, must be"),
    "few weights": ({"weights": WEIGHTS[:5]}, ValueError, r"weights is of shape \(5,\), must be \(233,\)"),
    "negative weights": ({"weights": WEIGHTS - 1}, ValueError, "weights is negative somewhere"),
    "nan weights": ({"weights": WEIGHTS * math.nan}, ValueError, "weights is negative somewhere"),
    "one weight": ({"weights": torch.eye(N)[0]}, ValueError, "weights is positive at 1 point, must be at 2 or more"),
    "device": ({"device": "gpu"}, ValueError, "device is 'gpu', must be a device"),
    "no device": ({"device": 0.5}, TypeError, "device is a float, 0.5, must be"),
    "state": ({"state": 5}, TypeError, "state is a int, 5, must be the name of a file"),
    "progress": ({"progress": "yes"}, TypeError, "progress is a str, 'yes', must be True or False"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_argument_is_named(case, calls):
    changed, error, message = WRONG[case]
    with pytest.raises(error, match=f"^entropy_of: {message}"):
        jk.entropy_of(**{"z": Z, "bandwidth": 0.5, **changed})
    assert calls.made == 0


def test_a_bar_shows_pairs_of_blocks_where_it_is_wanted(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    jk.entropy_of(Z, bandwidth=0.5, progress=True)
    assert "78/78" in capsys.readouterr().err
    jk.entropy_of(Z, bandwidth=0.5)
    assert capsys.readouterr() == ("", "")
