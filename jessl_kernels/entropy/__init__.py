"""The entropy of a whole data set by kernel-density estimation, block by block. In nats.

entropy_of  an array, a memory-mapped file or a loader in, the entropy with its standard error out;
            `python -m jessl_kernels.entropy` does it with files
Entropy     its result

rows        rows of the data, read a block at a time; one pass that checks and measures them
sweep       the log-sum-exp of each row over all others, by pairs of blocks
state       a file from which an interrupted sweep goes on
"""

from .result import Entropy
from .whole import entropy_of

__all__ = ["Entropy", "entropy_of"]
