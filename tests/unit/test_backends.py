"""Selection of backends, settings, and the reports of the package about itself."""

import gc
import os
import runpy
import subprocess
import sys
import threading

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.backends import chunked, cpu, cuda, reference, triton
from jessl_kernels.native import NativeStatus
from tests import cases


def test_cpu_is_taken_by_default_and_the_others_by_name():
    z = torch.eye(4)
    assert cases.planned(z).backend == "cpu"
    for name in ("chunked", "reference"):
        with jk.use_backend(name):
            assert cases.planned(z).backend == name
    assert cases.planned(z).backend == "cpu"


def test_chunked_is_taken_where_cpu_declines(monkeypatch):
    from jessl_kernels.backends import cpu

    monkeypatch.setattr(cpu, "declines", lambda score, op: ["out of order"])
    explanation = cases.planned(torch.eye(4))
    assert explanation.backend == "chunked"
    assert explanation.declined["cpu"] == ["out of order"]


def test_on_macos_large_problems_take_the_librarys_products_unless_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(cpu.sys, "platform", "darwin")
    monkeypatch.setenv("JESSL_SIMD", "portable")
    small, large = torch.randn(64, 128), torch.randn(512, 128)
    assert cases.planned(small).backend == "cpu"
    chosen = cases.planned(large)
    assert chosen.backend == "chunked"
    assert chosen.declined["cpu"] == ["on macOS the library's products are faster than its portable code"]
    with jk.use_backend("cpu"):
        assert cases.planned(large).backend == "cpu"


def test_use_backend_nests_and_is_undone_after_an_error():
    with jk.use_backend("reference"):
        with jk.use_backend(workspace=1 << 20):
            assert cases.planned(torch.eye(4)).backend == "reference"
        with pytest.raises(ZeroDivisionError), jk.use_backend("chunked"):
            raise ZeroDivisionError
        assert cases.planned(torch.eye(4)).backend == "reference"


def test_set_backend_holds_in_all_threads_outside_of_blocks():
    z, seen = torch.eye(4), []
    try:
        jk.set_backend("reference", workspace=1 << 20)
        thread = threading.Thread(target=lambda: seen.append(cases.planned(z).backend))
        thread.start()
        thread.join()
        with jk.use_backend("chunked"):
            seen.append(cases.planned(z).backend)
            assert cases.planned(z).workspace <= 1 << 20
        seen.append(cases.planned(z).backend)
    finally:
        jk.set_backend()
    assert seen == ["reference", "chunked", "reference"] and cases.planned(z).backend == "cpu"
    with pytest.raises(ValueError, match="set_backend: name is 'rocm', must be one of"):
        jk.set_backend("rocm")


def test_use_backend_without_a_with_statement_says_that_it_sets_nothing():
    with pytest.warns(UserWarning, match="sets nothing outside of a with statement: .*set_backend"):
        jk.use_backend("chunked")
        gc.collect()
    assert cases.planned(torch.eye(4)).backend == "cpu"


def test_use_backend_decorates_a_function():
    @jk.use_backend("reference")
    def who() -> str:
        return cases.planned(torch.eye(4)).backend

    assert [who(), who(), cases.planned(torch.eye(4)).backend] == ["reference", "reference", "cpu"]


def test_use_backend_holds_for_its_thread_alone():
    seen = []
    with jk.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(cases.planned(torch.eye(4)).backend))
        thread.start()
        thread.join()
    assert seen == ["cpu"]


def test_backward_uses_the_backend_of_its_forward(monkeypatch):
    from jessl_kernels.backends import chunked

    x = torch.eye(4, requires_grad=True)
    with jk.use_backend("reference"):
        row = jk.pairwise_logsumexp(x)
    monkeypatch.setattr(chunked, "row_grads", None)
    row.sum().backward()
    assert x.grad is not None


def test_compiled_code_follows_use_backend():
    loss = torch.compile(lambda z: jk.pairwise_logsumexp(z, reduction="sum"), fullgraph=True, backend="aot_eager")
    values = [loss(torch.eye(4))]
    with jk.use_backend("reference"):
        values.append(loss(torch.eye(4)))
    torch.testing.assert_close(values[0], values[1])


def test_settings_are_not_an_attribute_of_their_class():
    """Dynamo of torch 2.11 would read the class's attribute, and compiled code would not follow use_backend."""
    from jessl_kernels.backends import _local

    assert "settings" not in vars(type(_local)) and _local.settings is None


def test_workspace_bounds_the_strip():
    z = torch.zeros(4096, 8, requires_grad=True)
    plans = []
    for workspace in (1 << 20, 4 << 20):
        with jk.use_backend(workspace=workspace):
            plans.append(cases.planned(z).workspace)
            assert plans[-1] <= workspace
    assert plans[0] < plans[1]


def test_workspace_changes_no_more_than_rounding():
    z = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    results = []
    for workspace in (1, 10_000, 64 << 20):
        with jk.use_backend("chunked", workspace=workspace):
            value = jk.nt_xent(*z.split(150))
            results.append((value.detach(), torch.autograd.grad(value, z)[0]))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-5, atol=1e-8)


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def test_environment_variable_chooses_the_backend():
    code = "import torch, jessl_kernels as jk; print(jk.explain(jk.uniformity, torch.eye(4)).steps[0].backend)"
    assert run(code, JESSL_BACKEND="reference").stdout.strip() == "reference"
    wrong = run(code, JESSL_BACKEND="fast")
    assert wrong.returncode != 0
    assert "JESSL_BACKEND is 'fast', must be one of cpu, triton, cuda, chunked, reference" in wrong.stderr


def test_the_command_prints_versions_and_backends(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jessl_kernels"])
    runpy.run_module("jessl_kernels", run_name="__main__")
    told = capsys.readouterr().out
    for word in ("jessl_kernels", torch.__version__, "chunked", "reference", "native"):
        assert word in told


def test_the_command_knows_its_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jessl_kernels", "--version"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("jessl_kernels", run_name="__main__")
    assert capsys.readouterr().out == f"jessl_kernels {jk.__version__}\n"


def test_a_bug_report_is_made_where_the_environment_names_an_unknown_backend():
    command, environment = [sys.executable, "-m", "jessl_kernels"], os.environ | {"JESSL_BACKEND": "foo"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert f"torch          {torch.__version__}" in result.stdout
    assert "JESSL_BACKEND is 'foo', must be one of" in result.stdout


def test_backends_reports_who_computes_and_what_is_missing():
    report = jk.backends()
    assert list(report.computing) == ["cpu", "triton", "cuda", "chunked", "reference"]
    assert str(report).count("\n") >= 2
    assert f"simd_used {cpu.instruction_set()}" in str(report)
    with jk.use_backend("reference"):
        assert "forced: reference" in str(jk.backends())


def test_backends_says_what_the_kernels_were_built_for(monkeypatch):
    info = {"toolkit": "13.0", "architectures": "8.0+PTX 9.0"}
    module = sys.modules["jessl_kernels.backends"]  # jk.backends is the function of that name
    monkeypatch.setattr(module, "cuda_status", lambda: NativeStatus(True, info=info))
    assert jk.backends().nvcc == "built: toolkit 13.0, architectures 8.0+PTX 9.0"
    monkeypatch.setattr(module, "cuda_status", lambda: NativeStatus(False, reason="no toolkit"))
    assert jk.backends().nvcc == "missing: no toolkit"
    assert "nvcc       missing: no toolkit" in str(jk.backends())


def test_backends_shows_its_table_at_the_prompt():
    assert repr(jk.backends()) == str(jk.backends())


@pytest.mark.parametrize("backend", [triton, cuda], ids=["triton", "cuda"])
def test_backends_for_gpus_are_available_with_a_cuda_device_alone(backend, monkeypatch):
    monkeypatch.setattr(backend, "MISSING", "")
    for there, state in ((False, "installed, no CUDA device: "), (True, "available: ")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert jk.backends().computing[backend.NAME].startswith(state)


WITHOUT_CORE = """
import sys, warnings
sys.modules["jessl_kernels._native"] = None  # its import fails
import torch, jessl_kernels as jk
x = torch.eye(4, requires_grad=True)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    jk.explain(jk.uniformity, x)
    with jk.use_backend("reference"):
        jk.uniformity(x)
    assert seen == [], seen
    loss = jk.uniformity(x)
    jk.uniformity(x), jk.nt_xent(x, x)
    (warning,) = seen
    loss.backward()
print(warning.category.__name__, warning.filename, warning.message)
print(jk.backends())
"""


def test_without_the_extension_the_first_computation_warns_once_and_the_table_says_what_computes():
    told, *table = run(WITHOUT_CORE).stdout.splitlines()
    slower = "chunked computes instead, 2 to 7 times slower"
    assert told.startswith(f"UserWarning <string> jessl_kernels: the C++ extension is missing, {slower}")
    assert "python -m jessl_kernels" in told
    assert table[0].split(maxsplit=1) == ["cpu", f"missing: {slower}"]
    assert table[-2].startswith("native     missing: ") and "\n".join(table).count(slower) == 1


def test_no_willing_backend_is_one_error_with_every_refusal(monkeypatch):
    monkeypatch.setattr(cpu, "declines", lambda score, op: ["too old"])
    monkeypatch.setattr(chunked, "declines", lambda score, op: ["too tired"])
    monkeypatch.setattr(reference, "declines", lambda score, op: ["too small", "too slow"])
    with pytest.raises(
        NotImplementedError,
        match=r"(?s)no backend can run pairwise_logsumexp on x .*too old.*too tired.*too small; too slow",
    ):
        jk.pairwise_logsumexp(torch.eye(2))


def test_a_backend_asked_for_that_cannot_says_its_own_reason_alone():
    asks = "for which use_backend, set_backend or JESSL_BACKEND asks"
    why = rf"^triton, {asks}, cannot run pairwise_logsumexp on x \(2, 2\).*x is on cpu$"
    with jk.use_backend("triton"), pytest.raises(NotImplementedError, match=why):
        jk.pairwise_logsumexp(torch.eye(2))
