"""Every kernel compiles for every GPU, fits, and contains the expected instructions."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")

from jessl_kernels import phi
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.types import Terms
from jessl_kernels.triton import finalize, rowwise
from tests.gpu import compiled as compiling
from tests.gpu import row_problems as problems
from tests.gpu.compiled import TARGETS, Compiled, launches
from tests.gpu.row_problems import Case, clip, hard, info_nce, nt_xent, siglip, sup_con
from tests.gpu.test_launches import noted

HALF, WIDE = (torch.bfloat16, torch.float16), (torch.float32, torch.float64)
WIDTHS = (5, 64, 128, 256)  # a padded one, and rows of the tables of shapes
IDS = torch.arange(4096)
CLASSES = Exclude(diagonals=(0,), same=(IDS, IDS))  # SupCon's negatives: so few exclusions that the plain shapes serve
EVERYTHING = Exclude(diagonals=(0, 7, -7), same=(IDS, IDS), keep=(1,))
BOTH_IDS = Exclude(diagonals=(0, 7, -7), same=(IDS, IDS), different=(IDS, IDS))  # symmetric: nothing is kept


def small(exclude: Exclude, N: int = 256) -> Exclude:
    """The same exclusion for fewer rows."""
    ((row_ids, col_ids),) = exclude.same
    return dataclasses.replace(exclude, same=(row_ids[:N], col_ids[:N]))


FUSED: dict[str, Case] = {
    **{
        f"{what.__name__}-{str(dtype)[6:]}-D{D}": (what, lambda D=D, dtype=dtype: problems.problem(dtype, D))
        for dtype in HALF
        for D in (WIDTHS if dtype == torch.bfloat16 else (128,))
        for what in (problems.one_sided, problems.both_sided)
    },
    **{
        f"symmetric-D{D}": (problems.one_sided, lambda D=D: problems.problem(torch.bfloat16, D, symmetric=True))
        for D in WIDTHS[1:]
    },
    "recomputed": (problems.recomputed, lambda: problems.problem(torch.float16, 128)),
    **{
        f"everything-D{D}": (
            lambda s: problems.both_sided(s, biases=True),
            lambda D=D: problems.problem(torch.bfloat16, D, exclude=EVERYTHING, biased=True, of=phi.clamp(-5.0, 5.0)),
        )
        for D in WIDTHS[1:]
    },
    **{
        f"everything attended-D{D}": (
            lambda s: problems.one_sided(s, biases=True),
            lambda D=D: problems.problem(torch.bfloat16, D, exclude=EVERYTHING, biased=True),
        )
        for D in WIDTHS[1:]
    },
    **{
        f"symmetric with ids-D{D}": (
            problems.one_sided,
            lambda D=D: problems.problem(torch.bfloat16, D, symmetric=True, exclude=BOTH_IDS, of=phi.clamp(-5.0, 5.0)),
        )
        for D in WIDTHS[1:]
    },
    **{
        f"classes-D{D}": (problems.one_sided, lambda D=D: problems.problem(torch.bfloat16, D, exclude=CLASSES))
        for D in WIDTHS[1:]
    },
    "clamped": (problems.both_sided, lambda: problems.problem(torch.bfloat16, 128, of=phi.clamp(-5.0, 5.0))),
    "many diagonals": (
        problems.both_sided,
        lambda: problems.problem(torch.bfloat16, 128, exclude=Exclude(diagonals=tuple(range(6)))),
    ),
    "softplus": (
        lambda s: problems.both_sided(s, op="softplus", biases=True),
        lambda: problems.problem(torch.bfloat16, 128, biased=True),
    ),
    "one row": (problems.one_sided, lambda: problems.problem(torch.bfloat16, 64, N=1)),
}
TF32 = {
    f"{what.__name__}-tf32-D{D}": (what, lambda D=D: problems.problem(torch.float32, D))
    for D in WIDTHS[:-1]
    for what in (problems.one_sided, problems.both_sided)
} | {
    f"everything-tf32-D{D}": (
        lambda s: problems.both_sided(s, biases=True),
        lambda D=D: problems.problem(torch.float32, D, exclude=EVERYTHING, biased=True, of=phi.clamp(-5.0, 5.0)),
    )
    for D in WIDTHS[1:-1]
}
DISTANCES = (
    {
        f"{name}-{str(dtype)[6:]}-D{D}": (
            what,
            lambda D=D, dtype=dtype, of=of, symmetric=symmetric: problems.problem(
                dtype, D, kind="sqdist", of=of, symmetric=symmetric
            ),
        )
        for name, what, of, symmetric in (
            ("density", problems.one_sided, phi.IDENTITY, True),
            ("laplace", problems.both_sided, phi.LAPLACE, False),
        )
        for dtype in (*WIDE, torch.bfloat16)
        for D in (2, 16)
    }
    | {
        f"{of.name}-{str(dtype)[6:]}": (
            problems.both_sided,
            lambda dtype=dtype, of=of: problems.problem(dtype, 16, kind="sqdist", of=of),
        )
        for of, dtype in itertools.product((phi.student(2.5), phi.EPANECHNIKOV, phi.LINEAR, phi.COSINE), WIDE)
    }
    | {
        f"everything-{str(dtype)[6:]}": (
            lambda s: problems.both_sided(s, biases=True),
            lambda dtype=dtype: problems.problem(
                dtype, 16, kind="sqdist", exclude=EVERYTHING, biased=True, of=phi.clamp(-5.0, 5.0)
            ),
        )
        for dtype in WIDE
    }
    | {
        f"softplus-{str(dtype)[6:]}": (
            lambda s: problems.both_sided(s, op="softplus", biases=True),
            lambda dtype=dtype: problems.problem(dtype, 16, kind="sqdist", biased=True),
        )
        for dtype in WIDE
    }
)
STRIPS: dict[str, Case] = {
    f"{what.__name__}-{kind}-{str(dtype)[6:]}": (
        what,
        lambda kind=kind, dtype=dtype: problems.problem(dtype, 512, N=256, kind=kind),
    )
    for kind, dtype in (*itertools.product(("dot", "sqdist"), WIDE), ("sqdist", torch.bfloat16))
    for what in (problems.one_sided, problems.both_sided)
}
STRIPS |= {
    f"everything-{kind}-{str(dtype)[6:]}": (
        lambda s: problems.both_sided(s, biases=True),
        lambda kind=kind, dtype=dtype, of=of: problems.problem(
            dtype, 512, N=256, kind=kind, exclude=small(EVERYTHING), biased=True, of=of
        ),
    )
    for (kind, of), dtype in itertools.product((("dot", phi.clamp(-5.0, 5.0)), ("sqdist", phi.LAPLACE)), WIDE)
}
STRIPS |= {
    f"top-k-{kind}-{str(dtype)[6:]}": (
        problems.top_k,
        lambda kind=kind, dtype=dtype, of=of: problems.problem(
            dtype, 20, N=256, kind=kind, exclude=small(EVERYTHING), biased=True, of=of
        ),
    )
    for kind, of, dtype in (
        ("dot", phi.IDENTITY, torch.bfloat16),
        ("dot", phi.clamp(-5.0, 5.0), torch.float32),
        ("sqdist", phi.LAPLACE, torch.float32),
        ("sqdist", phi.LAPLACE, torch.float64),
    )
}
STRIPS["softplus"] = lambda s: problems.one_sided(s, op="softplus"), lambda: problems.problem(torch.float32, 128, N=256)
BLOCKS = {
    **{
        f"{what.__name__}-{str(dtype)[6:]}-D{D}{'-symmetric' * symmetric}": (
            what,
            lambda dtype=dtype, D=D, symmetric=symmetric: problems.problem(dtype, D, N=300, symmetric=symmetric),
        )
        for what, dtype, D, symmetric in (
            (problems.one_sided, torch.bfloat16, 300, False),
            (problems.both_sided, torch.bfloat16, 512, False),
            (problems.both_sided, torch.float16, 4096, False),
            (problems.one_sided, torch.bfloat16, 512, True),
        )
    },
    "everything": (
        lambda s: problems.both_sided(s, biases=True),
        lambda: problems.problem(torch.bfloat16, 512, exclude=EVERYTHING, biased=True, of=phi.clamp(-5.0, 5.0)),
    ),
    "softplus": (
        lambda s: problems.one_sided(s, op="softplus", biases=True),
        lambda: problems.problem(torch.bfloat16, 300, N=300, biased=True),
    ),
    "one row": (problems.both_sided, lambda: problems.problem(torch.bfloat16, 512, N=1)),
}
BLOCKS_TF32 = {
    "both_sided-tf32-D256": (problems.both_sided, lambda: problems.problem(torch.float32, 256)),
    "softplus-tf32-D256": (
        lambda s: problems.one_sided(s, op="softplus"),
        lambda: problems.problem(torch.float32, 256),
    ),
}
# Whole losses: sweeps with more sums at a time than those above, and the kernels of rows around them.
LOSSES: dict[str, Case] = {
    **{f"clip-D{D}": clip(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{f"nt_xent-D{D}": nt_xent(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{f"siglip-D{D}": siglip(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{f"info_nce-D{D}": info_nce(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{f"sup_con-D{D}": sup_con(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{f"hard negatives-D{D}": hard(torch.bfloat16, D) for D in WIDTHS[1:]},
    **{
        f"sum of everything-D{D}": (
            lambda p: problems.whole(dataclasses.replace(p, negatives=Terms("softplus")), "none", biases=True),
            lambda D=D: problems.problem(torch.bfloat16, D, exclude=EVERYTHING, biased=True, of=phi.clamp(-5.0, 5.0)),
        )
        for D in WIDTHS[1:]
    },
}
ROWS: dict[str, Case] = {
    "clip": clip(torch.bfloat16, 5, normalize=False),
    "siglip": siglip(torch.bfloat16, 5),
    "info_nce": info_nce(torch.bfloat16, 128, rest=1024, normalize=True),
    "sup_con": sup_con(torch.bfloat16, 128),
    "sup_con, in": sup_con(torch.bfloat16, 5, join="softplus_count"),
    "hard negatives": hard(torch.bfloat16, 5),
    "blocks": clip(torch.bfloat16, 1000, N=300),
    "fp16": nt_xent(torch.float16, 5, N=300, join="difference"),
    "strips": info_nce(torch.float32, 5, N=256, rest=64, normalize=True),
    "strips, wide": nt_xent(torch.float32, 1000, N=128),
    "fp64": siglip(torch.float64, 128, N=256),
    "fp64, wide": clip(torch.float64, 1000, N=256),
}
LOSSES_TF32 = {
    **{f"clip-tf32-D{D}": clip(torch.float32, D) for D in WIDTHS[1:-1]},
    **{f"siglip-tf32-D{D}": siglip(torch.float32, D) for D in WIDTHS[1:-1]},
    "nt_xent-tf32-D128": nt_xent(torch.float32, 128),
    "info_nce-tf32-D128": info_nce(torch.float32, 128),
    "sup_con-tf32-D128": sup_con(torch.float32, 128),
}


def compiled(target: str, case: Case) -> list[Compiled]:
    what, problem = case
    with launches(target) as found:
        what(problem())
    assert found
    return found


def sweeps(target: str, case: Case) -> list[Compiled]:
    """The compiled sweeps of a loss, without the kernels of rows around them."""
    return [kernel for kernel in compiled(target, case) if kernel.name not in ROWWISE]


ROWWISE = ("normalize_and_score", "merge_sums", "finalize_rows", "rows_backward")
NVIDIA = [target for target in TARGETS if not target.startswith("gfx")]
PRODUCTS_OF_TF32 = r"(mma\.sync|wgmma\.mma_async|tcgen05\.mma)\S*tf32"


def over(cases: dict, targets: Iterable[str] = TARGETS) -> Callable:
    """Every case for every target."""
    return pytest.mark.parametrize(
        ("case", "target"),
        [pytest.param(case, target, id=f"{name}-{target}") for name, case in cases.items() for target in targets],
    )


def assert_fits(kernel: Compiled) -> None:
    where = f"{kernel.name} for {kernel.target}, {kernel.options}"
    assert kernel.spilled == 0, f"{where}: {kernel.spilled} bytes of registers spilled"
    assert kernel.shared <= TARGETS[kernel.target].shared, f"{where}: {kernel.shared} bytes of shared memory"
    assert kernel.count(r"\b(atom|red)\.|_atomic_") == 0, f"{where}: atomics, whose order changes the last bits"
    assert kernel.count(r"\b(ld|st)\.local|scratch_(load|store)") == 0, f"{where}: local memory"


@over(FUSED | {f"blocks, {name}": case for name, case in BLOCKS.items()})
def test_fused_kernels_fit_and_use_tensor_cores(case, target):
    for kernel in sweeps(target, case):
        assert_fits(kernel)
        assert kernel.products > 0, f"{kernel.name} for {target} has no tensor-core instruction"
        assert kernel.count("tf32") == 0


@over(TF32 | BLOCKS_TF32, NVIDIA)
def test_fused_kernels_of_tf32_fit_and_use_tensor_cores(case, target, tf32_allowed):
    for kernel in sweeps(target, case):
        assert_fits(kernel)
        assert kernel.name in ("row_sums", "pull", "score_grad_block")
        assert kernel.count(PRODUCTS_OF_TF32) == kernel.products > 0, f"{kernel.name} for {target}"


SWEEPS = {"row_sums", "pull", "score_grad_block"}  # kernels that multiply


@over(ROWS)
def test_whole_losses_fit(case, target):
    kernels = compiled(target, case)
    assert {kernel.name for kernel in kernels} > {"normalize_and_score", "finalize_rows", "rows_backward"}
    for kernel in kernels:
        assert_fits(kernel)
        assert kernel.count("tf32") == 0
        assert kernel.products == 0 or kernel.name in SWEEPS


@pytest.fixture
def sweeps_alone():
    """The kernels of rows are not compiled, because a few cases cover them."""
    with contextlib.ExitStack() as stack:
        for module, name in itertools.product((rowwise, finalize), ROWWISE):
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name, mock.MagicMock()))
        yield


@over(LOSSES)
def test_sweeps_of_whole_losses_fit(case, target, sweeps_alone):
    for kernel in compiled(target, case):
        assert_fits(kernel)
        assert kernel.name in SWEEPS and kernel.products > 0, f"{kernel.name} for {target}"
        assert kernel.count("tf32") == 0


@over(LOSSES_TF32, NVIDIA)
def test_sweeps_of_whole_losses_of_tf32_fit(case, target, sweeps_alone, tf32_allowed):
    for kernel in compiled(target, case):
        assert_fits(kernel)
        assert kernel.count(PRODUCTS_OF_TF32) == kernel.products > 0, f"{kernel.name} for {target}"


EXPONENTIALS = {
    # The sums of a sweep, which take one more for each row and tile; then gradients, which take no other.
    "one side": ((problems.one_sided, lambda D: problems.problem(torch.bfloat16, D)), (1, 1)),
    # Columns far below a tile's largest row have exponentials of their own. If log-sum-exps lie far apart, gradients take two, in
    # a separate branch.
    "both sides": ((problems.both_sided, lambda D: problems.problem(torch.bfloat16, D)), (2, 3, 3)),
    # softplus and its slope share one exponential.
    "ψ": ((siglip(torch.bfloat16, 64)[0], lambda D: siglip(torch.bfloat16, D)[1]()), (1, 1)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("D", WIDTHS[2:])
@pytest.mark.parametrize("sides", EXPONENTIALS)
def test_a_score_costs_one_exponential_for_each_branch_of_a_sweep(target, D, sides, monkeypatch, sweeps_alone):
    """In 256 dimensions a gradient costs two if warps multiply alone (mma.sync): warps share the dimensions of the result, and
    each half needs all weights. Counted without software pipelining, which on some targets writes the loop's body twice.
    """
    monkeypatch.setattr("jessl_kernels.triton.launch.SAFE", True)
    (what, problem), expected = EXPONENTIALS[sides]
    found = compiled(target, (what, lambda: problem(D)))
    assert len(found) == len(expected)
    for kernel, each in zip(found, expected, strict=True):
        repeated = 2 if D == 256 and target in ("sm_80", "sm_86", "sm_120") else 1
        where = f"{kernel.name} for {target}: {kernel.exponentials:.2f} of {each}"
        if kernel.name == "pull":
            assert kernel.exponentials in (each, each * repeated), where
        else:
            assert each < kernel.exponentials <= (each + 0.6) * repeated, where


@pytest.mark.parametrize("case", [clip(torch.bfloat16, 64), clip(torch.float32, 64, N=64)], ids=["fused", "strips"])
def test_every_launch_takes_the_stream_that_is_current(case, monkeypatch):
    asked = []
    monkeypatch.setattr(compiling._Driver, "get_current_stream", lambda driver, device=None: asked.append(device) or 0)
    kernels = compiled("sm_90", case)
    assert len(asked) == len(kernels) and len(set(asked)) == 1


def test_without_software_pipelining_every_kernel_has_one_stage(monkeypatch):
    monkeypatch.setattr("jessl_kernels.triton.launch.SAFE", True)
    for case in itertools.chain.from_iterable(
        cases.values() for cases in (FUSED, BLOCKS, DISTANCES, STRIPS, LOSSES, ROWS)
    ):
        with noted(processors=4) as found:
            case[0](case[1]())
        assert {dict(one.constants)["num_stages"] for one in found} == {1}


@over(DISTANCES)
def test_distances_fit(case, target):
    for kernel in sweeps(target, case):
        assert_fits(kernel)
        assert kernel.products == 0 and kernel.count("tf32") == 0


@over(STRIPS)
def test_epilogues_of_strips_fit(case, target):
    for kernel in sweeps(target, case):
        assert_fits(kernel)
        assert kernel.products == 0 and kernel.count("tf32") == 0
