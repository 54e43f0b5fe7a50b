"""The entropy of a data set, and how it prints and saves itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..plain import Z, plain


@dataclass(frozen=True, repr=False)
class Entropy:
    """The entropy of a data set by kernel-density estimation.

    value          nats
    stderr         standard error over the points, Σ_i w_i² (h_i − value)² / (1 − Σ_i w_i²), its root; h_i = −log p̂(z_i)
    N, D           rows and columns
    kernel         its name
    bandwidth      its width, or one for each column, or the rows of its covariance, or None
    concentration  of the vMF kernel, or None
    df             degrees of freedom of Student's kernel, or None
    estimator      "loo" or "resubstitution"
    weighted       whether points had weights
    unreached      points that no other reaches, whose density is 0: with one of them the entropy is infinite
    seconds        of the computation, in all of its runs
    """

    value: float
    stderr: float
    N: int
    D: int
    kernel: str
    bandwidth: float | tuple[float, ...] | tuple[tuple[float, ...], ...] | None
    concentration: float | None
    df: float | None
    estimator: str
    weighted: bool
    unreached: int
    seconds: float = field(compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, from the spread over points at this width. It knows nothing of the kernel's bias, nor that the points share their
        neighbours."""
        return self.value - Z * self.stderr, self.value + Z * self.stderr

    def to_dict(self) -> dict[str, Any]:
        """Numbers, words and lists, as JSON takes them: null for a number that is not finite."""
        return plain({**vars(self), "interval": self.interval})

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"entropy: {self.value:.4f} nats, 95 % from {low:.4f} to {high:.4f}\n"
            f"  {self.N:,} points in {self.D} dimensions{', weighted' if self.weighted else ''}; "
            f"{self.kernel} kernel, {self._width()}, {self.estimator}; {self.seconds:.1f} s{self._note()}"
        )

    def _note(self) -> str:
        if not self.unreached:
            return ""
        return f"\n  infinite because no other point reaches {self.unreached:,} of them: a wider kernel would"

    def _width(self) -> str:
        if self.bandwidth is None:
            return f"κ = {self.concentration:g}"
        if not isinstance(self.bandwidth, tuple):
            return f"h = {self.bandwidth:g}"
        widths = [h for h in self.bandwidth if isinstance(h, float)]
        return f"h from {min(widths):g} to {max(widths):g}" if widths else "a covariance"

    __repr__ = __str__
