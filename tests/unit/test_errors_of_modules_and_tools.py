"""Bad input to modules and to functions that are no losses: `Exclude`, `phi.clamp`, `use_backend`, `cached_backward`."""

import inspect

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels import nn

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(6) // 2
PAIR = (torch.nn.Identity(), X)


def cached(loss=jk.uniformity, encoded=PAIR, chunk_size=2, **options):
    return jk.cached_backward(loss, encoded, chunk_size=chunk_size, **options)


def entered(**arguments):
    return jk.use_backend(**arguments).__enter__()


# name: (the object with the signature, how to call it, the arguments of a call that works)
CALLS = {
    **{name: (getattr(nn, name), getattr(nn, name), {}) for name in nn.__all__},
    "KDEEntropy": (nn.KDEEntropy, nn.KDEEntropy, {"bandwidth": 1.0}),
    "Queue": (nn.Queue, nn.Queue, {"size": 4, "dim": 4}),
    "Exclude": (jk.Exclude, jk.Exclude, {}),
    "clamp": (jk.phi.clamp, jk.phi.clamp, {"low": -1.0, "high": 1.0}),
    "use_backend": (jk.use_backend, entered, {}),
    "cached_backward": (jk.cached_backward, cached, {}),
}
EVERY_ARGUMENT = [(name, a) for name, (signed, _, _) in CALLS.items() for a in inspect.signature(signed).parameters]


@pytest.mark.parametrize(("name", "argument"), EVERY_ARGUMENT)
def test_an_argument_of_no_sensible_type(name, argument):
    """Every signature is read, so that an argument added later is in this table from the start."""
    _, run, arguments = CALLS[name]
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: {argument} is .*, must "):
        run(**{**arguments, argument: object()})


WRONG = {
    "Exclude-diagonal": (lambda: jk.Exclude(diagonals=(0.5,)), TypeError, "Exclude: diagonals is .*, must hold ints"),
    "Exclude-keep": (lambda: jk.Exclude(keep=(True,)), TypeError, "Exclude: keep is .*, must hold ints"),
    "Exclude-same": (lambda: jk.Exclude(same=IDS), TypeError, "Exclude: same is .*, must be a pair"),
    "Exclude-huge": (
        lambda: jk.Exclude(diagonals=(2**70,)),
        ValueError,
        "Exclude: diagonals is an int of 71 bits, must hold",
    ),
    "Exclude-dtype": (
        lambda: jk.Exclude(same=(IDS, IDS.float())),
        TypeError,
        "Exclude: same is .*float32, must be a tensor of integers",
    ),
    "Exclude-shape": (lambda: jk.Exclude(different=(IDS, IDS[None])), ValueError, "Exclude: different is of shape"),
    "clamp-order": (lambda: jk.phi.clamp(1.0, -1.0), ValueError, "clamp: high is -1.0, must be above low"),
    "clamp-type": (lambda: jk.phi.clamp("a", 1.0), TypeError, "clamp: low is .*, must be a number"),
    "use_backend-type": (
        lambda: jk.use_backend(["cpu"]).__enter__(),
        TypeError,
        "use_backend: name is a list.*, must be a backend's name or None",
    ),
    "use_backend": (
        lambda: jk.use_backend("fast").__enter__(),
        ValueError,
        "use_backend: name is 'fast', must be one of",
    ),
    "workspace": (
        lambda: jk.use_backend(workspace=0).__enter__(),
        ValueError,
        "use_backend: workspace is 0, must be > 0",
    ),
    "workspace-type": (
        lambda: jk.use_backend(workspace=1.5).__enter__(),
        TypeError,
        "use_backend: workspace is .* an int",
    ),
    "cache-chunk": (lambda: cached(chunk_size=0), ValueError, "cached_backward: chunk_size is 0, must be >= 1"),
    "cache-chunk-type": (
        lambda: cached(chunk_size=2.0),
        TypeError,
        "cached_backward: chunk_size is .*, must be an int",
    ),
    "cache-none": (
        lambda: jk.cached_backward(jk.nt_xent, chunk_size=2),
        ValueError,
        "cached_backward: encoded is empty",
    ),
    "cache-no-grad": (
        torch.no_grad()(lambda: cached(encoded=(torch.nn.Identity(), X))),
        ValueError,
        "cached_backward: grad mode is off, must be on",
    ),
    "cache-sizes": (lambda: cached(chunk_size=(2, 3, 4)), ValueError, "chunk_size is 3 numbers, must be one, or"),
    "cache-representation": (
        lambda: cached(get_representation="pooler_output"),
        TypeError,
        "cached_backward: get_representation is .*, must be a function",
    ),
    "cache-pair": (lambda: cached(encoded=X), TypeError, "cached_backward: encoded is .*, must be pairs"),
    "cache-inputs": (
        lambda: cached(encoded=(torch.nn.Identity(), "x")),
        TypeError,
        "cached_backward: encoded is .*, must pair",
    ),
    "cache-rows": (
        lambda: cached(encoded=(torch.add, (X, X[:5]))),
        ValueError,
        "cached_backward: encoded is inputs of 6, 5 rows, must hold equally many",
    ),
    "cache-empty": (lambda: cached(encoded=(torch.nn.Identity(), X[:0])), ValueError, "encoded is inputs of 0 rows"),
    "cache-loss": (
        lambda: cached(loss=lambda z: z),
        TypeError,
        "cached_backward: loss is .*, must return a 0-d tensor",
    ),
    "cache-encoder": (
        lambda: cached(encoded=(lambda x: (x, x), X)),
        TypeError,
        "cached_backward: encoded is .*, must pair inputs with an encoder that returns a tensor",
    ),
    "cache-rows-returned": (
        lambda: cached(encoded=(lambda x: x.sum(), X)),
        ValueError,
        r"cached_backward: encoded is an encoder that made \(\) of 2 rows, must return one embedding per row",
    ),
    "nn-temperature": (lambda: nn.NTXent(0.0), ValueError, "NTXent: temperature is 0.0, must be > 0"),
    "nn-zero-t": (lambda: nn.Uniformity(0.0), ValueError, "Uniformity: t is 0.0, must be > 0 and finite"),
    "nn-infinite-t": (lambda: nn.Uniformity(float("inf")), ValueError, "Uniformity: t is inf, must be > 0 and finite"),
    "nn-scale": (lambda: nn.CLIP(float("inf")), ValueError, "CLIP: logit_scale is inf, must be > 0 and finite"),
    "nn-bias": (lambda: nn.SigLIP(logit_bias="x"), TypeError, "SigLIP: logit_bias is .*, must be a number"),
    "nn-rule": (
        lambda: nn.KDEEntropy("scott", learnable=True),
        ValueError,
        "KDEEntropy: learnable is True, must be False",
    ),
    "nn-width": (lambda: nn.KDEEntropy(), ValueError, "KDEEntropy: bandwidth is None, must be"),
    "nn-vmf": (lambda: nn.KDEEntropy(kernel="vmf"), ValueError, "KDEEntropy: concentration is None, must be"),
    "nn-flag": (lambda: nn.NTXent(learnable="no"), TypeError, "NTXent: learnable is .*, must be True or False"),
    "nn-word": (lambda: nn.DCL(reduction="avarage"), ValueError, "DCL: reduction is 'avarage', must be one of"),
    "nn-form": (lambda: nn.SupCon(form="both"), ValueError, "SupCon: form is 'both', must be one of"),
    "nn-max": (lambda: nn.CLIP(max_scale=-1.0), ValueError, "CLIP: max_scale is -1.0, must be > 0"),
    "nn-rule-name": (lambda: nn.KDEEntropy("median"), ValueError, "KDEEntropy: bandwidth is 'median', must be one of"),
    "nn-kernel": (lambda: nn.KDEEntropy(1.0, kernel="box"), ValueError, "KDEEntropy: kernel is 'box', must be one of"),
    "nn-two-widths": (
        lambda: nn.KDEEntropy(1.0, concentration=2.0),
        ValueError,
        "KDEEntropy: concentration is 2.0, must be None with kernel='gaussian'",
    ),
    "nn-vmf-bandwidth": (
        lambda: nn.KDEEntropy("scott", concentration=2.0, kernel="vmf"),
        ValueError,
        "KDEEntropy: bandwidth is 'scott', must be None with kernel='vmf'",
    ),
    "nn-t": (lambda: nn.Uniformity("2"), TypeError, "Uniformity: t is .*, must be a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name):
    run, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        run()
