"""The words of a score and of a loss in Triton, each once: φ of a score, ψ of a sum over pairs, and joins of a row's sums.

    s = φ(u) + biases        problem/phi.py
    Σ_j ψ(tilt s_ij)         problem/psi.py
    loss = f(N, P, spread, n)   problem/join.py, which says what each means

Kernels are compiled with the name of a word. The backend declines a name that is not defined here.
"""

from __future__ import annotations

import triton
import triton.language as tl

PHIS = ("identity", "clamp", "laplace", "student", "tophat", "epanechnikov", "linear", "cosine")
PSIS = ("softplus", "log1m_exp", "step")
JOINS = ("none", "softplus", "difference", "sum", "softplus_spread", "softplus_count", "tilt_difference")
WITH_SPREAD = ("softplus_spread",)
CONSTANT = ("none", "difference", "sum")  # joins whose slope by N is 1, whatever N is

LOG2_E = tl.constexpr(1.4426950408889634)
LOG_2 = tl.constexpr(0.6931471805599453)
HALF_PI = tl.constexpr(1.5707963267948966)
HALF_PI_SQUARED = tl.constexpr(2.4674011002723395)
# log(1 + e) / e on [0, 1] with the least relative error, from the highest power down.
LOG_RATIO = tl.constexpr(
    (
        -0.003243904560804367, 0.019850919023156166, -0.05695851147174835, 0.106035515666008, -0.1530553102493286,
        0.1967591792345047, -0.2495412975549698, 0.3332996070384979, -0.4999990165233612, 1.0,
    )
)  # fmt: skip


@triton.jit
def exp(x):
    """Like `tl.exp`, which in fp32 spends three more instructions on subnormal results; here these are 0."""
    if x.dtype == tl.float64:
        e = tl.exp(x)
    else:
        e = tl.exp2(x * LOG2_E)
    return e


@triton.jit
def atanh_ratio(z):
    """2 atanh(z) / z for |z| ≤ 1/3."""
    square = z * z
    ratio = tl.zeros_like(z)
    for k in tl.static_range(1, 17):
        ratio = ratio * square + 1.0 / (2 * (16 - k) + 1)
    return 2.0 * ratio


@triton.jit
def softplus(s):
    """log(1 + e^s), with all digits even if it is tiny: log(1 + e) / e is a polynomial in fp32, to 1 ulp."""
    e = exp(-tl.abs(s))
    if s.dtype == tl.float64:
        ratio = atanh_ratio(e / (2.0 + e)) / (2.0 + e)
    else:
        ratio = tl.zeros_like(s)
        for k in tl.static_range(len(LOG_RATIO)):
            ratio = ratio * e + LOG_RATIO[k]
    return tl.where(s > 0, s, tl.zeros_like(s)) + e * ratio


@triton.jit
def sigmoid(s):
    e = exp(-tl.abs(s))
    return tl.where(s >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def one_minus_exp(s):
    """1 − e^s for s < 0. Near 0 a power series keeps its digits: −s (1 + s/2 (1 + s/3 (…)))."""
    series = tl.zeros_like(s)
    for k in tl.static_range(1, 18):
        series = 1.0 + s * (1.0 / (19 - k)) * series
    return tl.where(s > -LOG_2, -s * series, 1.0 - exp(s))


@triton.jit
def log1p(x):
    """log(1 + x), x > −1, with all digits even if x is tiny: the part of x that 1 + x rounds away is added."""
    y = 1.0 + x
    return tl.where(x < float("inf"), tl.log(y) + (x - (y - 1.0)) / y, x)


@triton.jit
def sine_ratio(t):
    """sin(π√t/2)/√t for 0 ≤ t ≤ 1, by its Taylor series: (π/2) Π (1 − (π/2)² t / ((2k)(2k + 1)) (…))."""
    ratio = tl.zeros_like(t) + 1.0
    for k in tl.static_range(12):
        ratio = 1.0 - t * (HALF_PI_SQUARED / ((24 - 2 * k) * (25 - 2 * k))) * ratio
    return HALF_PI * ratio


@triton.jit
def radius(u):
    """√(−u); rounding may leave u a little above 0."""
    return tl.sqrt(tl.where(u > 0, tl.zeros_like(u), -u))


@triton.jit
def cosine(u):
    """cos(πr/2), r = √(−u), as the sine of the rest 1 − r = (1 + u)/(1 + r), which does not cancel near r = 1."""
    rest = (1.0 + u) / (1.0 + radius(u))
    return rest * sine_ratio(rest * rest)


@triton.jit
def inside(u, value, beyond: tl.constexpr):
    """value for u > −1, `beyond` for u ≤ −1; a NaN stays one."""
    return tl.where(u > -1.0, value, tl.where(u != u, u, tl.full([], beyond, u.dtype)))


@triton.jit
def phi_of(u, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    if PHI == "clamp":
        low, high = tl.full([], LOW, u.dtype), tl.full([], HIGH, u.dtype)
        u = tl.where(u < low, low, tl.where(u > high, high, u))  # a NaN stays one
    if PHI == "laplace":
        u = -tl.sqrt(-u)
    if PHI == "student":  # −c log(1 − u/c)
        power = tl.full([], LOW, u.dtype)
        u = -power * log1p(-u / power)
    if PHI == "tophat":
        u = inside(u, tl.zeros_like(u), float("-inf"))
    if PHI == "epanechnikov":  # log(1 − r²)
        u = inside(u, log1p(u), float("-inf"))
    if PHI == "linear":  # log(1 − r)
        u = inside(u, log1p(u) - log1p(radius(u)), float("-inf"))
    if PHI == "cosine":
        u = inside(u, tl.log(cosine(u)), float("-inf"))
    return u


@triton.jit
def phi_slope(u, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    """φ'(u) of a φ that is not the identity."""
    if PHI == "clamp":
        low, high = tl.full([], LOW, u.dtype), tl.full([], HIGH, u.dtype)
        slope = tl.where(u != u, u, tl.where((u >= low) & (u <= high), 1.0, 0.0).to(u.dtype))
    elif PHI == "laplace":  # φ(u) = −√(−u); 0 is a subgradient where two points meet
        root = tl.sqrt(-u)
        slope = tl.where(root == 0, tl.zeros_like(root), 0.5 / root)
    elif PHI == "student":
        power = tl.full([], LOW, u.dtype)
        slope = power / (power - u)
    elif PHI == "tophat":
        slope = inside(u, tl.zeros_like(u), 0.0)
    elif PHI == "epanechnikov":
        slope = inside(u, 1.0 / (1.0 + u), 0.0)
    elif PHI == "linear":  # 0 is a subgradient here too
        r = radius(u)
        slope = inside(u, tl.where(r == 0, tl.zeros_like(u), (1.0 + r) / (2.0 * r * (1.0 + u))), 0.0)
    else:  # cosine
        slope = inside(u, 0.5 * HALF_PI * sine_ratio(-u) / cosine(u), 0.0)
    return slope


@triton.jit
def tilted(s, TILT: tl.constexpr):
    if TILT != 1.0:
        s = s * TILT
    return s


@triton.jit
def psi_of(s, PSI: tl.constexpr, TILT: tl.constexpr):
    """ψ(tilt s); 0 for an excluded pair."""
    u = tilted(s, TILT)
    if PSI == "softplus":
        value = softplus(u)
    elif PSI == "log1m_exp":
        e = exp(u)
        near, far = tl.log(one_minus_exp(u)), -e * atanh_ratio(e / (2.0 - e)) / (2.0 - e)
        value = tl.where(u > -LOG_2, near, far)
    else:  # step
        value = tl.where(u != u, u, tl.where(u > 0, 1.0, 0.0).to(u.dtype))
    if PSI != "softplus" or TILT < 0:  # softplus(−∞) is 0 by itself
        value = tl.where(s == float("-inf"), 0.0, value)
    return value


@triton.jit
def psi_slope(s, PSI: tl.constexpr, TILT: tl.constexpr):
    """ψ'(tilt s); 0 for an excluded pair."""
    u = tilted(s, TILT)
    if PSI == "softplus":
        slope = sigmoid(u)
    elif PSI == "log1m_exp":
        slope = -exp(u) / one_minus_exp(u)
    else:
        slope = tl.zeros_like(u)
    if TILT < 0:  # else it is 0 by itself
        slope = tl.where(s == float("-inf"), 0.0, slope)
    return slope


@triton.jit
def join_value(N, P, spread, n, JOIN: tl.constexpr):
    """f of the sums of rows; N has one for each tilt."""
    if JOIN == "none":
        value = N[0]
    elif JOIN == "difference":
        value = N[0] - P
    elif JOIN == "sum":
        value = N[0] + P
    elif JOIN == "tilt_difference":
        value = N[0] - N[1] - P
    else:
        value = softplus(N[0] - P)
        if JOIN == "softplus_spread":
            value += spread
        if JOIN == "softplus_count":
            value += tl.log(n)
    return value


@triton.jit
def join_slopes(N, P, spread, n, JOIN: tl.constexpr):
    """The derivatives of f by each N, by P and by the spread."""
    none = tl.zeros_like(N[0])
    one = none + 1.0
    of_spread = none
    if JOIN == "none":
        of_n, of_p = (one,), none
    elif JOIN == "difference":
        of_n, of_p = (one,), -one
    elif JOIN == "sum":
        of_n, of_p = (one,), one
    elif JOIN == "tilt_difference":
        of_n, of_p = (one, -one), -one
    else:
        slope = sigmoid(N[0] - P)
        of_n, of_p = (slope,), -slope
        if JOIN == "softplus_spread":
            of_spread = one
    return of_n, of_p, of_spread
