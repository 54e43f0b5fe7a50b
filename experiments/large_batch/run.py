"""What a larger batch buys: InfoNCE's cap, an encoder's accuracy and information, and what the loss costs.

python -m experiments.large_batch.run --quick     and --full; --matrix-form: trainings by the matrix form, where it fits
"""

from __future__ import annotations

from typing import Any

from experiments import study
from experiments.trials import Settings

from . import report, trials


class LargeBatch(study.Study):
    """Of the trials of a run in matrix form, those that have one."""

    def trials(self, full: bool, seeds: int, **more: Any) -> list[Settings]:
        """As those of any study."""
        every = super().trials(full, seeds, **more)
        return [s for s in every if trials.has_matrix_form(s)] if more.get("matrix_form") else every


STUDY = LargeBatch(
    "large_batch", trials.run, trials.full(), trials.quick(), report.draw, report.tables, seeds=3, matrix_form=True
)

if __name__ == "__main__":
    study.main(STUDY)
