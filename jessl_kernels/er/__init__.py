"""Entropy and reconstruction (ER): the bound on the information of two views, and the objectives that it orders. In nats.

bound, loss                    of continuous embeddings, by kernel density (SimCLR-ER); reconstruction, its second part
discrete_bound, discrete_loss  of assignments to prototypes; assignment_entropy, its first part
swav, swav_er                  clustering; sinkhorn, the balance of its codes
byol, byol_er, dino, dino_er   distillation; EMATeacher, cosine_schedule and Center, which it needs
ER, SwAV, BYOL, DINO           the same as modules, with what they hold; Prototypes, unit rows that are learnt
"""

from .bound import ERBound, bound, loss, reconstruction
from .clustering import sinkhorn, swav, swav_er
from .discrete import assignment_entropy, discrete_bound, discrete_loss
from .distillation import byol, byol_er, dino, dino_er
from .modules import BYOL, DINO, ER, Prototypes, SwAV
from .teacher import Center, EMATeacher, cosine_schedule

__all__ = [
    "BYOL",
    "DINO",
    "ER",
    "Center",
    "EMATeacher",
    "ERBound",
    "Prototypes",
    "SwAV",
    "assignment_entropy",
    "bound",
    "byol",
    "byol_er",
    "cosine_schedule",
    "dino",
    "dino_er",
    "discrete_bound",
    "discrete_loss",
    "loss",
    "reconstruction",
    "sinkhorn",
    "swav",
    "swav_er",
]
