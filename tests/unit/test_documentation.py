"""What the docstrings, the README and the pages of docs tell a user to type runs, and prints what they say."""

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk

ROOT = Path(__file__).parents[2]
# What these print depends on the machine.
VARYING = ("backends", "explain", "estimate")
DOCUMENTED = [getattr(jk, name) for name in jk.__all__ if callable(getattr(jk, name)) and name not in VARYING]
DOCUMENTED += [getattr(jk.nn, name) for name in jk.nn.__all__] + [jk.phi.clamp, jk.phi.student]
DOCUMENTED += [getattr(jk.mi, name) for name in jk.mi.__all__ if callable(getattr(jk.mi, name)) and name not in VARYING]
DOCUMENTED += [getattr(jk.er, name) for name in jk.er.__all__]
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
# A block of a page, and what stands below it as its output.
BLOCK = re.compile(r"^```python.*\n((?:.*\n)*?)```\n(?:\n```text title=\"prints\"\n((?:.*\n)*?)```\n)?", re.MULTILINE)
PAGES = [
    pytest.param(code, printed, id=f"{page.relative_to(ROOT)}:{number}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for number, (code, printed) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), start=1)
]


def names() -> dict:
    """The variables that examples take for granted."""
    encoder = torch.nn.Linear(5, 3)
    batches = {
        name: torch.randn(6, 5)
        for name in ("x", "y", "z", "z1", "z2", "query", "positive", "image", "text", "view1", "view2")
    }
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    others = {
        "ids": torch.arange(6),
        "n": 3,
        "temperature": 0.5,
        "logit_scale": 10.0,
        "encoder": encoder,
        "optimizer": optimizer,
    }
    return {"torch": torch, "F": F, "jk": jk, **batches, **others}


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda one: one.__name__)
def test_examples_of_a_docstring_print_what_it_says(documented):
    (test,) = doctest.DocTestFinder(recurse=False).find(documented, documented.__name__, globs=names())
    told: list[str] = []
    doctest.DocTestRunner().run(test, out=told.append)
    assert not told, "".join(told)


def test_the_citation_is_of_this_version_and_licence():
    told = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE))
    project = dict(re.findall(r'^(\w+) = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
    assert told["cff-version"] == "1.2.0" and {"message", "title"} <= told.keys()
    assert (told["version"], told["license"]) == (jk.__version__, project["license"])


@pytest.mark.parametrize("code", [code for code in README if "# before" not in code], ids=lambda code: code[:20])
def test_code_of_the_readme_runs(code):
    exec(code, names())


def test_the_two_sides_of_the_readme_compute_the_same():
    (code,) = (code for code in README if "# before" in code)
    values = names()
    for side in code.split("# after"):
        exec(side, values)
        values["before"] = values.get("before", values["loss"])
    torch.testing.assert_close(values["loss"], values["before"])


@pytest.mark.parametrize(("code", "printed"), PAGES)
def test_code_of_a_page_can_be_pasted_alone_and_prints_what_it_says(code, printed):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    if printed:
        assert output.getvalue() == printed


def test_the_blocks_before_and_after_of_the_start_page_compute_the_same():
    start = BLOCK.findall((ROOT / "docs/index.md").read_text(encoding="utf-8"))
    losses = []
    for code, _ in start[:2]:
        torch.manual_seed(0)
        values: dict = {}
        exec(code, values)
        losses.append(values["loss"])
    torch.testing.assert_close(losses[1], losses[0])


def test_every_recipe_has_a_block_that_runs():
    recipes = (ROOT / "docs/recipes.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(recipes) >= 8
    assert [recipe.splitlines()[0] for recipe in recipes if not BLOCK.search(recipe)] == []
