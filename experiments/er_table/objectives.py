"""The eight objectives, SimCLR, SwAV, BYOL and DINO with and without entropy, by the modules of `jk.er`, on one network."""

from __future__ import annotations

from torch import Tensor, nn

import jessl_kernels as jk
from experiments.halves import Encoder

DIM, PROTOTYPES, HIDDEN = 128, 256, 256
KAPPA = 10.0  # of the densities, and 1/temperature of SimCLR: the paper's
FAMILIES = ("simclr", "swav", "byol", "dino")
NAMES = tuple(family + form for family in FAMILIES for form in ("", "_er"))
SLOW = ("byol", "dino")  # the families with a slow network
TARGETS = {"swav": 0.05, "dino": 0.04}  # temperatures of the assignments that are targets


class Network(nn.Module):
    """An encoder and a predictor for each half, and prototypes: what a slow network is a copy of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([Encoder(DIM, nn.BatchNorm1d) for _ in range(2)])
        self.predictors = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(DIM, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
                for _ in range(2)
            ]
        )
        self.prototypes = jk.er.Prototypes(PROTOTYPES, DIM)

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        """Two views (n, 392) → their embeddings (n, 128)."""
        return [encoder(view) for encoder, view in zip(self.encoders, views, strict=True)]

    def predict(self, z: list[Tensor]) -> list[Tensor]:
        """Embeddings → predictions of the other view's embedding."""
        return [predictor(one) for predictor, one in zip(self.predictors, z, strict=True)]


class Objective(nn.Module):
    """Two views → loss, by the objective of this name.

    name      one of NAMES, or "dino_uncentred", DINO without what keeps it from collapse
    momentum  of the slow network, constant
    """

    def __init__(self, name: str, momentum: float) -> None:
        super().__init__()
        self.family, _, form = name.partition("_")
        er = form == "er"
        self.network = Network()
        self.slow = jk.er.EMATeacher(self.network, momentum) if self.family in SLOW else None
        self.loss: nn.Module
        if self.family == "simclr":
            self.loss = jk.er.ER(KAPPA) if er else jk.nn.NTXent(temperature=1 / KAPPA)
        elif self.family == "swav":
            self.loss = jk.er.SwAV(PROTOTYPES, DIM, er=er)
            self.network.prototypes = self.loss.prototypes
        elif self.family == "byol":
            self.loss = jk.er.BYOL(KAPPA if er else None)
        else:
            # A centre of momentum 1 stays at 0, where it starts.
            self.loss = jk.er.DINO(PROTOTYPES, er=er, momentum=1.0 if form == "uncentred" else 0.9)
        self.er = er

    def forward(self, views: list[Tensor]) -> Tensor:
        """Two views (n, 392) → loss."""
        z = self.network(views)
        if self.family == "simclr":
            return self.loss(*z)
        if self.family == "swav":
            return self.loss(z)
        slow = self.targets(views)
        if self.family == "byol":
            return self.loss(self.network.predict(z), slow, z if self.er else None)
        return self.loss(z, slow, self.network.prototypes(), self.slow_network.prototypes())

    @property
    def slow_network(self) -> Network:
        """The slow copy."""
        assert self.slow is not None and isinstance(self.slow.network, Network)
        return self.slow.network

    def targets(self, views: list[Tensor]) -> list[Tensor]:
        """The slow network's embeddings."""
        assert self.slow is not None
        return self.slow(views)

    def after_step(self) -> None:
        """The slow network, where there is one, moves on."""
        if self.slow is not None:
            self.slow.update(self.network)
