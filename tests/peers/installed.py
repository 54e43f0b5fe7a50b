"""The peers' loss modules, imported without the packages around them.

`import open_clip` and `import lightly.loss` run package files that import torchvision, timm, transformers and more, whose
compiled operators must match the installed torch; the losses themselves need only torch. So each package on the way to a
loss module is entered into `sys.modules` as a bare package with the real path, and none of its code runs. The tested file is
the installed one, unchanged. An absent peer is an ImportError here: these suites do not skip.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch


def _loss_module(name: str, *bare_packages: str) -> ModuleType:
    for package in bare_packages:
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None:
                raise ImportError(f"{package} is not installed: pip install --no-deps -r tests/requirements-peers.txt")
            sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module(name)


@contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """lightly.models.utils, which the memory bank of NTXentLoss imports, takes one layer from torchvision.ops."""
    if "torchvision" in sys.modules:
        yield
        return
    ops = ModuleType("torchvision.ops")
    ops.StochasticDepth = torch.nn.Identity  # never called
    stand_ins = {"torchvision": ModuleType("torchvision"), "torchvision.ops": ops}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


_open_clip = _loss_module("open_clip.loss", "open_clip")
ClipLoss, SigLipLoss = _open_clip.ClipLoss, _open_clip.SigLipLoss

_LIGHTLY = ("lightly", "lightly.loss", "lightly.models", "lightly.models.modules")
with _stand_in_for_torchvision():
    NTXentLoss = _loss_module("lightly.loss.ntx_ent_loss", *_LIGHTLY).NTXentLoss
    _dcl = _loss_module("lightly.loss.dcl_loss", *_LIGHTLY)
    SwaVLoss = _loss_module("lightly.loss.swav_loss", *_LIGHTLY).SwaVLoss
    DINOLoss = _loss_module("lightly.loss.dino_loss", *_LIGHTLY).DINOLoss
DCLLoss, DCLWLoss = _dcl.DCLLoss, _dcl.DCLWLoss

# These two import only torch (and tqdm, scikit-learn).
from info_nce import info_nce  # noqa: E402
from pytorch_metric_learning import losses as metric_learning  # noqa: E402

__all__ = [
    "ClipLoss",
    "DCLLoss",
    "DCLWLoss",
    "DINOLoss",
    "NTXentLoss",
    "SigLipLoss",
    "SwaVLoss",
    "info_nce",
    "metric_learning",
]
