"""What `python -m benchmarks.gpu_tiles` times: each kernel, launched in the shape that it names."""

import pytest

pytest.importorskip("triton")

from benchmarks import gpu_tiles
from benchmarks.static_gpu.compiled import launches
from jessl_kernels.triton import shapes


@pytest.mark.parametrize("kernel", gpu_tiles.KERNELS)
@pytest.mark.parametrize("D", [16, 128])
def test_a_case_launches_its_kernel_in_its_shape(kernel, D):
    with launches("sm_90") as found:
        table, *others = gpu_tiles.candidates(kernel, gpu_tiles.score(256, D, "cpu"))
        assert table == shapes.HOPPER[kernel][D] and table not in others and others
        gpu_tiles.call((kernel, D, table), 256, "cpu")()
    (launched,) = found
    assert launched.name == ("pull" if kernel.startswith("pull") else "row_sums")
    assert [launched.options[name] for name in ("BM", "BN", "num_warps", "num_stages")] == list(table[:4])


def test_the_command_names_its_choices(capsys):
    with pytest.raises(SystemExit):
        gpu_tiles.options(["--out", "somewhere", "--kernels", "push"])
    assert "pull both scale" in capsys.readouterr().err
