"""Numbers, labels and queues have the meaning that training scripts intend, in every form in which scripts pass them."""

import numpy as np
import pytest
import torch

import jessl_kernels as jk
from tests.data import normals

N, D = 12, 5
LABELS = torch.arange(N) // 3


def batch(seed: int) -> torch.Tensor:
    return normals(N, D, seed=seed).float()


X, Y = batch(0), batch(1)
# name: a function of one number, and a number that all of its forms hold exactly
NUMBERS = {
    "info_nce": (lambda t: jk.info_nce(X, Y, temperature=t), 0.5),
    "clip_loss": (lambda t: jk.clip_loss(X, Y, t, normalize=True), 2),
    "siglip_loss": (lambda t: jk.siglip_loss(X, Y, t, -2.0, normalize=True), 2),
    "siglip_loss of a bias": (lambda b: jk.siglip_loss(X, Y, 2.0, b, normalize=True), 2),
    "nt_xent": (lambda t: jk.nt_xent(X, Y, temperature=t), 0.5),
    "dcl": (lambda t: jk.dcl(X, Y, temperature=t), 0.5),
    "sup_con": (lambda t: jk.sup_con(X, LABELS, temperature=t), 0.5),
    "kde_entropy": (lambda h: jk.kde_entropy(X, bandwidth=h), 2),
    "kde_entropy of a concentration": (lambda c: jk.kde_entropy(X, kernel="vmf", concentration=c), 2),
    "kde_log_density": (lambda h: jk.kde_log_density(X, Y, bandwidth=h).sum(), 2),
    "uniformity": (lambda t: jk.uniformity(X, t=t), 2),
    "pairwise_logsumexp": (lambda a: jk.pairwise_logsumexp(X, Y, scale=a, reduction="mean"), 2),
    "pairwise_sum": (lambda a: jk.pairwise_sum(X, Y, scale=a, reduction="mean"), 2),
    "row_loss": (lambda a: jk.row_loss(X, Y, join="softplus", positives=0, scale=a), 2),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_one_of_python_or_numpy_or_a_tensor_of_one_element(name):
    function, value = NUMBERS[name]
    expected = function(float(value))
    forms = [
        np.float32(value),
        np.float64(value),
        np.float16(value),
        torch.tensor(float(value)),
        torch.tensor([float(value)]),
    ]
    if isinstance(value, int):
        forms += [value, np.int64(value), np.uint8(value)]
    for form in forms:
        torch.testing.assert_close(function(form), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_parameter_of_shape_1_receives_the_gradient_of_a_0_d_one(name):
    function, value = NUMBERS[name]
    one, other = torch.tensor([float(value)], requires_grad=True), torch.tensor(float(value), requires_grad=True)
    function(one).backward()
    function(other).backward()
    assert one.grad is not None and one.grad.shape == (1,)
    torch.testing.assert_close(one.grad[0], other.grad)


@pytest.mark.parametrize("number", ["power", "clamp", "skip_below"])
def test_numbers_of_options_may_be_numpys(number):
    if number == "power":
        assert jk.alignment(X, Y, power=np.float32(2)) == jk.alignment(X, Y)
    elif number == "clamp":
        assert jk.phi.clamp(np.float32(-1), np.int64(1)).parameters == (-1.0, 1.0)
    else:
        with jk.use_backend(skip_below=np.float32(0.5)):
            assert jk.uniformity(X).isfinite()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_labels_of_any_width_and_in_a_column(dtype):
    expected = jk.sup_con(X, LABELS)
    assert jk.sup_con(X, LABELS.to(dtype)) == expected
    assert jk.sup_con(X, LABELS.to(dtype)[:, None]) == expected
    short = LABELS.to(dtype)
    options = {"join": "softplus", "exclude": "diagonal"}
    assert jk.row_loss(X, positives=(short, short), **options) == jk.row_loss(X, positives=(LABELS, LABELS), **options)
    excluded, expected = (jk.Exclude(same=(ids, ids)) for ids in (short, LABELS))
    assert torch.equal(jk.pairwise_logsumexp(X, exclude=excluded), jk.pairwise_logsumexp(X, exclude=expected))


@pytest.mark.parametrize("backend", ["cpu", "chunked", "reference"])
def test_a_row_without_a_label_has_no_positive_and_stays_a_negative(backend):
    labels = LABELS.clone()
    labels[[0, 7, 8]] = -1
    z = torch.nn.functional.normalize(X.double(), dim=1)
    s = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    out = torch.zeros(N, dtype=torch.float64)
    for i in range(N):
        others = [p for p in range(N) if p != i and labels[p] == labels[i] >= 0]
        if others:
            out[i] = s[i].logsumexp(0) - s[i, others].mean()
    with jk.use_backend(backend):
        rows = jk.sup_con(X, labels, temperature=0.5, reduction="none")
        mean = jk.sup_con(X, labels, temperature=0.5)
    torch.testing.assert_close(rows, out.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean, out.sum().float() / (out != 0).sum(), rtol=1e-5, atol=1e-5)


def test_features_of_more_dimensions_are_flattened_view_by_view():
    maps = normals(6, 2, 4, 3, 3, seed=2).float()
    assert jk.sup_con(maps, LABELS[:6]) == jk.sup_con(maps.flatten(2), LABELS[:6])


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_queue_is_empty_before_its_first_step(symmetric):
    empty = torch.empty(0, D)
    assert jk.info_nce(X, Y, empty, symmetric=symmetric) == jk.info_nce(X, Y, symmetric=symmetric)
    with pytest.raises(ValueError, match="in_batch is False, must be True without negatives"):
        jk.info_nce(X, Y, in_batch=False)
