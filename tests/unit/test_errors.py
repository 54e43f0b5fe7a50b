"""Bad input to every loss, estimator and reduction, every argument: the right exception, naming function and argument."""

import inspect

import pytest
import torch

import jessl_kernels as jk

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(6) // 2
VMF = {"kernel": "vmf", "bandwidth": None}

# name: (a call that works, the arguments that hold embeddings and the shape each must have)
FUNCTIONS = {
    "info_nce": (jk.info_nce, {"query": X, "positive": X, "negatives": X}),
    "clip_loss": (jk.clip_loss, {"image": X, "text": X, "logit_scale": 1.0}),
    "nt_xent": (jk.nt_xent, {"z1": X, "z2": X}),
    "dcl": (jk.dcl, {"z1": X, "z2": X}),
    "sup_con": (jk.sup_con, {"features": X, "labels": IDS}),
    "siglip_loss": (jk.siglip_loss, {"image": X, "text": X, "logit_scale": 1.0, "logit_bias": 0.0}),
    "kde_log_density": (jk.kde_log_density, {"query": X, "data": X, "bandwidth": 1.0}),
    "kde_entropy": (jk.kde_entropy, {"z": X, "bandwidth": 1.0}),
    "kde_joint_entropy": (jk.kde_joint_entropy, {"x": X, "y": X, "bandwidth": 1.0}),
    "kde_conditional_entropy": (jk.kde_conditional_entropy, {"x": X, "y": X, "bandwidth": 1.0}),
    "kde_mutual_information": (jk.kde_mutual_information, {"x": X, "y": X, "bandwidth": 1.0}),
    "kde_score": (jk.kde_score, {"query": X, "data": X, "bandwidth": 1.0}),
    "renyi2_entropy": (jk.renyi2_entropy, {"z": X, "bandwidth": 1.0}),
    "bandwidth_by_likelihood": (jk.bandwidth_by_likelihood, {"z": X}),
    "knn_entropy": (jk.knn_entropy, {"z": X}),
    "koleo": (jk.koleo, {"z": X}),
    "uniformity": (jk.uniformity, {"z": X}),
    "alignment": (jk.alignment, {"x": X, "y": X}),
    "retrieval_metrics": (jk.retrieval_metrics, {"x": X, "y": X}),
    "pairwise_logsumexp": (jk.pairwise_logsumexp, {"x": X, "y": X}),
    "pairwise_sum": (jk.pairwise_sum, {"x": X, "y": X}),
    "pairwise_topk": (jk.pairwise_topk, {"x": X, "y": X}),
    "attend": (jk.attend, {"x": X, "y": X, "values": X.clone()}),
    "soft_cross_entropy": (jk.soft_cross_entropy, {"x": X, "y": X, "target_x": X, "target_y": X}),
}
EMBEDDINGS = [
    (function, name)
    for function, (_, arguments) in FUNCTIONS.items()
    for name, value in arguments.items()
    if value is X
]
NOT_EMBEDDINGS = {
    "list": (TypeError, [[1.0]]),
    "ints": (TypeError, torch.ones(6, 4, dtype=torch.int64)),
    "complex": (TypeError, torch.ones(6, 4, dtype=torch.complex64)),
    "sparse": (TypeError, torch.ones(6, 4).to_sparse()),
    "one-dimensional": (ValueError, torch.ones(6)),
    "four-dimensional": (ValueError, torch.ones(2, 3, 2, 2)),
    "no-rows": (ValueError, torch.ones(0, 4)),
    "no-columns": (ValueError, torch.ones(6, 0)),
}
NOT_LIKE_THE_FIRST = {
    "width": (ValueError, torch.ones(6, 5)),
    "dtype": (TypeError, torch.ones(6, 4, dtype=torch.float64)),
    "device": (ValueError, torch.ones(6, 4, device="meta")),
}
# Two batches whose rows correspond must have equally many rows.
PAIRED = [
    (f, a)
    for f, a in EMBEDDINGS
    if a in ("positive", "text", "z2") or (f in ("alignment", "retrieval_metrics") and a == "y")
]


def call(function: str, **changed):
    run, arguments = FUNCTIONS[function]
    return run(**{**arguments, **changed})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_call_that_is_broken_below_works(function):
    call(function)


ALLOWED = {("negatives", "no-rows"), ("features", "four-dimensional")}  # a queue before its first step, maps of views
VIEWS = ("kde_joint_entropy", "kde_conditional_entropy", "kde_mutual_information")  # which may differ in their columns


@pytest.mark.parametrize("wrong", NOT_EMBEDDINGS)
@pytest.mark.parametrize(("function", "argument"), EMBEDDINGS)
def test_what_is_no_batch_of_embeddings(function, argument, wrong):
    if (argument, wrong) in ALLOWED:
        pytest.skip("it is one here")
    error, value = NOT_EMBEDDINGS[wrong]
    with pytest.raises(error, match=rf"^{function}: {argument} is .*, must "):
        call(function, **{argument: value})


@pytest.mark.parametrize("wrong", NOT_LIKE_THE_FIRST)
@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, a) for f, a in EMBEDDINGS if a not in (next(iter(FUNCTIONS[f][1])), "target_x")],
)
def test_what_does_not_fit_the_first_batch(function, argument, wrong):
    if function in VIEWS and wrong == "width":
        pytest.skip("it is one here")
    error, value = NOT_LIKE_THE_FIRST[wrong]
    with pytest.raises(error, match=rf"^{function}: {argument} is .*, must .* like "):
        call(function, **{argument: value})


@pytest.mark.parametrize(("function", "argument"), PAIRED)
def test_batches_of_pairs_of_different_lengths(function, argument):
    with pytest.raises(ValueError, match=rf"^{function}: {argument} is of shape \(5, 4\), must be \(6, 4\) like "):
        call(function, **{argument: X[:5]})


# Every signature is read, so that a function, or an argument that is added later, is in the tables from the start.
EVERY_ARGUMENT = [(f, argument) for f, (run, _) in FUNCTIONS.items() for argument in inspect.signature(run).parameters]


def arguments_named(*names: str) -> list[tuple[str, str]]:
    """Each function with each of these arguments that it has."""
    return [(function, argument) for function, argument in EVERY_ARGUMENT if argument in names]


def beside(function: str, argument: str) -> dict[str, object]:
    """What must be given with an argument."""
    if function.startswith("pairwise") and argument in ("anchor", "col_anchor", "weights", "col_weights"):
        return {"dim": "both", "reduction": "sum"}
    return VMF if argument == "concentration" else {}


@pytest.mark.parametrize(("function", "argument"), EVERY_ARGUMENT)
def test_an_argument_of_no_sensible_type(function, argument):
    with pytest.raises((TypeError, ValueError), match=rf"^{function}: {argument} is .*, must "):
        call(function, **{argument: object()}, **beside(function, argument))


POSITIVE = arguments_named("temperature", "target_temperature", "t", "bandwidth")
NUMBERS = [*POSITIVE, *arguments_named("logit_scale", "logit_bias", "scale")]
NOT_NUMBERS = {
    "list": (TypeError, [1.0]),
    "bool": (TypeError, True),
    "nan": (ValueError, float("nan")),
    "infinite": (ValueError, float("inf")),
    "infinite-tensor": (ValueError, torch.tensor(torch.inf)),
    "int-tensor": (TypeError, torch.tensor(1)),
    "matrix": (ValueError, torch.ones(4, 4)),
    "device": (ValueError, torch.ones((), device="meta")),
}


@pytest.mark.parametrize("wrong", NOT_NUMBERS)
@pytest.mark.parametrize(("function", "argument"), NUMBERS)
def test_what_is_no_number(function, argument, wrong):
    error, value = NOT_NUMBERS[wrong]
    with pytest.raises(error, match=rf"^{function}: {argument} is .*, must "):
        call(function, **{argument: value})


@pytest.mark.parametrize("value", [0.0, -0.1, torch.tensor(0.0), torch.tensor(-0.1)], ids=str)
@pytest.mark.parametrize(("function", "argument"), POSITIVE)
def test_what_must_be_positive(function, argument, value):
    with pytest.raises(ValueError, match=rf"^{function}: {argument} is -?0\.[01]\d*, must be > 0"):
        call(function, **{argument: value})


@pytest.mark.parametrize("function", ["clip_loss", "siglip_loss"])
def test_negative_logit_scale(function):
    with pytest.raises(ValueError, match=rf"^{function}: logit_scale is -1.0, must be >= 0"):
        call(function, logit_scale=-1.0)


WORDS = ("reduction", "form", "no_positive", "kernel", "estimator", "bandwidth", "dim", "kind", "phi", "psi")


@pytest.mark.parametrize(("function", "argument"), arguments_named(*WORDS))
def test_unknown_word(function, argument):
    with pytest.raises(ValueError, match=rf"^{function}: {argument} is 'avarage', must be one of '"):
        call(function, **{argument: "avarage"})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unknown_argument_is_not_swallowed(function):
    with pytest.raises(TypeError, match="unexpected keyword"):
        call(function, temprature=1.0)


@pytest.mark.parametrize("value", ["no", 1, None, 0.0], ids=repr)
@pytest.mark.parametrize(("function", "argument"), arguments_named("normalize", "in_batch", "symmetric"))
def test_flags_are_true_or_false(function, argument, value):
    with pytest.raises(TypeError, match=rf"^{function}: {argument} is .*, must be True or False"):
        call(function, **{argument: value})


VECTORS = ("row_bias", "col_bias", "anchor", "col_anchor", "weights", "col_weights")


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (TypeError, 1.0),
        (TypeError, torch.ones(6, dtype=torch.int64)),
        (ValueError, torch.ones(5)),
        (ValueError, torch.ones(6, 1)),
        (ValueError, torch.ones(6, device="meta")),
    ],
    ids=["number", "ints", "length", "matrix", "device"],
)
@pytest.mark.parametrize(("function", "argument"), arguments_named(*VECTORS))
def test_vectors(function, argument, error, value):
    with pytest.raises(error, match=rf"^{function}: {argument} is .*, must "):
        call(function, **{argument: value}, **beside(function, argument))


@pytest.mark.parametrize("argument", ["weights", "col_weights"])
def test_weights_that_require_a_gradient(argument):
    with pytest.raises(TypeError, match=rf"{argument} is .*, must not require a gradient"):
        call("pairwise_logsumexp", dim="both", reduction="sum", **{argument: torch.ones(6, requires_grad=True)})


LABELS = {
    "floats": (TypeError, torch.ones(6)),
    "bools": (TypeError, torch.ones(6, dtype=torch.bool)),
    "list": (TypeError, [0] * 6),
    "length": (ValueError, torch.zeros(5, dtype=torch.int64)),
    "matrix": (ValueError, torch.zeros(6, 2, dtype=torch.int64)),
    "device": (ValueError, torch.zeros(6, dtype=torch.int64, device="meta")),
}


@pytest.mark.parametrize("wrong", LABELS)
def test_labels(wrong):
    error, value = LABELS[wrong]
    with pytest.raises(error, match=r"^sup_con: labels is .*, must "):
        call("sup_con", labels=value)


def test_a_nested_tensor():
    with pytest.raises(TypeError, match=r"^nt_xent: z1 is a nested tensor, must be one dense tensor"):
        jk.nt_xent(torch.nested.nested_tensor([X, X]), X)


# Errors of a single function: function, arguments, exception, message.
SINGLE = [
    (
        "info_nce",
        {"negatives": None, "in_batch": False},
        ValueError,
        "in_batch is False, must be True without negatives",
    ),
    ("info_nce", {"in_batch": False, "symmetric": True}, ValueError, "symmetric is True, must be False"),
    (
        "info_nce",
        {"negatives": torch.ones(5, 3, 4)},
        ValueError,
        r"negatives is of shape \(5, 3, 4\), must have 6 sets",
    ),
    ("dcl", {"z1": X[:1], "z2": X[:1]}, ValueError, r"z1 is of shape \(1, 4\), must have at least 2 rows"),
    ("uniformity", {"z": X[:1]}, ValueError, r"z is of shape \(1, 4\), must have at least 2 rows"),
    ("pairwise_logsumexp", {"phi": "student"}, ValueError, r"phi is 'student', must be jk.phi.student\(power\)"),
    ("alignment", {"power": 0}, ValueError, "power is 0, must be > 0"),
    ("alignment", {"power": "2"}, TypeError, "power is .*, must be a number"),
    ("retrieval_metrics", {"k": 1.5}, TypeError, "k is .*, must be an int or a sequence of ints"),
    ("retrieval_metrics", {"k": 0}, ValueError, "k is 0, must be >= 1"),
    ("retrieval_metrics", {"k": (1, 2.0)}, TypeError, "k is .*, must be an int"),
    ("retrieval_metrics", {"k": ()}, ValueError, r"k is \(\), must name at least one rank"),
    ("pairwise_topk", {"k": 0}, ValueError, "k is 0, must be between 1 and 6"),
    ("pairwise_topk", {"k": 7}, ValueError, "k is 7, must be between 1 and 6"),
    ("pairwise_topk", {"k": 1.0}, TypeError, "k is .*, must be an int"),
    ("pairwise_logsumexp", {"phi": "laplace"}, ValueError, "phi is 'laplace', must be defined for kind=\"dot\""),
    ("pairwise_logsumexp", {"phi": "clamp"}, ValueError, r"phi is 'clamp', must be jk.phi.clamp\(low, high\)"),
    ("pairwise_logsumexp", {"phi": torch.exp}, TypeError, "phi is .*, must be a name, a jk.phi.Phi or None"),
    (
        "pairwise_logsumexp",
        {"col_anchor": torch.ones(6)},
        ValueError,
        'col_anchor is given, must be None with dim="row"',
    ),
    (
        "pairwise_logsumexp",
        {"weights": torch.ones(6)},
        ValueError,
        'weights is given, must be None with reduction="none"',
    ),
    (
        "pairwise_logsumexp",
        {"anchor": torch.ones(6), "reduction": "logsumexp"},
        ValueError,
        "anchor is given, must be None",
    ),
    (
        "pairwise_logsumexp",
        {"dim": "both", "reduction": "logsumexp"},
        ValueError,
        'dim is "both", must be "row" or "col"',
    ),
    ("pairwise_logsumexp", {"exclude": "self"}, ValueError, 'exclude is .*, must be a jk.Exclude, "diagonal" or None'),
    (
        "pairwise_logsumexp",
        {"exclude": jk.Exclude(same=(IDS[:5], IDS))},
        ValueError,
        r"exclude.same is .* must be \(6,\)",
    ),
    (
        "pairwise_logsumexp",
        {"exclude": jk.Exclude(different=(IDS, IDS.to("meta")))},
        ValueError,
        "exclude.different is on meta, must be on cpu like x",
    ),
]


@pytest.mark.parametrize(
    ("function", "changed", "error", "message"), SINGLE, ids=[f"{s[0]}-{s[3][:30]}" for s in SINGLE]
)
def test_what_concerns_one_function(function, changed, error, message):
    with pytest.raises(error, match=rf"^{function}: {message}"):
        call(function, **changed)


def test_non_finite_embeddings_are_no_error_and_stay_in_their_row():
    """Reading every value would cost a pass and, on a GPU, a synchronisation: a NaN makes its row NaN, as in the matrix form."""
    x = X.clone()
    x[2, 1] = torch.nan
    row = jk.pairwise_logsumexp(x, X)
    assert row.isnan().tolist() == [False, False, True, False, False, False]
