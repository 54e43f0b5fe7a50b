#!/usr/bin/env bash
# lightly 1.6.0: the memory bank of MoCo and of NTXentLoss, in batches that do not divide its size; beside it the queue of
# pytorch_metric_learning 2.9.0 (CrossBatchMemory) on the same batches. torch 2.13.0.
#
# Guess: a bank is first in, first out: a batch that reaches its end goes on at its beginning, as the other library's does.
# Seen: what does not fit behind the pointer is thrown away, and the pointer goes to the beginning. With 10 places and batches of 4
# the third batch loses its keys 11 and 12, the oldest stay a turn longer, and each turn loses the same again. One last batch of
# an epoch that is shorter (drop_last=False) is enough to move the pointer for good.
# What helps: a size that every batch divides, and drop_last=True.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -qq torch==2.13.0 numpy scikit-learn tqdm
"$folder/venv/bin/pip" --disable-pip-version-check install -qq --no-deps lightly==1.6.0 pytorch_metric_learning==2.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib
import importlib.util
import sys
from types import ModuleType

import torch

# The bank's own file, unchanged; of the packages around it, which ask for torchvision, no code is run.
ops = ModuleType("torchvision.ops")
ops.StochasticDepth = torch.nn.Identity
sys.modules.update({"torchvision": ModuleType("torchvision"), "torchvision.ops": ops})
for package in ("lightly", "lightly.models", "lightly.models.modules"):
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))
bank = importlib.import_module("lightly.models.modules.memory_bank").MemoryBankModule(size=(10, 1))

from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory

queue = CrossBatchMemory(ContrastiveLoss(), 1, memory_size=10)
for first in (1, 5, 9):
    keys = torch.arange(first, first + 4.0)[:, None]
    bank(keys, update=True)
    queue(keys, torch.arange(first, first + 4))
    print("after", keys.flatten().tolist(), "lightly", bank.bank.flatten().tolist()[: first + 3], int(bank.bank_ptr), end=" ")
    print("pytorch_metric_learning", queue.embedding_memory.flatten().tolist(), queue.queue_idx)

assert bank.bank.flatten().tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] and int(bank.bank_ptr) == 0
assert queue.embedding_memory.flatten().tolist() == [11, 12, 3, 4, 5, 6, 7, 8, 9, 10] and queue.queue_idx == 2
PYTHON
