"""SimCLR, SwAV, BYOL and DINO with and without entropy, at two batch sizes and two paces of the slow network.

python -m experiments.er_table.run --quick     and --full
"""

from __future__ import annotations

from experiments import study

from . import report, trials

STUDY = study.Study("er_table", trials.run, trials.FULL, trials.QUICK, report.draw, report.tables, seeds=3)

if __name__ == "__main__":
    study.main(STUDY)
