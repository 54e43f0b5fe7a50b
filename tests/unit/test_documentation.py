"""What the docstrings and the README tell a user to type runs, and prints what they say."""

import doctest
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk

ROOT = Path(__file__).parents[2]
# What these print depends on the machine.
VARYING = ("backends", "explain")
DOCUMENTED = [getattr(jk, name) for name in jk.__all__ if callable(getattr(jk, name)) and name not in VARYING]
DOCUMENTED += [getattr(jk.nn, name) for name in jk.nn.__all__] + [jk.phi.clamp]
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def names() -> dict:
    """The variables that examples take for granted."""
    encoder = torch.nn.Linear(5, 3)
    batches = {name: torch.randn(6, 5) for name in ("x", "y", "z", "z1", "z2", "query", "positive", "view1", "view2")}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    others = {"ids": torch.arange(6), "n": 3, "temperature": 0.5, "encoder": encoder, "optimizer": optimizer}
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
    width = code.index("# after")
    for column in (slice(0, width), slice(width, None)):
        lines = [line[column].rstrip() for line in code.splitlines()[1:]]
        exec("\n".join(line for line in lines if line), values)
        values["before"] = values.get("before", values["loss"])
    torch.testing.assert_close(values["loss"], values["before"])
