"""One call that judges a representation: `evaluate`, or `python -m jessl_kernels.evaluate` with files.

judge      the arguments, and the measures one after another
sample     the queries among the rows, and log-sum-exps of their scores for several widths in one sweep
sphere     uniformity and entropies of directions: by a von Mises–Fisher kernel, by nearest neighbours
space      entropy by a Gaussian kernel, and effective rank, of the rows as they are
votes      accuracy of a vote of nearest neighbours
views      alignment, InfoNCE and retrieval of two views
result     measures as a table, as JSON and as a figure (plot)
"""

from .judge import evaluate
from .result import Evaluation, Measure

__all__ = ["Evaluation", "Measure", "evaluate"]
