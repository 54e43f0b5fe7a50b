"""How the report writes a time, a memory and an error."""

from __future__ import annotations

from .rows import Row


def time_text(seconds: float | None) -> str:
    """Three figures with a unit."""
    if seconds is None:
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else "1.00 s"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def seconds_text(row: Row | None) -> str:
    """The median, or why there is none."""
    if row is None:
        return "–"
    return time_text(row.seconds) if row.status == "ok" else row.status


def memory_text(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.peak_mib is None:
        return row.memory_status or "–"
    return f"{row.peak_mib:,.0f} MiB" if row.peak_mib >= 9.95 else f"{row.peak_mib:.1f} MiB"


def error_text(row: Row | None) -> str:
    if row is None or row.value_error is None:
        return "–"
    gradient = "" if row.gradient_error is None else f", {row.gradient_error:.0e}"
    rows = f" at {row.checked_rows:,} rows" if row.checked_rows != row.N else ""
    return f"{row.value_error:.0e}{gradient}{rows}"
