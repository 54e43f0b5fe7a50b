"""The bounds beside those of torch-mist and benchmark-mi: of the same scores, and trained on tasks with known information.

python -m experiments.information.against_others formulas                      # fails where two that should be equal are not
python -m experiments.information.against_others tasks --estimators KSG NWJ    # lines of runs/information/tasks.jsonl
python -m experiments.information.against_others table                         # of those lines, into docs/information/tasks.csv

README.md says which packages they need. `tasks` goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from jessl_kernels import mi

from .tasks import TASKS, Task

LINES, OUT = Path("runs/information/tasks.jsonl"), Path("docs/information/tasks.csv")
N, D, TAU, ALPHA = 64, 5, 1.5, 0.3
STEPS, RATE = 600, 2e-3  # of our training
TOLERANCE = 1e-5  # of fp32 sums of a few thousand scores


class Linear(nn.Module):
    """z → (N, 1) as a baseline of torch-mist wants it, or (N,)."""

    def __init__(self, keep: bool):
        super().__init__()
        self.keep = keep

    def forward(self, z: Tensor) -> Tensor:
        return 0.3 * z[..., :1] if self.keep else 0.3 * z[:, 0]


class Pairwise(nn.Module):
    """u of a pair, for FLO; minus it is torch-mist's normalized critic."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.2 * x[..., 0] - 0.1 * y[..., 0]


class Minus(nn.Module):
    """−f, of a critic on any shape of pairs."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.f(x, y)


def formulas() -> list[tuple[str, float, float, bool]]:
    """(what is compared, ours, theirs, whether they should be equal), of one batch of 64 pairs and the critic ⟨x, y⟩."""
    import jax.numpy as jnp
    from bmi.estimators import KSGEnsembleFirstEstimator
    from bmi.estimators.neural import _backend_linear_memory as bmi
    from torch_mist.baseline import LearnableBaseline
    from torch_mist.critic import SeparableCritic
    from torch_mist.estimators import discriminative as mist

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    y = 0.7 * x + 0.7 * torch.randn(N, D, generator=generator)
    critic, dot = SeparableCritic(), mi.InnerProduct()

    def ours(name, a=x, b=y, **options):
        return mi.bound(name, a, b, dot, **options).value

    def theirs(estimator):
        return estimator.mutual_information(x, y).item()

    baseline, own = LearnableBaseline(Linear(keep=True)), Linear(keep=False)
    others = {"neg_samples": -1}
    mine = mi.Objective("mine", dot)
    flo = mist.FLO(critic, Minus(Pairwise()), **others)
    mist_js = mist.JS(critic, **others).loss(x, y).item()
    alpha_tuba = mist.AlphaTUBA(critic, baseline, alpha=ALPHA, **others)
    found = [
        ("mist InfoNCE", ours("info_nce"), theirs(mist.InfoNCE(critic)), True),
        ("mist NWJ, all others", ours("nwj"), theirs(mist.NWJ(critic, **others)), True),
        ("mist NWJ by default: one negative a row", ours("nwj"), theirs(mist.NWJ(critic)), False),
        ("mist NWJ, neg_samples=0", ours("nwj", negatives="all"), theirs(mist.NWJ(critic, neg_samples=0)), True),
        # Its baseline is of x, ours of y.
        (
            "mist TUBA, x and y swapped",
            ours("tuba", y, x, baseline=own),
            theirs(mist.TUBA(critic, baseline, **others)),
            True,
        ),
        ("mist JS, its value", ours("js"), theirs(mist.JS(critic, **others)), True),
        # Of a separable critic its loss counts the positives as negatives, whatever neg_samples says.
        ("mist JS, its loss", mi.Objective("js", dot)(x, y).item(), mist_js, False),
        ("mist JS, its loss, all pairs", mi.Objective("js", dot, negatives="all")(x, y).item(), mist_js, True),
        ("mist SMILE", ours("smile", tau=TAU), theirs(mist.SMILE(critic, tau=TAU, **others)), True),
        ("mist MINE, its value", ours("mine"), theirs(mist.MINE(critic, **others)), True),
        ("mist MINE, its first loss", mine(x, y).item(), mist.MINE(critic, **others).loss(x, y).item(), True),
        ("mist FLO, its loss", -ours("flo", u=Pairwise()), flo.loss(x, y).item(), True),
        ("mist FLO, its value", ours("flo", u=Pairwise()), theirs(flo), False),
        ("mist AlphaTUBA", ours("interpolated", baseline=own, alpha=ALPHA), theirs(alpha_tuba), False),
    ]
    x_, y_ = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    for name, formula in (("info_nce", bmi.infonce), ("dv", bmi.donsker_varadhan), ("nwj", bmi.nwj)):
        found.append((f"bmi {name}", ours(name), float(formula(jnp.dot, x_, y_)), True))
    for task in TASKS[::5]:
        x, y = task.sample(1000, seed=0)
        known = KSGEnsembleFirstEstimator(neighborhoods=(5,), metric_x="chebyshev").estimate(x.numpy(), y.numpy())
        found.append((f"bmi KSG, {task.name}", ksg(x, y), float(known), True))
    return found


def compare() -> None:
    """Prints the comparison, and fails if formulas differ that should not."""
    wrong = 0
    for what, ours, theirs, equal in formulas():
        same = abs(ours - theirs) <= TOLERANCE * max(1.0, abs(ours))
        wrong += same != equal
        print(f"{what:42} ours {ours:9.5f}   theirs {theirs:9.5f}   {'equal' if same else 'different'}")
    if wrong:
        sys.exit(f"{wrong} are not as expected")


def standardised(z: Tensor) -> Tensor:
    """Each column less its mean, by its deviation, as bmi has it."""
    return (z - z.mean(dim=0)) / z.std(dim=0)


def by_bound(name: str, hidden: tuple[int, ...] | None = None) -> Callable[[Tensor, Tensor], float]:
    """The estimator with its separable critic, or with a joint one of these layers."""

    def run(x: Tensor, y: Tensor) -> float:
        critic = mi.Joint(x.shape[1], y.shape[1], hidden=hidden) if hidden else None
        found = mi.estimate(x, y, name, critic, max_steps=STEPS, learning_rate=RATE, progress=False)  # pyright: ignore
        return found.value

    return run


def ksg(x: Tensor, y: Tensor) -> float:
    """Ours, of five neighbours."""
    return float(mi.ksg(standardised(x), standardised(y), k=5))


def of_bmi(name: str) -> Callable[[Tensor, Tensor], float]:
    """An estimator of bmi as it is by default."""

    def run(x: Tensor, y: Tensor) -> float:
        import bmi

        return float(getattr(bmi.estimators, name)(verbose=False).estimate(x.numpy(), y.numpy()))

    return run


OURS = {
    "KSG": ksg,
    "InfoNCE": by_bound("info_nce"),
    "NWJ": by_bound("nwj"),
    "SMILE": by_bound("smile"),
    "InfoNCE, joint critic": by_bound("info_nce", (16, 8)),  # the layers of bmi's
}
THEIRS = {
    "bmi InfoNCE": of_bmi("InfoNCEEstimator"),
    "bmi NWJ": of_bmi("NWJEstimator"),
    "bmi DV": of_bmi("DonskerVaradhanEstimator"),
    "bmi MINE": of_bmi("MINEEstimator"),
}


def run(tasks: list[Task], estimators: dict[str, Callable[[Tensor, Tensor], float]], pairs: int) -> None:
    """A line for each task and estimator that has none yet."""
    LINES.parent.mkdir(parents=True, exist_ok=True)
    known = {(line["task"], line["estimator"], line["pairs"]) for line in lines()}
    for task in tasks:
        x, y = task.sample(pairs, seed=0)
        for name, estimator in estimators.items():
            if (task.name, name, pairs) in known:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            value = estimator(x, y)
            took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            line = {
                "task": task.name,
                "information": task.information,
                "pairs": pairs,
                "estimator": name,
                "value": value,
            }
            with LINES.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **took}) + "\n")
            print(
                f"{task.name:44} {task.information:6.3f}   {name:24} {value:7.3f}   {took['cpu_seconds']:6.1f} s",
                flush=True,
            )


def lines() -> list[dict]:
    """What has been measured so far."""
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()] if LINES.exists() else []


def table() -> None:
    """Tasks down, estimators across, and the CPU seconds of each in the last row."""
    known = lines()
    estimators = [name for name in (*OURS, *THEIRS) if any(line["estimator"] == name for line in known)]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "pairs", "information", *estimators])
        for task in TASKS:
            of_task = {line["estimator"]: line for line in known if line["task"] == task.name}
            if of_task:
                values = [f"{of_task[name]['value']:.3f}" if name in of_task else "" for name in estimators]
                pairs = next(iter(of_task.values()))["pairs"]
                writer.writerow([task.name, pairs, f"{task.information:.3f}", *values])
        seconds = [[line["cpu_seconds"] for line in known if line["estimator"] == name] for name in estimators]
        writer.writerow(["CPU seconds, mean", "", "", *(f"{sum(s) / len(s):.1f}" for s in seconds)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("formulas", "tasks", "table"))
    parser.add_argument("--estimators", nargs="*", choices=[*OURS, *THEIRS], default=list(OURS), metavar="NAME")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--tasks", nargs="*", help="names; all unless given")
    options = parser.parse_args()
    if options.what == "formulas":
        return compare()
    if options.what == "table":
        return table()
    chosen = [task for task in TASKS if options.tasks is None or task.name in options.tasks]
    run(chosen, {name: {**OURS, **THEIRS}[name] for name in options.estimators}, options.pairs)


if __name__ == "__main__":
    main()
