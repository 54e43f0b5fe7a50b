"""A study: small trials, each a line of a file of results, which a stopped run goes on with, and a figure of them.

python -m experiments.NAME.run --quick     minutes; results in runs/NAME
python -m experiments.NAME.run --full      hours; results in experiments/NAME; Ctrl-C, and the same command again, goes on
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .trials import Settings, Trial, measured, read, shown, write

ROOT = Path(__file__).parents[1]
console = Console(stderr=True, highlight=False)
_bars: list[Progress] = []  # the bars of the trial that runs


@dataclass(frozen=True)
class Study:
    """name         of the folder in experiments
    run          (**settings, seed=…) → numbers, or short lists of them
    full, quick  conditions: the settings of a trial but for its seed
    draw         trials → a figure of matplotlib
    tables       trials → {a name: a table in markdown}, which `python -m experiments.pages` writes into the pages
    seeds        of a full run; a quick run has one
    matrix_form  whether `run` takes matrix_form=True, which --matrix-form gives it
    """

    name: str
    run: Callable[..., dict[str, Any]]
    full: list[Settings]
    quick: list[Settings]
    draw: Callable[[list[Trial]], Any]
    tables: Callable[[list[Trial]], dict[str, str]] = field(default=lambda trials: {})
    seeds: int = 5
    matrix_form: bool = False

    def results(self, full: bool = True) -> Path:
        """The file of results."""
        return ROOT / "experiments" / self.name / "results.json" if full else ROOT / "runs" / self.name / "quick.json"

    def figure(self, full: bool = True) -> Path:
        """The figure."""
        return self.results(full).with_name("figure.png" if full else "quick.png")

    def trials(self, full: bool, seeds: int, **more: Any) -> list[Settings]:
        """Settings of all trials: every condition has its first seed before one has its second."""
        conditions = self.full if full else self.quick
        return [{**condition, **more, "seed": seed} for seed in range(seeds) for condition in conditions]


def go_on(study: Study, trials: list[Settings], path: Path) -> None:
    """Run the trials that the file has not, and add each to the file when it ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        whole = bars.add_task(study.name, total=len(trials))
        _bars.append(bars)
        try:
            for settings in trials:
                if all(trial["settings"] != settings for trial in read(path)):
                    trial = measured(study.run, settings)
                    write(path, study.name, [*read(path), trial])
                    console.print(
                        f"{shown(settings)}   {trial['seconds']:.0f} s, {trial['peak_mib']:,.0f} MiB", soft_wrap=True
                    )
                bars.advance(whole)
        finally:
            _bars.pop()


def steps(n: int, label: str = "steps") -> Iterator[int]:
    """0 … n − 1, with a bar where a study runs on a terminal."""
    if not _bars:
        yield from range(n)
        return
    task = _bars[-1].add_task(f"  {label}", total=n)
    try:
        for step in range(n):
            yield step
            _bars[-1].advance(task)
    finally:
        _bars[-1].remove_task(task)


def main(study: Study, arguments: list[str] | None = None) -> None:
    """The command of a study."""

    def command(
        quick: Annotated[bool, typer.Option("--quick", help="A small form, under two minutes on two cores.")] = False,
        full: Annotated[bool, typer.Option("--full", help="The form whose results are committed.")] = False,
        seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each condition.")] = None,
        only: Annotated[list[str] | None, typer.Option(help="key=value: trials with this setting; repeatable.")] = None,
        draw: Annotated[
            bool, typer.Option("--draw", help="Draw the figure of what is there, and run nothing.")
        ] = False,
        matrix_form: Annotated[bool, typer.Option("--matrix-form", help="With losses in their matrix form.")] = False,
    ) -> None:
        if quick == full:
            raise typer.BadParameter("give one of --quick and --full")
        if matrix_form and not study.matrix_form:
            raise typer.BadParameter(f"--matrix-form: {study.name} has no losses in matrix form")
        more = {"matrix_form": True} if matrix_form else {}
        trials = study.trials(full, seeds or (study.seeds if full else 1), **more)
        for word in only or []:
            key, _, value = word.partition("=")
            trials = [settings for settings in trials if str(settings.get(key)) == value]
        if not trials:
            raise typer.BadParameter(f"--only {' '.join(only or [])}: no trial has these settings")
        path = study.results(full)
        if not draw:
            try:
                go_on(study, trials, path)
            except KeyboardInterrupt:
                console.print(
                    f"stopped; {len(read(path))} trials are in {path}, and the same command goes on", soft_wrap=True
                )
                raise typer.Exit(130) from None
        draw_figure(study, full)
        for name, rows in study.tables(read(path)).items():
            print(f"\n{name}\n\n{rows}")

    command.__doc__ = sys.modules[study.run.__module__].__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app(args=arguments, prog_name=f"python -m experiments.{study.name}.run")


def draw_figure(study: Study, full: bool) -> None:
    """Beside the results."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot as plt

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "font.size": 10}
    trials = read(study.results(full))
    if not trials:
        raise typer.BadParameter(f"{study.results(full)} has no trials to draw")
    with plt.rc_context(style):  # pyright: ignore[reportArgumentType]  the keys are matplotlib's
        figure = study.draw(trials)
        figure.savefig(study.figure(full), dpi=110)
        plt.close(figure)
