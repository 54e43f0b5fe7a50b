"""The losses as modules, with a temperature, scale, bias or bandwidth that can be learnt.

Positive parameters are learnt as logarithms, so that no step of an optimiser can make them negative. The function of each module
is in `jessl_kernels.functional`; its docstring names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import functional as F
from .._checks import choice, fail, flag, number, positive
from ..functional.bandwidth import degrees_of_freedom
from ..functional.rows import check_options
from ..literals import (
    BANDWIDTH_WORDS,
    ESTIMATORS,
    FORMS,
    KERNELS,
    NO_POSITIVE,
    SAME_ID,
    SAME_ID_OF_SIGLIP,
    BandwidthWord,
    Estimator,
    Form,
    KernelName,
    NoPositive,
    Reduction,
    SameId,
    SameIdOfSigLIP,
)


class _Loss(nn.Module):
    """A module whose call returns a tensor, as type checkers do not know of modules."""

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]


class _Temperature(_Loss):
    """Holds a temperature: `log_temperature`, a parameter if learnable and else a buffer; and the function's options."""

    log_temperature: Tensor

    def __init__(self, temperature: float, learnable: bool, reduction: str, **flags: bool):
        super().__init__()
        _hold_log(self, "temperature", temperature, learnable)
        self.options = _options(self, reduction, **flags)

    @property
    def temperature(self) -> Tensor:
        """The temperature in force, 0-d."""
        return self.log_temperature.exp()

    def extra_repr(self) -> str:
        return _printed(self, "log_temperature", temperature=self.temperature)


class InfoNCE(_Temperature):
    """`info_nce` with a held, possibly learnable temperature.

    temperature  its value at the start, > 0
    learnable    learn log_temperature
    same_id, in_batch, symmetric, normalize, reduction   as in `info_nce`

    Raises ValueError or TypeError naming the argument at fault.

    >>> loss = jk.nn.InfoNCE(temperature=0.1, learnable=True)(query, positive)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = False,
        same_id: SameId = "mean",
        in_batch: bool = True,
        symmetric: bool = False,
        normalize: bool = True,
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature, learnable, reduction, in_batch=in_batch, symmetric=symmetric, normalize=normalize)
        self.options["same_id"] = choice("InfoNCE", "same_id", same_id, SAME_ID)

    def forward(
        self, query: Tensor, positive: Tensor, negatives: Tensor | None = None, **given: Tensor | None
    ) -> Tensor:
        """(N, D), (N, D) and optionally (M, D) or (N, M, D) → loss; ids=, negative_ids= and negatives_mask= as in `info_nce`."""
        return F.info_nce(query, positive, negatives, temperature=self.temperature, **given, **self.options)


class NTXent(_Temperature):
    """`nt_xent` with a held, possibly learnable temperature; arguments as for `InfoNCE`."""

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        learnable: bool = False,
        normalize: bool = True,
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature, learnable, reduction, normalize=normalize)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(N, D), (N, D) → loss."""
        return F.nt_xent(z1, z2, temperature=self.temperature, **self.options)


class DCL(_Temperature):
    """`dcl` with a held, possibly learnable temperature; arguments as for `InfoNCE`."""

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        normalize: bool = True,
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature, learnable, reduction, normalize=normalize)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(N, D), (N, D) → loss."""
        return F.dcl(z1, z2, temperature=self.temperature, **self.options)


class SupCon(_Temperature):
    """`sup_con` with a held, possibly learnable temperature; in_batch, form and no_positive as there."""

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = False,
        in_batch: bool = True,
        form: Form = "out",
        no_positive: NoPositive = "skip",
        normalize: bool = True,
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature, learnable, reduction, in_batch=in_batch, normalize=normalize)
        self.options["form"] = choice("SupCon", "form", form, FORMS)
        self.options["no_positive"] = choice("SupCon", "no_positive", no_positive, NO_POSITIVE)

    def forward(self, features: Tensor, labels: Tensor, **given: Tensor | None) -> Tensor:
        """(N, D) or (N, V, D), (N,) → loss; keys= and key_labels= as in `sup_con`."""
        return F.sup_con(features, labels, temperature=self.temperature, **given, **self.options)


class CLIP(_Loss):
    """`clip_loss` with CLIP's learnable scale, held as its logarithm `log_logit_scale`. A `logit_scale` in a state dict, as in
    those of CLIP and open_clip, is that logarithm, and is loaded.

    logit_scale  the multiplier at the start, > 0 (CLIP: 1/0.07)
    max_scale    the largest multiplier used, > 0: if a step of an optimiser exceeds it, the next call clamps the parameter
    learnable    learn log_logit_scale
    same_id, normalize, reduction   as in `clip_loss`

    Raises ValueError or TypeError naming the argument at fault.
    """

    log_logit_scale: Tensor

    def __init__(
        self,
        logit_scale: float = 1 / 0.07,
        *,
        max_scale: float = 100.0,
        learnable: bool = True,
        same_id: SameId = "mean",
        normalize: bool = False,
        reduction: Reduction = "mean",
    ):
        super().__init__()
        _hold_log(self, "logit_scale", logit_scale, learnable)
        self.max_scale = number("CLIP", "max_scale", max_scale)
        if self.max_scale <= 0:
            fail("CLIP", "max_scale", max_scale, "must be > 0")
        self.options = _options(self, reduction, normalize=normalize)
        self.options["same_id"] = choice("CLIP", "same_id", same_id, SAME_ID)
        self.register_load_state_dict_pre_hook(_load_logit_scale)

    @property
    def logit_scale(self) -> Tensor:
        """The multiplier in force, 0-d."""
        return self.log_logit_scale.clamp(max=math.log(self.max_scale)).exp()

    def extra_repr(self) -> str:
        return _printed(self, "log_logit_scale", logit_scale=self.logit_scale, max_scale=self.max_scale)

    def forward(self, image: Tensor, text: Tensor, ids: Tensor | None = None) -> Tensor:
        """(N, D), (N, D) and, if any, (N,) → loss."""
        if not self.log_logit_scale.requires_grad:
            return F.clip_loss(image, text, self.logit_scale, ids=ids, **self.options)
        # Beyond the limit the clamp above has no gradient (in torch 2.15 not even at the limit), so a parameter would stay there.
        with torch.no_grad():
            self.log_logit_scale.clamp_(max=math.log(self.max_scale))
        return F.clip_loss(image, text, self.log_logit_scale.exp(), ids=ids, **self.options)


class SigLIP(_Loss):
    """`siglip_loss` with SigLIP's learnable scale, held as its logarithm, and bias; a state dict of open_clip has both.

    logit_scale, logit_bias  their values at the start (SigLIP: 10 and −10)
    learnable                learn log_logit_scale and logit_bias
    same_id, normalize, reduction   as in `siglip_loss`

    Raises ValueError or TypeError naming the argument at fault.
    """

    log_logit_scale: Tensor
    logit_bias: Tensor

    def __init__(
        self,
        logit_scale: float = 10.0,
        logit_bias: float = -10.0,
        *,
        learnable: bool = True,
        same_id: SameIdOfSigLIP = "sum",
        normalize: bool = False,
        reduction: Reduction = "mean",
    ):
        super().__init__()
        _hold_log(self, "logit_scale", logit_scale, learnable)
        _hold(self, "logit_bias", torch.full((), number("SigLIP", "logit_bias", logit_bias)), learnable)
        self.options = _options(self, reduction, normalize=normalize)
        self.options["same_id"] = choice("SigLIP", "same_id", same_id, SAME_ID_OF_SIGLIP)
        self.register_load_state_dict_pre_hook(_load_logit_scale)

    @property
    def logit_scale(self) -> Tensor:
        """The multiplier in force, 0-d."""
        return self.log_logit_scale.exp()

    def extra_repr(self) -> str:
        return _printed(self, "log_logit_scale", logit_scale=self.logit_scale, logit_bias=self.logit_bias)

    def forward(self, image: Tensor, text: Tensor, ids: Tensor | None = None) -> Tensor:
        """(N, D), (N, D) and, if any, (N,) → loss."""
        return F.siglip_loss(image, text, self.logit_scale, self.logit_bias, ids=ids, **self.options)


class KDEEntropy(_Loss):
    """`kde_entropy` with a held, possibly learnable width, which is one number; all points have equal weight.

    bandwidth      a number, or "scott", "silverman" or "likelihood" (then nothing is held); None with kernel="vmf"
    concentration  a number > 0 for kernel="vmf"
    learnable      learn log_bandwidth or log_concentration
    kernel, df, estimator   as in `kde_entropy`

    Raises ValueError or TypeError naming the argument at fault.
    """

    def __init__(
        self,
        bandwidth: float | BandwidthWord | None = None,
        *,
        concentration: float | None = None,
        learnable: bool = False,
        kernel: KernelName = "gaussian",
        df: float | None = None,
        estimator: Estimator = "loo",
    ):
        super().__init__()
        function = "KDEEntropy"
        choice(function, "kernel", kernel, KERNELS)
        choice(function, "estimator", estimator, ESTIMATORS)
        given = {"bandwidth": bandwidth, "concentration": concentration}
        self.width_name = "concentration" if kernel == "vmf" else "bandwidth"
        width = given.pop(self.width_name)
        for name, other in given.items():
            if other is not None:
                fail(
                    function,
                    name,
                    repr(other),
                    f"must be None with kernel={kernel!r}, whose width is its {self.width_name}",
                )
        if width is None:
            fail(function, self.width_name, None, f"must be a number > 0 with kernel={kernel!r}")
        self.rule = None
        if isinstance(width, str) and kernel != "vmf":
            self.rule = choice(function, "bandwidth", width, BANDWIDTH_WORDS)
            if flag(function, "learnable", learnable):
                fail(function, "learnable", True, f"must be False with bandwidth={width!r}, which is a rule")
        else:
            _hold_log(self, self.width_name, width, learnable)
        self.options: dict[str, Any] = {"kernel": kernel, "estimator": estimator}
        if df is not None or kernel == "student":
            self.options["df"] = degrees_of_freedom(function, kernel, df)

    @property
    def width(self) -> Tensor | str:
        """The bandwidth or concentration in force, 0-d, or the name of its rule."""
        return self.rule or getattr(self, f"log_{self.width_name}").exp()

    def extra_repr(self) -> str:
        return _printed(self, f"log_{self.width_name}", **{self.width_name: self.width})

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) → entropy in nats."""
        width: dict[str, Any] = {self.width_name: self.width}
        return F.kde_entropy(z, **width, **self.options)


class Uniformity(_Loss):
    """`uniformity` with a fixed t, > 0. Raises ValueError or TypeError for any other."""

    def __init__(self, t: float = 2.0):
        super().__init__()
        self.t = positive("Uniformity", "t", t)

    def extra_repr(self) -> str:
        return f"t={self.t}"

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) → 0-d."""
        return F.uniformity(z, t=self.t)


def _printed(module: Any, learnt: str, **numbers: Any) -> str:
    """A module's arguments for its repr: the numbers in force, and the function's options."""
    held = getattr(module, learnt, None)
    shown = {name: _number(v) if isinstance(v, Tensor) else repr(v) for name, v in numbers.items()}
    shown["learnable"] = repr(isinstance(held, nn.Parameter))
    shown |= {name: repr(value) for name, value in module.options.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _number(held: Tensor) -> str:
    return "…" if held.is_meta else f"{held.detach().item():.4g}"


def _load_logit_scale(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """CLIP and open_clip hold the logarithm of the scale under the name `logit_scale`."""
    if f"{prefix}logit_scale" in state_dict and f"{prefix}log_logit_scale" not in state_dict:
        state_dict[f"{prefix}log_logit_scale"] = state_dict.pop(f"{prefix}logit_scale").reshape(())


def _options(module: nn.Module, reduction: str, **flags: bool) -> dict[str, Any]:
    """The options that a module passes on at every call, checked when the module is made."""
    check_options(type(module).__name__, reduction, **flags)
    return {"reduction": reduction, **flags}


def _hold_log(module: nn.Module, name: str, value: Any, learnable: bool) -> None:
    """Hold log(value) as `log_<name>`."""
    function = type(module).__name__
    _hold(module, f"log_{name}", torch.full((), math.log(positive(function, name, value))), learnable)


def _hold(module: nn.Module, name: str, value: Tensor, learnable: bool) -> None:
    if flag(type(module).__name__, "learnable", learnable):
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)
