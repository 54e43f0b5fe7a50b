"""Each measure of a representation against its definition, from all rows and from a sample, and what collapses do."""

import importlib
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk
from jessl_kernels.evaluate import sample, sphere, votes
from tests import data, placement
from tests.oracles import density, evaluation, geometry, information

judge = importlib.import_module("jessl_kernels.evaluate.judge")
N, D, CLASSES = 300, 12, 5
LABELS = torch.arange(N) % CLASSES
Z = (data.normals(CLASSES, D, seed=0)[LABELS] + 0.8 * data.normals(N, D, seed=1)).float() + 0.3
Z2 = Z + 0.5 * data.normals(N, D, seed=2).float()
X, Y = (F.normalize(z.double(), dim=1) for z in (Z, Z2))
FIXED = {"concentration": 30.0, "bandwidth": 0.9, "temperature": 0.1}
SHARED = ("uniformity", "vmf_entropy", "knn_entropy", "gaussian_entropy", "effective_rank")


@pytest.fixture(scope="module")
def found():
    return jk.evaluate(Z, LABELS, Z2, k=10, exact=True, **FIXED)


def definitions() -> dict[str, float]:
    s = 10 * X @ Y.T
    to_y, to_x = ((1 + (scores >= s.diagonal()[:, None]).fill_diagonal_(False).sum(dim=1)) for scores in (s, s.T))
    return {
        "uniformity": geometry.uniformity(X),
        "vmf_entropy": density.kde_entropy(Z.double(), kernel="vmf", concentration=30.0),
        "knn_entropy": evaluation.sphere_knn_entropy(Z, 3),
        "gaussian_entropy": density.kde_entropy(Z.double(), bandwidth=0.9),
        "effective_rank": evaluation.effective_rank(Z),
        "knn_accuracy": evaluation.knn_accuracy(X, LABELS, 10),
        "nn_accuracy": evaluation.knn_accuracy(X, LABELS, 1),
        "alignment": geometry.alignment(X, Y).mean(),
        "info_nce": information.info_nce(s),
        "z_to_z2/recall@1": (to_y <= 1).double().mean(),
        "z_to_z2/recall@5": (to_y <= 5).double().mean(),
        "z_to_z2/median_rank": to_y.median(),
        "z2_to_z/recall@1": (to_x <= 1).double().mean(),
        "z2_to_z/recall@5": (to_x <= 5).double().mean(),
        "z2_to_z/median_rank": to_x.median(),
    }


def test_every_measure_of_all_rows_is_that_of_its_definition(found):
    expected = {name: float(value) for name, value in definitions().items()}
    assert {name: measure.value for name, measure in found.measures.items()} == pytest.approx(expected, abs=5e-6)
    assert list(found.measures)[:5] == list(SHARED)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_other_backends_find_the_same(backend, found):
    with jk.use_backend(backend):
        other = jk.evaluate(Z, LABELS, Z2, k=10, exact=True, **FIXED)
    for name, measure in found.measures.items():
        assert other[name].value == pytest.approx(measure.value, abs=5e-6)
        assert other[name].stderr == pytest.approx(measure.stderr, abs=5e-6, nan_ok=True)


@pytest.fixture(scope="module")
def on_the_host():
    """Made before tensors are on a device."""
    return jk.evaluate(Z[:40], LABELS[:40], Z2[:40], k=5, queries=25, **FIXED)


@pytest.mark.parametrize("backend", ["triton"])
def test_rows_on_a_device_are_judged_there(on_the_host, backend, monkeypatch):
    monkeypatch.setattr(
        placement, "_refuse_to_the_package", lambda what: None
    )  # it is no loss, and may wait for the GPU
    there = (of[:40].cuda() for of in (Z, LABELS, Z2))
    with jk.use_backend(backend):
        found = jk.evaluate(*there, k=5, queries=25, **FIXED)
    for name, measure in on_the_host.measures.items():
        assert found[name].value == pytest.approx(measure.value, abs=1e-5)


def test_a_sample_of_all_rows_but_a_few_is_compared_with_all_of_them():
    drawn = jk.evaluate(Z, LABELS, Z2, k=10, queries=250, seed=3, **FIXED)
    q = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:250]
    assert (drawn.queries, drawn.exact) == (250, False)
    s = 10 * X @ Y.T
    loss = (s.logsumexp(dim=1) - s.diagonal())[q]
    assert drawn["info_nce"].value == pytest.approx(math.log(N) - float(loss.mean()), abs=1e-5)
    assert drawn["info_nce"].stderr == pytest.approx(float(loss.std()) / math.sqrt(250), rel=1e-4)
    rank = 1 + (s.diagonal()[:, None] <= s.T).fill_diagonal_(False).sum(dim=1)[q]
    assert drawn["z2_to_z/recall@1"].value == pytest.approx(float((rank <= 1).double().mean()))
    kernel = density.log_kernel(X, X, kernel="vmf", concentration=30.0).fill_diagonal_(-torch.inf)
    h = math.log(N - 1) - kernel.logsumexp(dim=1)[q]
    assert drawn["vmf_entropy"].value == pytest.approx(float(h.mean()), abs=1e-5)
    assert drawn["vmf_entropy"].stderr == pytest.approx(float(h.std()) / math.sqrt(250), rel=1e-4)
    gaussian = density.log_kernel(Z.double(), Z.double(), bandwidth=0.9).fill_diagonal_(-torch.inf)
    h = math.log(N - 1) - gaussian.logsumexp(dim=1)[q]
    assert drawn["gaussian_entropy"].value == pytest.approx(float(h.mean()), abs=1e-5)
    near = (-4 + 4 * X @ X.T).fill_diagonal_(-torch.inf)
    means = (near.logsumexp(dim=1) - math.log(N - 1))[q].exp()
    assert drawn["uniformity"].value == pytest.approx(math.log(float(means.mean())), abs=1e-5)
    assert drawn["uniformity"].stderr == pytest.approx(float(means.std() / means.mean()) / math.sqrt(250), rel=1e-3)
    assert drawn["alignment"].value == pytest.approx(float((X - Y).square().sum(dim=1).mean()), abs=1e-6)


def test_intervals_of_samples_hold_the_number_of_all_rows(found):
    missed = dict.fromkeys((*SHARED[:4], "knn_accuracy", "info_nce"), 0)
    for seed in range(40):
        drawn = jk.evaluate(Z, LABELS, Z2, k=10, queries=60, seed=seed, **FIXED)
        for name in missed:
            low, high = drawn[name].interval
            missed[name] += not low <= found[name].value <= high
    # Of 40 intervals of 95 % more than 7 miss with a probability below 1e-3; a sample of 60 out of 300 misses more seldom.
    assert max(missed.values()) <= 7


def test_labels_do_not_move_the_other_measures(found):
    without = jk.evaluate(Z, exact=True, **{**FIXED, "temperature": None})
    assert {name: without[name] for name in SHARED} == {name: found[name] for name in SHARED}
    assert list(without.measures) == list(SHARED)


def test_widths_that_are_not_given_are_the_best_of_those_that_are_tried():
    found = jk.evaluate(Z, z2=Z2, exact=True)
    tried = {k: float(density.kde_entropy(Z.double(), kernel="vmf", concentration=k)) for k in sphere.CONCENTRATIONS}
    assert found["vmf_entropy"].value == pytest.approx(min(tried.values()), abs=1e-5)
    assert found["vmf_entropy"].setting == f"κ = {min(tried, key=tried.get):g}"
    assert dict(found.curves.concentration) == pytest.approx(tried, abs=1e-4)
    h = density.bandwidth_rule("silverman", Z.double()).square().mean().sqrt()
    entropies = [float(density.kde_entropy(Z.double(), bandwidth=h * 2 ** (-step / 2))) for step in range(-2, 10)]
    assert found["gaussian_entropy"].value == pytest.approx(min(entropies), abs=1e-5)
    bounds = {t: float(information.info_nce(X @ Y.T / t)) for t in (1.0, 0.5, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01)}
    assert found["info_nce"].value == pytest.approx(max(bounds.values()), abs=1e-5)
    assert found["info_nce"].setting == f"temperature {max(bounds, key=bounds.get):g}"


def test_widths_are_settled_by_the_first_queries(monkeypatch):
    monkeypatch.setattr(sample, "PILOT", 50)
    found = jk.evaluate(Z, queries=200, seed=1)
    q = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    kernel = density.log_kernel(X, X, kernel="vmf", concentration=16.0).fill_diagonal_(-torch.inf)
    of_first = math.log(N - 1) - kernel.logsumexp(dim=1)[q[:50]].mean()
    assert dict(found.curves.concentration)[16.0] == pytest.approx(float(of_first), abs=1e-4)


def test_where_all_rows_are_queries_widths_are_settled_by_some_of_every_part_of_the_file():
    index = sample.Sample(100_000, None).first(1024, torch.device("cpu")).index
    assert len(index.unique()) == 1024
    assert (torch.histc(index.double(), 10, 0, 100_000) > 50).all()


def test_neighbours_are_found_in_parts(monkeypatch, found):
    monkeypatch.setattr(sphere, "GATHERED", 7 * D * 18)
    monkeypatch.setattr(votes, "COMPARED", 700)
    assert jk.evaluate(Z, LABELS, Z2, k=10, exact=True, **FIXED) == found


def test_the_sweeps_are_as_many_as_it_says(monkeypatch):
    made = []
    for module, name in ((sample, "row_sums"), (sphere, "pairwise_topk")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, original=original, **o: made.append(1) or original(*args, **o))
    retrieval = importlib.import_module("jessl_kernels.functional.retrieval")
    steps = retrieval.pairwise_sum
    monkeypatch.setattr(retrieval, "pairwise_sum", lambda *args, **o: made.append(1) or steps(*args, **o))
    for options, sweeps in (({}, 3), ({"labels": LABELS}, 3), ({"labels": LABELS, "z2": Z2}, 6)):
        made.clear()
        fixed = FIXED if "z2" in options else {**FIXED, "temperature": None}
        assert jk.evaluate(Z, **options, **fixed).sweeps == sweeps
        assert len(made) == sweeps


def test_references_are_those_of_even_directions():
    z = data.normals(4000, 6, seed=4).float()
    found = jk.evaluate(z, queries=1000)
    for name in ("uniformity", "vmf_entropy", "knn_entropy"):
        assert found[name].value == pytest.approx(found[name].reference, abs=0.05)
    assert found["vmf_entropy"].reference == pytest.approx(density.log_sphere_area(6))
    assert found["effective_rank"].value == pytest.approx(6, abs=0.01) and found["effective_rank"].reference == 6


@pytest.mark.parametrize("D", [2, 3, 5, 64, 513])
def test_the_area_of_a_cap_at_any_distance(D):
    chord = torch.linspace(0.001, 1.999, 301, dtype=torch.float64)
    expected = evaluation.log_cap_area(chord, D)
    seen = expected - density.log_sphere_area(D) > -600  # below, the library's share underflows
    assert seen.sum() > 100
    torch.testing.assert_close(sphere.log_cap_area(chord, D)[seen], expected[seen], rtol=1e-11, atol=1e-11)
    if D == 3:  # Archimedes
        torch.testing.assert_close(sphere.log_cap_area(chord, D), (math.pi * chord.square()).log(), rtol=0, atol=1e-12)
    assert sphere.log_cap_area(torch.zeros(1), D) == -torch.inf


def test_near_duplicates_are_told_apart():
    """Cosines in fp32 can neither measure these distances nor put them in order."""
    x = F.normalize(data.normals(40, 8, seed=5), dim=1)
    z = torch.cat([x, *(x + step * 1e-6 * data.normals(40, 8, seed=step) for step in range(1, 7))]).float()
    for options in ({"exact": True}, {"queries": 279}):
        found = jk.evaluate(z, **options)
        assert found["knn_entropy"].value == pytest.approx(
            evaluation.sphere_knn_entropy(z, 3), abs=0.05
        )  # unit rows in fp32


def test_neighbours_that_are_nearer_weigh_more():
    """Two of the own class against three of another, which are farther off."""
    angle = torch.tensor([0.0, 0.02, 0.03, 0.9, 0.91, 0.92])
    z, labels = torch.stack([angle.cos(), angle.sin()], dim=1), torch.tensor([0, 0, 0, 1, 1, 1])
    near = sphere.neighbours(z, sample.Sample(6, None), 5)
    assert votes.right(near, labels, labels, 5).all()


def test_collapse_is_a_result():
    found = jk.evaluate(torch.ones(50, 4), torch.arange(50) % 2, torch.ones(50, 4))
    assert found["uniformity"].value == pytest.approx(0, abs=1e-6)
    assert found["effective_rank"].value == pytest.approx(1, abs=1e-5)
    assert found["knn_entropy"].value == found["gaussian_entropy"].value == -math.inf
    assert found["gaussian_entropy"].note == "all rows are the same"
    assert "coincide with 3 other rows: 50 of 50" in found["knn_entropy"].note
    assert "κ = 4096 is the narrowest" in found["vmf_entropy"].note
    assert found["z_to_z2/recall@1"].value == 0 and found["z_to_z2/median_rank"].value == 50
    assert found["info_nce"].value == pytest.approx(0, abs=1e-5) and found["alignment"].value == 0
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["measures"]["knn_entropy"]["value"] is None and "-inf" in str(found)
    assert len(found.plot().axes) == 3


def test_constant_columns_count_for_the_rank_alone():
    padded = torch.cat([Z, torch.zeros(N, 3)], dim=1)
    found, padded = (jk.evaluate(z, exact=True, **{**FIXED, "temperature": None}) for z in (Z, padded))
    assert padded["effective_rank"].value == pytest.approx(found["effective_rank"].value, abs=1e-4)
    assert padded["effective_rank"].reference == D + 3
    assert padded["uniformity"].value == pytest.approx(found["uniformity"].value, abs=1e-6)


@pytest.mark.parametrize("magnitude", [1e25, 1e-25])
def test_numbers_whose_squares_are_none_in_fp32(magnitude):
    z, other = torch.randn(200, 6), torch.randn(200, 6)
    plain, found = jk.evaluate(z, z2=other), jk.evaluate(z * magnitude, z2=other * magnitude)
    for name, measure in found.measures.items():
        moved = 6 * math.log(magnitude) * (name == "gaussian_entropy")
        assert measure.value - moved == pytest.approx(plain[name].value, rel=1e-5, abs=1e-4), name
    with pytest.raises(ValueError, match=r"bandwidth is 1\.0, must lie between"):
        jk.evaluate(z * magnitude, bandwidth=1.0)


def test_a_row_that_is_alone_in_its_class_does_not_count():
    labels = LABELS.clone()
    labels[7] = 99
    found = jk.evaluate(Z, labels, k=10, exact=True)
    note = "rows that are alone in their class do not count: 1 of 300"
    assert found["knn_accuracy"].note == note and note in str(found)
    assert found["knn_accuracy"].share_of == N - 1
    assert found["nn_accuracy"].value == pytest.approx(evaluation.knn_accuracy(X, labels, 1) * N / (N - 1), abs=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_few_rows_are_judged(rows):
    found = jk.evaluate(Z[:rows], torch.zeros(rows, dtype=torch.int64), Z2[:rows], k=1)
    assert found["nn_accuracy"].value == 1 and found["info_nce"].reference == math.log(rows)
    assert math.isfinite(found["knn_entropy"].value) and len(str(jk.evaluate(Z[:rows])).splitlines()) >= 8


def test_a_share_of_all_queries_has_an_interval_with_a_width():
    found = jk.evaluate(Z, z2=Z, queries=100)
    share = found["z_to_z2/recall@1"]
    assert share.value == 1 and share.interval == pytest.approx((100 / (100 + 1.96**2), 1.0))


def test_a_bound_near_its_cap_carries_a_note(found):
    note = jk.evaluate(Z, z2=Z)["info_nce"].note
    assert (
        note.startswith("temperature 0.01 is the smallest that is tried; near its cap") and not found["info_nce"].note
    )
    assert found["info_nce"].reference == math.log(N)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_is_read(dtype, found):
    other = jk.evaluate(Z.to(dtype), LABELS.int(), Z2.to(dtype), k=10, exact=True, **FIXED)
    for name in (*SHARED, "alignment", "info_nce"):
        assert other[name].value == pytest.approx(found[name].value, rel=1e-2, abs=1e-2)


def test_arrays_are_tensors_and_autocast_changes_nothing(found):
    arrays = (z.numpy() for z in (Z, LABELS.to(torch.uint8), Z2))
    with torch.autocast("cpu", torch.bfloat16):
        assert jk.evaluate(*arrays, k=10, exact=True, **FIXED) == found


def test_autocast_does_not_choose_neighbours():
    """Cosines of this arc are all equal in bf16."""
    angle = torch.arange(60) * 1e-3
    arc = torch.stack([angle.cos(), angle.sin()], dim=1)
    widths = {"concentration": 30.0, "bandwidth": 0.9}
    plain = jk.evaluate(arc, **widths)
    with torch.autocast("cpu", torch.bfloat16):
        assert jk.evaluate(arc, **widths) == plain


def test_the_same_seed_draws_the_same_queries_and_leaves_the_generators():
    before = torch.get_rng_state()
    first, second, other = (jk.evaluate(Z, queries=50, seed=seed) for seed in (1, 1, 2))
    assert first == second and first["uniformity"] != other["uniformity"]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_table_has_a_line_for_each_measure_and_json_all_numbers(found):
    lines = str(found).splitlines()
    assert lines[0].startswith("300 rows of 12 columns, all of them queries; 6 sweeps, ")
    assert [line.split()[0] for line in lines[3:]] == list(found.measures)
    assert "κ = 30" in lines[4] and f"{found['vmf_entropy'].reference:.3f} even on the sphere" in lines[4]
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["measures"]["alignment"]["value"] == found["alignment"].value
    assert told["measures"]["effective_rank"]["interval"] == [None, None]
    assert (told["N"], told["D"], told["queries"]) == (N, D, N)
    assert len(told["curves"]["singular"]) == D


def test_the_figure_shows_spectrum_entropy_and_shares(found, tmp_path):
    figure = found.plot(tmp_path / "a.png")
    spectrum, entropy, shares = figure.axes
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(spectrum.lines[0].get_ydata()) == D
    assert list(entropy.lines[0].get_xdata()) == [30.0]
    accuracy, recall = shares.lines
    assert accuracy.get_ydata()[-1] == found["knn_accuracy"].value and list(accuracy.get_xdata()) == [1, 2, 5, 10]
    assert recall.get_ydata()[0] == found["z_to_z2/recall@1"].value
    assert len(jk.evaluate(Z).plot().axes) == 2


def test_a_bar_names_the_sweep_where_it_is_wanted(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    jk.evaluate(Z, progress=True)
    assert "3/3" in capsys.readouterr().err
    jk.evaluate(Z)
    assert capsys.readouterr() == ("", "")


def marred(row, value):
    z = Z.clone()
    z[row] = value
    return z


WRONG = {
    "nothing": ({"z": object()}, TypeError, "z is a object, .*, must be"),
    "integers": ({"z": LABELS}, TypeError, "z is a tensor .*int64, must be"),
    "nan": ({"z": marred(219, math.nan)}, ValueError, "z is nan at row 219, column 0, must have neither NaN"),
    "nan of z2": ({"z2": marred(3, math.inf)}, ValueError, "z2 is inf at row 3, column 0, must have neither"),
    "zero": ({"z": marred(5, 0.0)}, ValueError, "z is 0 in row 5, must have a direction"),
    "one row": ({"z": Z[:1]}, ValueError, r"z is of shape \(1, 12\), must have at least 2 rows and 2 columns"),
    "one column": ({"z": Z[:, 0]}, ValueError, r"z is of shape \(300, 1\), must have at least 2 rows and 2 columns"),
    "rows of z2": ({"z2": Z[1:]}, ValueError, r"z2 is of shape \(299, 12\), must be \(300, 12\) like z: row i"),
    "columns of z2": ({"z2": Z[:, 1:]}, ValueError, r"z2 is of shape \(300, 11\), must have 12 columns like z"),
    "dtype of z2": ({"z2": Z.double()}, TypeError, "z2 is a tensor .*float64, must be float32 like z"),
    "type of z2": ({"z2": "z2"}, TypeError, "z2 is a str, 'z2', must be"),
    "labels of another length": ({"labels": LABELS[1:]}, ValueError, r"labels is of shape \(299,\), must be \(300,\)"),
    "labels of floats": ({"labels": LABELS.float()}, TypeError, "labels is a tensor .*float32, must be"),
    "labels of words": (
        {"labels": np.array(["a"] * N)},
        TypeError,
        "labels is an array of shape .* must be of integers",
    ),
    "negative label": ({"labels": LABELS - 1}, ValueError, "labels is -1 in row 0, must be >= 0"),
    "classes of one": ({"labels": torch.arange(N)}, ValueError, "labels is different in all rows, must have a class"),
    "k": ({"labels": LABELS, "k": N}, ValueError, "k is 300, must be >= 1 and < 300, the number of rows"),
    "fewer rows than k": ({"z": Z[:20], "labels": LABELS[:20]}, ValueError, "k is 20, must be >= 1 and < 20"),
    "no k": ({"k": 0}, ValueError, "k is 0, must be >= 1"),
    "half a k": ({"k": 0.5}, TypeError, "k is a float, 0.5, must be an int"),
    "queries": ({"queries": 1}, ValueError, "queries is 1, must be at least 2"),
    "words for queries": ({"queries": "all"}, TypeError, "queries is a str, 'all', must be an int"),
    "seed": ({"seed": -1}, ValueError, "seed is -1, must be >= 0"),
    "no seed": ({"seed": None}, TypeError, "seed is None, must be an int"),
    "exact": ({"exact": 1}, TypeError, "exact is a int, 1, must be True or False"),
    "progress": ({"progress": 1}, TypeError, "progress is a int, 1, must be True or False"),
    "concentration": ({"concentration": 0}, ValueError, "concentration is 0, must be > 0"),
    "bandwidth": ({"bandwidth": "scott"}, TypeError, "bandwidth is a str, 'scott', must be a number"),
    "temperature": ({"z2": Z2, "temperature": -1.0}, ValueError, "temperature is -1.0, must be > 0"),
    "a bandwidth whose square is 0": ({"bandwidth": 1e-170}, ValueError, "bandwidth is 1e-170, must lie between 1e-18"),
    "masked labels": (
        {"labels": np.ma.masked_array(LABELS.numpy(), LABELS.numpy() == 1)},
        TypeError,
        r"labels is a masked array of shape \(300,\), must not be masked",
    ),
    "temperature alone": ({"temperature": 1.0}, ValueError, "temperature is given, must be None without z2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_argument_is_named_before_any_sweep(case, monkeypatch):
    changed, error, message = WRONG[case]
    monkeypatch.setattr(judge.space, "singular_values", None)
    with pytest.raises(error, match=f"^evaluate: {message}"):
        jk.evaluate(**{"z": Z, **changed})
