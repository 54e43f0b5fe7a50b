"""The driver of `make gpu-check`: its sections are bounded, and what it could not find out it does not claim."""

import argparse
import sys
from pathlib import Path

import pytest

from tests import executor
from tests.gpu import check

XML = """<testsuites><testsuite>
<testcase classname="a" name="one"/><testcase classname="a" name="two"><skipped message="why"/></testcase>
<testcase classname="a" name="three"><failure message="off">x = 1
E  assert 1 == 2
</failure></testcase></testsuite></testsuites>"""


def test_sections_are_chosen_with_their_seconds():
    assert check.sections("times=300,suite") == {"environment": 40, "times": 300, "suite": check.SECONDS["suite"]}
    for wrong in ("speed", "times=soon"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not one of environment, suite"):
            check.sections(wrong)


def test_outcomes_and_failures_are_those_of_pytest(tmp_path):
    results = tmp_path / "suite.xml"
    results.write_text(XML)
    section = check.Section("suite", "failed")
    check.count(section, results)
    assert section.outcomes == {"passed": 1, "skipped": 1, "failed": 1}
    assert section.failures == [("a::three", "E  assert 1 == 2")]
    (tmp_path / "environment.log").write_text("torch 2")
    text = check.report([section], tmp_path, dry=True)
    assert "nothing was measured" in text and "assert 1 == 2" in text and "1 passed, 1 skipped, 1 failed" in text


def test_a_section_in_which_no_test_passes_fails(tmp_path):
    results = tmp_path / "suite.xml"
    results.write_text(XML.replace('<testcase classname="a" name="one"/>', ""))
    section = check.Section("suite", "ok")
    check.count(section, results)
    assert (section.status, section.why) == ("failed", "no test passed")


@pytest.mark.parametrize(
    ("code", "seconds", "status"),
    [("", 20, "ok"), ("raise SystemExit(3)", 20, "failed"), ("import time; time.sleep(60)", 1, "stopped")],
)
def test_a_section_ends_by_itself_or_at_its_limit(tmp_path, monkeypatch, code, seconds, status):
    monkeypatch.setattr(check, "command", lambda *_: [sys.executable, "-c", code])
    section = check.run("times", seconds, tmp_path, dry=False)
    assert section.status == status
    assert section.seconds < 30
    assert bool(section.why) == (status != "ok")


def test_an_absent_sanitizer_is_not_run_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "sanitizer", lambda: None)
    section = check.run("sanitizer", 1, tmp_path, dry=False)
    assert section.status == "not run" and "compute-sanitizer" in section.why


@pytest.mark.skipif(executor.REAL, reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path, capsys):
    assert check.main(["--out", str(tmp_path)]) == 1
    assert "no GPU answers" in capsys.readouterr().out
    assert "torch.cuda.is_available() is False" in (tmp_path / "check.md").read_text()


@pytest.mark.nightly
def test_the_dry_run_passes_every_section(tmp_path):
    pytest.importorskip("ttsem")
    assert check.main(["--dry", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "times" / "report.md").read_text()
    assert "µs |" not in text and " ms |" not in text
