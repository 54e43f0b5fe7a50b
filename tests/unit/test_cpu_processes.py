"""The cpu backend and its process: OpenMP, fork, Ctrl-C. Each test has a fresh process, which may end in any way."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jessl_kernels.native import native_status

pytestmark = [
    pytest.mark.skipif(not native_status().available, reason=native_status().reason or "built"),
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux"),
]


def run(code: str) -> dict:
    """The last JSON line of a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_using_the_extension_loads_no_library_but_itself():
    before, after = run("""
import json, pathlib, torch
def libraries():
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if ".so" in line}
torch.set_num_threads(2)
z = torch.randn(700, 300, requires_grad=True)
torch.logsumexp(z @ z.T, 1).sum().backward()  # torch has loaded what it loads
import jessl_kernels as jk
from jessl_kernels.backends import settings
with jk.use_backend("chunked"):
    jk.nt_xent(*z.split(350)).backward()
before = {name for name in libraries() if "_native" not in name}
with jk.use_backend("cpu"):
    jk.nt_xent(*z.split(350)).backward()
    jk.kde_entropy(z, bandwidth=0.5).backward()
print(json.dumps([sorted(before), sorted(libraries())]))
""")
    openmp = [name for name in after if any(word in name for word in ("omp", "gomp", "iomp"))]
    assert len(openmp) <= 1, openmp
    new = set(after) - set(before)
    assert len(new) == 1 and "jessl_kernels/_native" in new.pop()


def test_a_forked_child_computes_the_bits_of_its_parent():
    told = run("""
import json, multiprocessing, torch, jessl_kernels as jk
torch.set_num_threads(3)
x = torch.randn(700, 24, generator=torch.Generator().manual_seed(0), requires_grad=True)
def answers():
    with jk.use_backend("cpu"):
        loss = jk.nt_xent(*x.split(350))
        return [float(loss), torch.autograd.grad(loss, x)[0].tolist()]
def child(pipe):
    pipe.send(answers())
parent = answers()
context = multiprocessing.get_context("fork")
children = []
for _ in range(2):
    here, there = context.Pipe()
    process = context.Process(target=child, args=(there,))
    process.start()
    children.append(here.recv() if here.poll(30) else None)
    process.kill()
print(json.dumps([answers == parent for answers in children] + [answers() == parent]))
""")
    assert told == [True, True, True]


INTERRUPTED = """
import json, signal, sys, threading, time, torch, jessl_kernels as jk
from jessl_kernels.backends import cpu
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have told its children to ignore
torch.set_num_threads(int(sys.argv[1]))
wide = torch.randn({millions}, 16)
ticks = 0
def tick():
    global ticks
    while True:
        time.sleep(0.005)
        ticks += 1
threading.Thread(target=tick, daemon=True).start()
with jk.use_backend("cpu"):
    jk.pairwise_logsumexp(wide[:100])
    for line in sys.stdin:
        code, rows, grad = json.loads(line)
        x = wide[:rows].detach().requires_grad_(grad)
        piece, order = (x.data_ptr(), len(x), *x.stride()), torch.empty(len(x), dtype=torch.int64)
        call, ticks = compile(code, "call", "exec"), 0
        print("begin", flush=True)
        try:
            exec(call)
            print(json.dumps(dict(finished=True)), flush=True)
        except KeyboardInterrupt:
            print(json.dumps(dict(finished=False, at=time.monotonic(), ticks=ticks)), flush=True)
        # The backend still works.
        assert torch.isfinite(jk.pairwise_logsumexp(x[:100].detach())).all()
"""
MANY, MILLIONS = 500_000, 4_000_000
# name: (code, rows of x, whether x has a gradient)
CALLS = {
    "values": ("jk.pairwise_logsumexp(x, scale=0.1)", MANY, False),
    "gradients": ("jk.siglip_loss(x, x.flip(0), 1.0, 0.0)", MANY, True),
    "partners": ("jk.info_nce(x, x.detach().flip(0))", MANY, True),
    "strips": ("jk.pairwise_logsumexp(x, x[:20_000].detach(), reduction='mean')", MILLIONS, True),
    "top_k": ("jk.pairwise_topk(x, k=3)", MANY, False),
    "halves": ("jk.nt_xent(x, x.detach().flip(0))", MANY, True),
    "labels": ("jk.sup_con(x, torch.arange(len(x)) // 2)", MANY, True),
    "total": ("jk.uniformity(x)", MANY, True),
    "order": ("cpu._core.put_in_order(([piece], x.shape[1], 'float32'), order.data_ptr())", MILLIONS, False),
}


@pytest.mark.parametrize("threads", [2, pytest.param(1, marks=pytest.mark.nightly)])
def test_ctrl_c_ends_every_long_call_within_a_second_and_other_python_threads_run_meanwhile(threads):
    command = [sys.executable, "-c", INTERRUPTED.format(millions=MILLIONS), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(120, process.kill)
        limit.start()
        try:
            for name, call in CALLS.items():
                print(json.dumps(call), file=process.stdin, flush=True)
                assert process.stdout.readline() == "begin\n", name
                time.sleep(0.7)
                sent = time.monotonic()  # one clock for all processes
                process.send_signal(signal.SIGINT)
                told = json.loads(process.stdout.readline())
                assert not told["finished"], name
                assert told["at"] - sent < 1.0, name
                assert told["ticks"] > 20, f"{name}: the interpreter was locked during the call"
            process.stdin.close()
            assert process.wait(timeout=30) == 0
        finally:
            limit.cancel()
            process.kill()
