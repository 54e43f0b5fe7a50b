#!/usr/bin/env bash
# torch-kde 0.1.5: points drawn from a Gaussian kernel density, beside its own density and scikit-learn 1.7.2's points. torch 2.13.0.
#
# Guess: the draws of a density of one point at 0 with bandwidth h deviate by h, as its density says.
# Seen: they deviate by h²: 0.25 for h = 0.5, and 4 for h = 2. Its density at 0 is that of h, 1/(h √2π), so the two disagree, and a
# sample looks right only near h = 1. scikit-learn's sample deviates by h.
# What helps: draw points of the data and add h times normal noise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -qq torch==2.13.0 torch-kde==0.1.5 scikit-learn==1.7.2
"$folder/venv/bin/python" - <<'PYTHON'
import math

import sklearn.neighbors
import torch
import torchkde

torch.manual_seed(0)
point = torch.zeros(1, 1)
for h in (0.5, 2.0):
    theirs = torchkde.KernelDensity(bandwidth=h, kernel="gaussian").fit(point)
    deviation = float(theirs.sample(20_000).std())
    density = float(theirs.score_samples(point).exp())
    usual = sklearn.neighbors.KernelDensity(bandwidth=h).fit(point.numpy()).sample(20_000, random_state=0).std()
    print(f"h = {h}: draws deviate by {deviation:.3f}, scikit-learn's by {usual:.3f}; density at 0 {density:.4f}")
    assert abs(density * h * math.sqrt(2 * math.pi) - 1) < 1e-4
    assert abs(deviation / h**2 - 1) < 0.03 and abs(usual / h - 1) < 0.03
PYTHON
