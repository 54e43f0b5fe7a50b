"""Bad input to the estimators of density and entropy, beyond what the table of every function holds."""

import pytest
import torch

import jessl_kernels as jk
from tests.unit.test_errors import VMF, X, call

PROBABILITY = torch.full((6,), 1 / 6)


@pytest.mark.parametrize("bandwidth", [1e-200, torch.tensor(1e-200, dtype=torch.float64)])
def test_a_bandwidth_whose_square_has_no_inverse(bandwidth):
    with pytest.raises(ValueError, match=r"^kde_entropy: bandwidth is 1e-200, must be so large that 1 over its square"):
        jk.kde_entropy(X, bandwidth=bandwidth)
    with pytest.raises(ValueError, match=r"^kde_entropy: bandwidth is 1e-200 somewhere, must be > 0"):
        jk.kde_entropy(X, bandwidth=torch.tensor([1.0, 1.0, 1e-200, 1.0], dtype=torch.float64))


# function, arguments, exception, message
WRONG = [
    ("kde_entropy", {"z": X[:1]}, ValueError, r"z is of shape \(1, 4\), must have at least 2 rows"),
    ("kde_entropy", {"bandwidth": None}, ValueError, "bandwidth is None, must be > 0"),
    (
        "kde_entropy",
        {"bandwidth": torch.ones(3)},
        ValueError,
        r"bandwidth is of shape \(3,\), must be a number, \(4,\) or a covariance \(4, 4\)",
    ),
    ("kde_entropy", {"bandwidth": torch.ones(4).long()}, TypeError, "bandwidth is .*, must hold floats"),
    ("kde_entropy", {"bandwidth": torch.ones(4, device="meta")}, ValueError, "bandwidth is on meta, must be on cpu"),
    ("kde_entropy", {"bandwidth": torch.arange(4.0)}, ValueError, "bandwidth is 0.0 somewhere, must be > 0"),
    (
        "kde_entropy",
        {"z": torch.ones(6, 4), "bandwidth": "scott"},
        ValueError,
        "bandwidth is 'scott', must be a number: dimension 0 of the data does not vary",
    ),
    ("kde_entropy", {"concentration": 1.0}, ValueError, "concentration is given, must be None"),
    ("kde_entropy", {"kernel": "vmf"}, ValueError, "bandwidth is given, must be None"),
    ("kde_entropy", VMF, ValueError, "concentration is None, must be given"),
    ("kde_entropy", {**VMF, "concentration": -1.0}, ValueError, "concentration is -1.0, must be >= 0"),
    (
        "kde_entropy",
        {**VMF, "concentration": 1.0, "z": X[:, :1]},
        ValueError,
        "kernel is 'vmf', must be another for D = 1",
    ),
    ("kde_entropy", {"weights": PROBABILITY, "estimator": "plugin"}, ValueError, "weights is given, must be None"),
    ("kde_entropy", {"weights": PROBABILITY[:5]}, ValueError, r"weights is of shape \(5,\), must be \(6,\)"),
    ("kde_entropy", {"weights": [1.0] * 6}, TypeError, "weights is .*, must be a float tensor or None"),
    ("kde_entropy", {"weights": torch.ones(6, device="meta")}, ValueError, "weights is on meta, must be on cpu"),
    ("kde_entropy", {"weights": -PROBABILITY}, ValueError, "weights is negative somewhere"),
    ("kde_entropy", {"weights": torch.zeros(6)}, ValueError, "weights is .* without a positive finite sum"),
    ("kde_joint_entropy", {"x": X[:1], "y": X[:1]}, ValueError, r"x is of shape \(1, 4\), must have at least 2 rows"),
    ("kde_mutual_information", {"y": X[:5]}, ValueError, "y is of 5 rows, must have 6 like x"),
    ("renyi2_entropy", {"z": X[:1]}, ValueError, r"z is of shape \(1, 4\), must have at least 2 rows"),
    ("bandwidth_by_likelihood", {"z": X[:1]}, ValueError, r"z is of shape \(1, 4\), must have at least 2 rows"),
    (
        "bandwidth_by_likelihood",
        {"z": X[:, :1], "kernel": "vmf"},
        ValueError,
        "kernel is 'vmf', must be another for D = 1",
    ),
    ("bandwidth_by_likelihood", {"kernel": "student"}, ValueError, "df is None, must be given"),
    ("koleo", {"k": 1.0}, TypeError, "k is .*, must be an int"),
]


@pytest.mark.parametrize(("function", "changed", "error", "message"), WRONG, ids=[f"{w[0]}-{w[3][:30]}" for w in WRONG])
def test_what_concerns_one_function(function, changed, error, message):
    with pytest.raises(error, match=rf"^{function}: {message}"):
        call(function, **changed)
