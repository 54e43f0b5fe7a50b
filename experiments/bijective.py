"""Bijective encoders of two views, trained to raise a bound, with what shows that they stay bijective."""

from __future__ import annotations

from typing import Any

from jessl_kernels import mi

from .flows import Flow, log_condition, reconstruction_error
from .two_encoders import Trainer

POINTS = 8  # images at which the Jacobian is taken


def trained(
    data_set: str, view: str, bound: Any, *, affine: bool, couplings: int, width: int, steps: int, readings: int,
    batch: int, rate: float, seed: int,
) -> tuple[Trainer, dict[str, Any]]:  # fmt: skip
    """A flow for each view with a bilinear critic: curves, log σ_1/σ_D before and after, errors of the inverse on test images."""

    def flow(D: int) -> Flow:
        return Flow(D, couplings=couplings, width=width, affine=affine)

    trainer = Trainer(data_set, view, bound, flow, mi.Bilinear, batch=batch, rate=rate, seed=seed)
    g, images = trainer.g, trainer.test_views.plain
    before = log_condition(g, images[:POINTS])
    found = trainer.curves(steps, readings)
    assert isinstance(g, Flow)
    single, double = reconstruction_error(g, images)
    condition = [before, log_condition(g, images[:POINTS])]
    return trainer, {**found, "error": single, "error_fp64": double, "log_condition": condition}
