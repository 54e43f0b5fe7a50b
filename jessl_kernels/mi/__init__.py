"""Mutual information of pairs: bounds from a batch, the critics that they need, and nearest-neighbour references. In nats.

estimate    a bound on held-out pairs, its critic trained on others; `python -m jessl_kernels.mi` does it with files
bound       a bound by its name, as a number with standard error and cap
Objective   the same as a module, whose loss trains a critic
bounds      each bound as a function of a critic's scores
critics     InnerProduct, Bilinear, Separable, Joint, OfBlocks, or one of your own; Gaussian: the model q(y|x) of CLUB
ksg, knn_entropy   from distances of nearest neighbours, without a critic
"""

from . import bounds, critics
from .conditional import Gaussian, club, log_likelihood
from .critics import Bilinear, Critic, InnerProduct, Joint, OfBlocks, Separable
from .estimate import estimate
from .neighbours import knn_entropy, ksg
from .objectives import Bound, Objective, bound
from .result import Estimate
from .scores import DotScores

__all__ = [
    "Bilinear",
    "Bound",
    "Critic",
    "DotScores",
    "Estimate",
    "Gaussian",
    "InnerProduct",
    "Joint",
    "Objective",
    "OfBlocks",
    "Separable",
    "bound",
    "bounds",
    "club",
    "critics",
    "estimate",
    "knn_entropy",
    "ksg",
    "log_likelihood",
]
