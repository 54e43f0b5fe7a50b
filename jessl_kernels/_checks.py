"""Checks of arguments. An error names the function, the argument, its value, and the values that it may have."""

from __future__ import annotations

import ctypes
import numbers
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # torch.func has no public name for it

from .autocast import is_on

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def fail(function: str, argument: str, was: Any, must: str) -> NoReturn:
    """Raise the ValueError of an argument of the right type and a wrong value."""
    raise ValueError(f"{function}: {argument} is {was}, {must}")


def wrong_type(function: str, argument: str, was: Any, must: str) -> NoReturn:
    """Raise the TypeError of an argument of a wrong type or dtype."""
    raise TypeError(f"{function}: {argument} is {_describe(was)}, {must}")


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.is_nested:
            return "a nested tensor"
        return f"a tensor of shape {tuple(value.shape)} and dtype {_dtype(value)}"
    if value is None or isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    text = " ".join(repr(value).split())  # one line, even for a list of tensors
    return f"a {type(value).__name__}, {text if len(text) <= 60 else text[:57] + '...'}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def readable(tensor: Tensor) -> bool:
    """Whether values may be read: of a plain CPU tensor outside a trace. Any other read synchronises or breaks the trace."""
    return (
        not torch.compiler.is_compiling()
        and tensor.device.type == "cpu"
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not is_functorch_wrapped_tensor(tensor)
    )


def is_nan(value: float) -> bool:
    """Whether a float is NaN. math.isnan would refuse the symbol that torch.compile makes from a changing float."""
    return value != value


def is_finite(value: float) -> bool:
    """Whether a float is neither infinite nor NaN. It works for such symbols too, because they cancel."""
    return value - value == 0


def number(function: str, argument: str, value: Any) -> float:
    """A number other than NaN, Python's or NumPy's, as a float."""
    if not _is_number(value):
        wrong_type(function, argument, value, "must be a number")
    if is_nan(value):
        fail(function, argument, value, "must be a number")
    _fits_a_float(function, argument, value)
    return float(value)


def integer(function: str, argument: str, value: Any, must: str = "must be an int") -> int:
    """An int, Python's, NumPy's or a compiler's symbol for one."""
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)):
        wrong_type(function, argument, value, must)
    return value if isinstance(value, int) else int(value)


def _is_number(value: Any) -> bool:
    # NumPy's float32 is not a Python float; a compiler's symbol for a float is one.
    return isinstance(value, (int, float, numbers.Real)) and not isinstance(value, bool)


def _fits_a_float(function: str, argument: str, value: int | float) -> None:
    if type(value) is int and value.bit_length() > 1023:
        fail(function, argument, f"an int of {value.bit_length()} bits", "must be no larger than a float")


def positive(function: str, argument: str, value: Any) -> float:
    """A Python number above 0 and finite, as a float."""
    if not number(function, argument, value) > 0 or not is_finite(value):
        fail(function, argument, value, "must be > 0 and finite")
    return float(value)


def choice(function: str, argument: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in allowed:
        fail(function, argument, repr(value), "must be one of " + ", ".join(repr(word) for word in allowed))
    return value


def flag(function: str, argument: str, value: Any) -> bool:
    """True or False, and nothing that is merely truthy or falsy."""
    if not isinstance(value, bool):
        wrong_type(function, argument, value, "must be True or False")
    return value


def embeddings(
    function: str, argument: str, value: Any, dims: tuple[int, ...] = (2,), like: tuple[str, Tensor] | None = None
) -> Tensor:
    """A float tensor of embeddings with at least one row and one column, with the device and the columns of `like`, and with its
    dtype unless both are cast."""
    if not isinstance(value, Tensor):
        wrong_type(function, argument, value, "must be a float tensor of embeddings, one per row")
    if value.dtype not in FLOATS:
        wrong_type(function, argument, value, "must be float64, float32, bfloat16 or float16")
    if value.is_nested:
        wrong_type(function, argument, value, "must be one dense tensor (torch.cat its parts)")
    if value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        wrong_type(function, argument, value, f"must be dense and not {layout}")
    if value.dim() not in dims:
        fail(
            function, argument, f"of shape {tuple(value.shape)}", f"must have {' or '.join(map(str, dims))} dimensions"
        )
    if 0 in value.shape:
        fail(function, argument, f"of shape {tuple(value.shape)}", "must not be empty")
    if like is not None:
        other_name, other = like
        if value.shape[-1] != other.shape[-1]:
            fail(
                function,
                argument,
                f"of shape {tuple(value.shape)}",
                f"must have {other.shape[-1]} columns like {other_name}",
            )
        if value.device != other.device:
            fail(function, argument, f"on {value.device}", f"must be on {other.device} like {other_name}")
        meet = is_on(value.device.type) and torch.float64 not in (value.dtype, other.dtype)  # autocast casts both
        if value.dtype != other.dtype and not meet:
            wrong_type(function, argument, value, f"must be {_dtype(other)} like {other_name}")
    return value


def same_shape(function: str, argument: str, value: Tensor, like: tuple[str, Tensor], because: str) -> None:
    """Two batches must have the same shape, because their rows correspond."""
    other_name, other = like
    if value.shape != other.shape:
        fail(
            function,
            argument,
            f"of shape {tuple(value.shape)}",
            f"must be {tuple(other.shape)} like {other_name}: {because}",
        )


def same_rows(function: str, x: Tensor, y: Tensor) -> None:
    """Two batches of pairs must have equally many rows; their columns may differ."""
    if len(x) != len(y):
        fail(function, "y", f"of {len(y)} rows", f"must have {len(x)} like x: row i of both is a pair")


def pairs(function: str, x: Any, y: Any) -> None:
    """Two batches of embeddings on one device, row i of both a pair; their columns may differ."""
    embeddings(function, "x", x)
    embeddings(function, "y", y)
    same_rows(function, x, y)
    if x.device != y.device:
        fail(function, "y", f"on {y.device}", f"must be on {x.device} like x")


def scalar(
    function: str,
    argument: str,
    value: Any,
    like: tuple[str, Tensor],
    *,
    above: float | None = None,
    at_least: float | None = None,
    inverse: bool = False,
) -> float | Tensor:
    """A number or a float tensor of one element, or with `inverse` its reciprocal. A number is rounded to the accumulation dtype
    of `like`. A tensor becomes 0-d in that dtype, or in its own if that is wider, with its graph.

    In a trace a number becomes a tensor too, so that a new number needs no new program.
    """
    must = "must be finite"
    if above is not None:
        must = f"must be > {above:g} and finite"
    elif at_least is not None:
        must = f"must be >= {at_least:g} and finite"
    other_name, other = like
    dtype = accumulation_dtype(other.dtype)
    if isinstance(value, Tensor):
        if value.dtype not in FLOATS:
            wrong_type(function, argument, value, "must be a float or a 0-d float tensor")
        if value.shape not in ((), (1,)):
            fail(function, argument, f"of shape {tuple(value.shape)}", "must be a float or a tensor of one element")
        value = value.reshape(())
        if value.device != other.device:
            fail(function, argument, f"on {value.device}", f"must be on {other.device} like {other_name}")
        known = float(value.detach()) if readable(value) else None
    elif not _is_number(value):
        wrong_type(function, argument, value, "must be a float or a 0-d float tensor")
    else:
        _fits_a_float(function, argument, value)
        if not isinstance(value, (int, float)):
            value = float(value)
        known = value
    if known is not None:
        too_small = (above is not None and known <= above) or (at_least is not None and known < at_least)
        if too_small or not _stays_finite(known, dtype):
            fail(function, argument, known, must)
        if inverse and not _stays_finite(1 / known, dtype):
            fail(function, argument, known, "must be so large that 1 over it is finite")
    if isinstance(value, Tensor):
        wide = value if value.dtype == torch.float64 else value.to(dtype)
        return wide.reciprocal() if inverse else wide
    number = 1 / value if inverse else value
    if torch.compiler.is_compiling():
        # A fill, not a copy: torch.tensor(value, device="cuda") would wait for the device.
        return torch.full((), number, dtype=dtype, device=other.device)
    return float(number) if dtype == torch.float64 else ctypes.c_float(number).value


def _stays_finite(value: float, dtype: torch.dtype) -> bool:
    """Whether a number is finite in fp64, and in fp32 too for every other dtype."""
    return is_finite(value) and (dtype == torch.float64 or abs(value) <= LARGEST_FP32)


def wide_scalar(
    function: str,
    argument: str,
    value: Any,
    like: tuple[str, Tensor],
    *,
    above: float | None = None,
    at_least: float | None = None,
) -> Tensor:
    """The same as a 0-d tensor, in fp64 if the device has it.

    The gradient of a bandwidth is a difference of large sums: rounded to fp32 they would leave it only a few digits.
    """
    found = scalar(function, argument, value, like, above=above, at_least=at_least)
    if isinstance(found, Tensor) and isinstance(value, Tensor):
        return value.reshape(()).to(widest(value.device))
    device = like[1].device
    return torch.full((), float(value), dtype=widest(device), device=device)


LARGEST_FP32 = torch.finfo(torch.float32).max
WITHOUT_FP64 = {"mps"}  # device types


def widest(device: torch.device) -> torch.dtype:
    """fp64, or fp32 on a device that has none."""
    return torch.float32 if device.type in WITHOUT_FP64 else torch.float64


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, scores and losses: fp64 for fp64, fp32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32
