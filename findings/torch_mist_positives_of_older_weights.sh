#!/usr/bin/env bash
# torch-mist 0.2.17: a bound of a batch, read before and after a step of training on the same batch. torch 2.13.0,
# numpy 1.26.4, and pandas, which it imports and does not ask for.
#
# Guess: after the step the estimator gives what a new estimator with the same critic gives.
# Seen: the scores of positives are kept by their inputs, and neither a backward through the loss nor a step of the optimizer drops
# them. Those of the negatives are made anew, so that the value mixes two states of the critic and is a bound of neither. Here it
# ends above the largest value that InfoNCE can have. Another batch in between makes the value right.
# What helps: evaluate with a new estimator around the critic, or on another batch than the last one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -qq torch==2.13.0 numpy==1.26.4 pandas==2.2.3 torch-mist==0.2.17
"$folder/venv/bin/python" - <<'PYTHON'
import math

import torch
from torch_mist.critic import SeparableCritic
from torch_mist.estimators import InfoNCE

torch.manual_seed(0)
x = torch.randn(64, 3)
y = x + 0.1 * torch.randn(64, 3)
f = torch.nn.Linear(3, 3, bias=False)
f.weight.data.copy_(5 * torch.eye(3))
estimator = InfoNCE(critic=SeparableCritic(f_x=f))
optimizer = torch.optim.SGD(f.parameters(), lr=0.1, weight_decay=9.0)  # a step that makes the weights small


def value(of):
    with torch.no_grad():
        return float(of.mutual_information(x, y))


before = value(InfoNCE(critic=SeparableCritic(f_x=f)))
estimator.loss(x, y).mean().backward()
optimizer.step()
after, fresh = value(estimator), value(InfoNCE(critic=SeparableCritic(f_x=f)))
print(f"before the step {before:.3f}; after it {after:.3f}, and {fresh:.3f} by a new estimator; log 64 is {math.log(64):.3f}")
with torch.no_grad():
    estimator.mutual_information(x.flip(0), y.flip(0))
print(f"after another batch {value(estimator):.3f}")

assert after > math.log(64) > before and abs(value(estimator) - fresh) < 1e-4 < abs(after - fresh)
PYTHON
