"""Results as JSON takes them, and the width of their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Z = 1.96  # a normal variable lies within so many deviations with a probability of 95 %


def plain(value: Any) -> Any:
    """Numbers, words, lists and mappings; None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {name: plain(of_name) for name, of_name in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and value - value != 0 else value
