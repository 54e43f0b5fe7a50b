"""Train an encoder on two views of MNIST digits, with a batch whose N×N form takes 4 GiB.

The top and the bottom half of a digit are its two views. A contrastive loss asks which of N bottom halves belongs to
a top half, and the reverse. Only the digit and the handwriting, which the two halves share, help to answer, so the
encoders learn the digits without ever seeing a label. More candidates make the question harder: with K of them the
bound log K − loss on the mutual information of the views cannot pass log K. So the batch is large.

    python examples/train_two_views.py                    the full run: some minutes on two cores, results in runs/
    python examples/train_two_views.py --loss nt_xent     another loss (siglip needs --lr 1e-3); --help lists every option
    Ctrl-C, and the same command again                    continues where it stopped, to the same result

To make this your own, replace `Encoder`, the batch in `train` and perhaps an entry in `LOSSES`. The lines that matter
are the call of `jk.cached_backward`. Beside this file, mnist_halves.py reads the data, and report.py probes, tabulates and
draws. `make report` measures the loss against its matrix form.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import mnist_halves
import report
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor, nn

import jessl_kernels as jk

# (z1, z2, scale, bias) → loss. `scale` is the multiplier of the cosine, 1/temperature; only SigLIP has a bias.
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "info_nce": lambda z1, z2, scale, bias: jk.info_nce(z1, z2, temperature=1 / scale, symmetric=True),
    "clip": lambda z1, z2, scale, bias: jk.clip_loss(z1, z2, scale, normalize=True),
    "nt_xent": lambda z1, z2, scale, bias: jk.nt_xent(z1, z2, temperature=1 / scale),
    "dcl": lambda z1, z2, scale, bias: jk.dcl(z1, z2, temperature=1 / scale),
    "siglip": lambda z1, z2, scale, bias: jk.siglip_loss(z1, z2, scale, bias, normalize=True),
}

WARMUP_STEPS = 5
SAVE_EVERY = 5  # steps between checkpoints, the most that a power cut can cost
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


class UserError(Exception):
    """An error that the user can correct; printed without a traceback."""


@dataclass(frozen=True)
class Settings:
    """The settings that determine the result of a run; a checkpoint is continued only with equal ones."""

    loss: str
    batch_size: int
    steps: int
    backend: str | None
    dim: int
    temperature: float
    lr: float
    chunk_size: int
    seed: int


class Encoder(nn.Module):
    """Half a digit (n, 392) → features (n, 256) for the probe → embedding (n, dim) for the loss.

    Layer norm, not batch norm: the batch is encoded in chunks, and a chunk must not change the embedding of a row.
    """

    def __init__(self, dim: int, width: int = 512, features: int = 256) -> None:
        super().__init__()
        pixels = mnist_halves.ROWS * mnist_halves.COLUMNS
        self.features = nn.Sequential(
            nn.Linear(pixels, width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, features), nn.LayerNorm(features), nn.GELU(),
        )  # fmt: skip
        self.head = nn.Linear(features, dim)

    def forward(self, view: Tensor) -> Tensor:
        return self.head(self.features(view))


class TwoViews(nn.Module):
    """An encoder for each half, and the learnable scale (and bias) of their scores."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.loss = LOSSES[settings.loss]
        self.top, self.bottom = Encoder(settings.dim), Encoder(settings.dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))
        # N² − N pairs do not match and N do: starting at −log N keeps the first sum from being all negatives
        self.bias = nn.Parameter(torch.tensor(-math.log(settings.batch_size)))

    def objective(self, z1: Tensor, z2: Tensor) -> Tensor:
        return self.loss(z1, z2, self.log_scale.exp(), self.bias)

    @property
    def temperature(self) -> float:
        return self.log_scale.detach().neg().exp().item()


def shifted(view: Tensor, reach: int = 1) -> Tensor:
    """Each half digit (n, 392) moved at random by up to `reach` pixels each way, so that its position gives nothing away."""
    rows, columns = mnist_halves.ROWS, mnist_halves.COLUMNS
    padded = F.pad(view.view(-1, rows, columns), (reach,) * 4)
    moves = torch.randint((2 * reach + 1) ** 2, (len(view),))
    out = torch.empty(len(view), rows, columns)
    for move in range((2 * reach + 1) ** 2):
        down, right = divmod(move, 2 * reach + 1)
        chosen = (moves == move).nonzero().squeeze(1)
        out[chosen] = padded[chosen, down : down + rows, right : right + columns]
    return out.view(len(view), -1)


def batch_indices(step: int, items: int, settings: Settings) -> Tensor:
    """Indices (batch_size,) of one step, from seed and step alone: a resumed run sees the same order."""
    epoch, place = divmod(step, items // settings.batch_size)
    order = torch.randperm(items, generator=torch.Generator().manual_seed(settings.seed * 100_003 + epoch))
    return order[place * settings.batch_size : (place + 1) * settings.batch_size]


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    progress = max(0, step - WARMUP_STEPS) / max(1, settings.steps - WARMUP_STEPS)
    return settings.lr * min((step + 1) / WARMUP_STEPS, 0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


class Run:
    """Model, optimizer, step and history; a checkpoint holds these and the state of the random generator."""

    def __init__(self, settings: Settings, path: Path) -> None:
        self.settings, self.path = settings, path
        torch.manual_seed(settings.seed)
        self.model = TwoViews(settings)
        # The scale is one number that must change a lot in a few steps; weight decay would pull it to 1.
        scalars = [self.model.log_scale, self.model.bias]
        weights = [*self.model.top.parameters(), *self.model.bottom.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": weights, "rate": 1.0}, {"params": scalars, "rate": 5.0, "weight_decay": 0.0}],
            lr=settings.lr, weight_decay=1e-4,
        )  # fmt: skip
        self.step, self.peak_mib = 0, 0.0
        self.history: list[dict[str, float]] = []

    def save(self) -> None:
        """Write beside the old checkpoint, then replace it: a crash while writing leaves the old one whole."""
        self.peak_mib = max(self.peak_mib, report.peak_memory_mib())
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "peak_mib": self.peak_mib,
            "history": self.history,
            "rng": torch.get_rng_state(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, self.path)

    def restore(self) -> None:
        try:
            state = torch.load(self.path, weights_only=True)
            theirs, ours = state["settings"], asdict(self.settings)
        except Exception as error:  # torch.load raises all kinds of errors for a damaged file
            kind = type(error).__name__
            raise UserError(f"{self.path} cannot be read as a checkpoint ({kind}); --no-resume starts anew") from error
        if theirs != ours:
            differing = ", ".join(
                f"{key} {theirs.get(key)}, now {ours[key]}" for key in ours if theirs.get(key) != ours[key]
            )
            raise UserError(
                f"{self.path} was made with other settings ({differing}): "
                "give --out another folder, or --no-resume to start anew in this one"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self.path} holds another model than this one; --no-resume starts anew") from error
        self.step, self.peak_mib, self.history = state["step"], state["peak_mib"], state["history"]
        torch.set_rng_state(state["rng"])


def train(run: Run, images: Tensor, stop: Callable[[], bool]) -> None:
    """Train to the last step, or until `stop` returns True; a checkpoint is saved in both cases."""
    settings, model = run.settings, run.model
    with progress_bar(run) as show:
        while run.step < settings.steps and not stop():
            start = time.perf_counter()
            top, bottom = mnist_halves.views(images[batch_indices(run.step, len(images), settings)])
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate(run.step, settings) * group["rate"]

            run.optimizer.zero_grad()
            loss = jk.cached_backward(
                model.objective,
                (model.top, shifted(top)),
                (model.bottom, shifted(bottom)),
                chunk_size=settings.chunk_size,
            )
            run.optimizer.step()

            run.step += 1
            if not (math.isfinite(loss.item()) and 0 < model.temperature < math.inf):
                now = f"the loss is {loss.item()} at step {run.step}, the temperature {model.temperature} after it"
                raise UserError(f"{now}: try a smaller --lr")
            seconds = time.perf_counter() - start
            run.history.append({"loss": loss.item(), "temperature": model.temperature, "seconds": seconds})
            if run.step % SAVE_EVERY == 0:
                run.save()
            show()
    run.save()


@contextlib.contextmanager
def progress_bar(run: Run) -> Iterator[Callable[[], None]]:
    """A bar with loss, temperature and throughput; where output is no terminal, a line every ten steps instead."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(TextColumn("training"), *columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=run.settings.steps, completed=run.step, note="")

        def show() -> None:
            last = run.history[-1]
            note = (
                f"loss {last['loss']:.3f} · temperature {last['temperature']:.4f} · "
                f"{run.settings.batch_size / last['seconds']:,.0f} pairs/s"
            )
            progress.update(task, completed=run.step, note=note)
            if not console.is_terminal and (run.step % 10 == 0 or run.step in (1, run.settings.steps)):
                console.print(f"step {run.step}/{run.settings.steps}: {note}")

        yield show


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C stops after the current step, when the state is consistent; a second Ctrl-C stops at once."""
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        console.print("\nstopping after this step (Ctrl-C again: at once, back to the last checkpoint)")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@torch.no_grad()
def encode(model: TwoViews, images: Tensor, chunk_size: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    """Features of both halves side by side (N, 512), and unit embeddings (N, dim) of the top and bottom halves."""
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for chunk in images.split(chunk_size):
        top, bottom = (e.features(v) for e, v in zip((model.top, model.bottom), mnist_halves.views(chunk), strict=True))
        z1, z2 = F.normalize(model.top.head(top), dim=1), F.normalize(model.bottom.head(bottom), dim=1)
        rows.append((torch.cat([top, bottom], dim=1), z1, z2))
    features, z1, z2 = (torch.cat(part) for part in zip(*rows, strict=True))
    return features, z1, z2


def evaluate(
    run: Run, train_set: mnist_halves.Digits, test_set: mnist_halves.Digits
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Probes of the pixels, the untrained and the trained encoder, and `report.measure` of the two encoders."""
    train_pixels, test_pixels = (
        torch.cat(mnist_halves.views(digits.images), dim=1) for digits in (train_set, test_set)
    )
    probed = {"pixels": report.probe_halves(train_pixels, test_pixels, train_set.labels, test_set.labels)}
    measured = {}
    untrained = Run(run.settings, run.path).model  # the same seed gives the weights from which training started
    for title, model in (("untrained encoder", untrained), ("trained encoder", run.model)):
        features, _, _ = encode(model, train_set.images)
        test_features, z1, z2 = encode(model, test_set.images)
        probed[title] = report.probe_halves(features, test_features, train_set.labels, test_set.labels)
        measured[title] = report.measure(z1, z2, model.temperature)
    return probed, measured


def memory_ceiling_mib(batch_size: int) -> float:
    """The memory that training may hold: 768 MiB for torch, the data and its unpacking, and 16 KiB a pair. Linear, not N²."""
    return 768 + batch_size * 16 / 1024


def main(
    loss: Annotated[str, typer.Option(help=f"One of {', '.join(LOSSES)}; siglip needs --lr 1e-3.")] = "info_nce",
    batch_size: Annotated[int | None, typer.Option(min=2, help="Pairs a step.  [default: 16384; quick: 4096]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the digits.  [default: 20]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, in place of --epochs.")] = None,
    backend: Annotated[str | None, typer.Option(help="Backend of jessl_kernels.  [default: the fastest here]")] = None,
    dim: Annotated[int, typer.Option(min=2, help="Dimension of the embedding that the loss compares.")] = 64,
    temperature: Annotated[float, typer.Option(min=1e-3, help="Where the learnable temperature starts.")] = 0.1,
    lr: Annotated[float, typer.Option(min=0.0, help="Peak learning rate of AdamW.")] = 4e-3,
    chunk_size: Annotated[int, typer.Option(min=1, help="Pairs encoded at once; bounds the activations.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and shifts.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.  [default: runs/<loss>]")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint in --out, if there is one.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: 8 steps, and less of the rest.")] = False,
    data: Annotated[Path | None, typer.Option(help="Another mnist.pkl.gz than the installed one.")] = None,
) -> None:
    """Train a two-view encoder on MNIST halves, and probe it."""
    out = out or Path("runs") / (loss + ("-quick" if quick else ""))
    check_choices(loss, backend)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from error
    train_set, test_set = mnist_halves.load(data)
    digits = len(train_set.images)
    batch_size = batch_size or (4096 if quick else 16384)
    if batch_size > digits:
        raise UserError(f"--batch-size is {batch_size}, must be at most {digits}, the number of digits to train on")
    steps = steps or (8 if quick and epochs is None else (epochs or 20) * (digits // batch_size))
    settings = Settings(loss, batch_size, steps, backend, dim, temperature, lr, chunk_size, seed)
    run = Run(settings, out / "checkpoint.pt")
    ceiling = memory_ceiling_mib(batch_size)
    console.print(f"{loss}, {batch_size:,} pairs a step, {steps} steps, {torch.get_num_threads()} threads")
    console.print(f"memory ceiling: {ceiling:,.0f} MiB for the whole process while it trains")
    if resume and run.path.exists():
        run.restore()
        state = (
            f"continuing after step {run.step} of {steps}" if run.step < steps else "trained already, only reporting"
        )
        console.print(f"{run.path}: {state} (--no-resume starts anew)")

    with jk.use_backend(backend):  # pyright: ignore[reportArgumentType]  any word: it is checked there
        with deferred_interrupt() as stop:
            train(run, train_set.images, stop)
        if run.step < steps:
            console.print(f"stopped after step {run.step} of {steps}, saved in {run.path}; the same command continues")
            raise typer.Exit(130)
        verdict = "within" if run.peak_mib <= ceiling else "[bold red]exceeds[/]"
        console.print(f"peak memory {run.peak_mib:,.0f} MiB, {verdict} the ceiling")
        console.print("probing pixels, the untrained and the trained encoder …")
        if quick:
            train_set = mnist_halves.Digits(*(part[:10_000] for part in train_set))
        probed, measured = evaluate(run, train_set, test_set)

    results = {
        "settings": asdict(settings),
        "environment": report.environment(),
        "training": {
            "peak_mib": run.peak_mib,
            "ceiling_mib": ceiling,
            "temperature": run.model.temperature,
            "history": run.history,
        },
        "probe": probed,
        "representation": measured,
    }
    report.show(console, results)
    report.save(out, results)
    console.print(f"saved report.json, report.png and checkpoint.pt in {out}")


def check_choices(loss: str, backend: str | None) -> None:
    """Refuse unknown names before any work."""
    if loss not in LOSSES:
        raise UserError(f"--loss is {loss}, must be one of {', '.join(LOSSES)}")
    try:
        with jk.use_backend(backend):  # pyright: ignore[reportArgumentType]  any word: it is checked there
            pass
    except ValueError as error:
        raise UserError(f"--backend: {error}") from error


if __name__ == "__main__":
    try:
        typer.run(main)
    except (UserError, mnist_halves.DataError) as error:
        # as text: rich would take brackets in a message for markup
        message = Text.assemble(("error: ", "bold red"), str(error))
        Console(stderr=True, highlight=False).print(message, soft_wrap=True)
        sys.exit(1)
