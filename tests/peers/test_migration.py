"""The tables of docs/migration.md: their call and ours give what the page says they give."""

import re
from pathlib import Path

import pytest
import torch

import jessl_kernels as jk
from examples.variants import dclw
from tests.data import clusters_with_labels, normals
from tests.peers import installed, published

PAGE = (Path(__file__).parents[2] / "docs/migration.md").read_text(encoding="utf-8")
METRIC_LEARNING = {
    name: getattr(installed.metric_learning, name) for name in ("NTXentLoss", "SupConLoss", "SelfSupervisedLoss")
}
LIGHTLY = {name: getattr(installed, name) for name in ("NTXentLoss", "DCLLoss", "DCLWLoss")}
NOT_INSTALLED = {name: value for name, value in vars(published).items() if not name.startswith("_")}
NAMES = {
    "open_clip": {"ClipLoss": installed.ClipLoss, "SigLipLoss": installed.SigLipLoss},
    "lightly": LIGHTLY,
    "sentence-transformers": NOT_INSTALLED,
    "pytorch-metric-learning": METRIC_LEARNING,
    "info-nce-pytorch": {"info_nce": installed.info_nce},
    "SupContrast, the reference code": NOT_INSTALLED,
    "solo-learn": NOT_INSTALLED,
    "stable-pretraining": NOT_INSTALLED,
}
N, D = 12, 7


def rows():
    """(library, their call, ours, what to know) of each row that has two calls."""
    for section in PAGE.split("\n## ")[1:]:
        library = section.split("\n")[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            calls = [re.match(r"`([^`]+)`", cell) for cell in cells[:2]]
            if len(cells) == 3 and all(calls):
                yield library, *(call[1] for call in calls), cells[2]


ROWS = list(rows())


def tensors() -> dict[str, torch.Tensor]:
    """The leaves that the page's calls take."""
    unit = torch.nn.functional.normalize
    features, _ = clusters_with_labels(N, D, labels=4, seed=3, dtype=torch.float64)
    leaves = {
        **{name: normals(N, D, seed=seed) for seed, name in enumerate(("z1", "z2", "query", "positive"))},
        "image": unit(normals(N, D, seed=5), dim=1),
        "text": unit(normals(N, D, seed=6), dim=1),
        "views": unit(normals(N, 2, D, seed=7), dim=2),
        "negatives": normals(9, D, seed=8),
        "own_negatives": normals(N, 5, D, seed=9),
        "keys": normals(20, D, seed=10),
        "anchor": normals(N, D, seed=11),
        "negative": normals(N, D, seed=12),
        "features": features,
        "logit_scale": torch.tensor(8.0, dtype=torch.float64),
        "logit_bias": torch.tensor(-3.0, dtype=torch.float64),
    }
    return {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}


def names(library: str, leaves: dict) -> dict:
    """What the calls of one library may use: ours, theirs, and a queue and a memory of the same rows."""
    labels = torch.arange(N) % 4
    embeddings = {"anchors": "anchor", "positives": "positive", "negatives": "negative"}
    columns = {name: {"sentence_embedding": leaves[z]} for name, z in embeddings.items()}
    made = {
        **leaves,
        "labels": labels,
        "pair_labels": torch.arange(N) // 2,
        "key_labels": torch.arange(20) % 5,
        "targets": torch.arange(N).flip(0),
        "queue": jk.nn.Queue(16, D, labels=True, dtype=torch.float64),
    }
    if library == "lightly":
        torch.manual_seed(0)  # the bank is full of random rows
        bank_loss = installed.NTXentLoss(0.1, memory_bank_size=(16, D)).double()
        bank = bank_loss.memory_bank.bank
        bank /= bank.norm(dim=1, keepdim=True)  # its rows are units of fp32
        made["bank_loss"] = bank_loss
        made["queue"].enqueue(bank, torch.zeros(16, dtype=torch.int64))
    if library == "pytorch-metric-learning":
        earlier = normals(16, D, seed=13), torch.arange(16) % 4
        memory_loss = installed.metric_learning.CrossBatchMemory(METRIC_LEARNING["SupConLoss"](0.1), D, memory_size=64)
        memory_loss(*earlier)
        made["memory_loss"] = memory_loss
        made["queue"].enqueue(*earlier)
    if library == "sentence-transformers":
        made |= {"model": lambda column: column, **columns}
    return {"jk": jk, "torch": torch, "dclw": dclw, **made, **NAMES[library]}


def value_and_gradients(library: str, call: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A call on leaves of its own, and the gradient of each of them, 0 where it is not used."""
    leaves = tensors()
    value = eval(call, names(library, leaves))
    return value.detach(), list(torch.autograd.grad(value, list(leaves.values()), materialize_grads=True))


@pytest.mark.parametrize(("library", "theirs", "ours", "note"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_both_calls_of_a_row_give_the_same_value_and_gradients_unless_it_says_otherwise(library, theirs, ours, note):
    value, gradients = value_and_gradients(library, theirs)
    own_value, own_gradients = value_and_gradients(library, ours)
    tolerance = {"rtol": 1e-11, "atol": 1e-13}
    torch.testing.assert_close(own_value, value, **tolerance)
    if note.startswith("The same value"):
        with pytest.raises(AssertionError):
            torch.testing.assert_close(own_gradients, gradients, rtol=1e-3, atol=1e-3)
    else:
        torch.testing.assert_close(own_gradients, gradients, **tolerance)


def test_every_library_of_the_page_has_rows_that_are_compared():
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert headings == list(NAMES)
    assert {row[0] for row in ROWS} == set(NAMES)
    assert len(ROWS) == PAGE.count("\n| `") - PAGE.count("` | – | ")  # – where we have no call
