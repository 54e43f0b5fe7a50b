// The only file that knows Python: it unpacks arguments, calls the core, and packs the results.
//
// Tensors arrive as addresses. jessl_kernels/backends/cpu.py, the only caller, has checked their shapes, types and
// presence.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "build_info.h"
#include "cpu/options.h"
#include "cpu/loss/arrangement.h"
#include "cpu/loss/row_loss.h"
#include "cpu/passes/attend.h"
#include "cpu/passes/neighbours.h"
#include "cpu/passes/passes.h"
#include "cpu/skip/skipping.h"
#include "pairwise/join.h"
#include "pairwise/score.h"
#include "pairwise/words.h"

namespace py = pybind11;
using namespace jessl;

namespace {

using Address = std::uintptr_t;  // 0 for an absent tensor
using AddressPair = std::pair<Address, Address>;
using PieceArgument = std::tuple<Address, std::int64_t, std::int64_t, std::int64_t>;  // data, rows, two strides
using BatchArgument = std::tuple<std::vector<PieceArgument>, std::int64_t, std::string>;

Kind kind_of(const std::string& word) { return named<Kind>(word, {"dot", "sqdist"}); }
Reduction reduction_of(const std::string& word) { return named<Reduction>(word, {"sum", "mean", "mean_counted"}); }
Distances distances_of(const std::string& word) {
  return named<Distances>(word, {"differences", "product", "product_if_far"});
}
JoinWord known_join(const std::string& word) {
  if (const std::optional<JoinWord> known = join_of(word)) return *known;
  throw std::invalid_argument("unknown join '" + word + "'");
}

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Batch batch(const BatchArgument& a) {
  const auto& [pieces, columns, type] = a;
  if (pieces.empty() || pieces.size() > most_pieces) throw std::invalid_argument("none or too many pieces");
  Batch batch{.pieces = {}, .rows = 0, .columns = columns, .element = element_named(type)};
  std::size_t k = 0;
  for (const auto& [data, rows, row_stride, column_stride] : pieces) {
    batch.pieces[k++] = {at<const void>(data), row_stride, column_stride, batch.rows, batch.rows + rows};
    batch.rows += rows;
  }
  batch.pieces[k - 1].end = std::numeric_limits<std::int64_t>::max();
  return batch;
}

// A problem, and the memory that it points into.
struct OwnedProblem {
  Problem problem;
  std::vector<std::int64_t> diagonals, keep;
  std::deque<CompactIds> ids;
};

std::unique_ptr<OwnedProblem> owned_problem(const BatchArgument& x, const BatchArgument& y, bool of_itself,
                                            bool symmetric, const std::string& kind, const std::string& phi,
                                            const std::pair<double, double>& phi_range, double scale, Address row_bias,
                                            Address col_bias, std::vector<std::int64_t> diagonals,
                                            std::vector<std::int64_t> keep, const std::vector<AddressPair>& same,
                                            const std::vector<AddressPair>& different, const std::string& distances,
                                            double far_apart, Address center, double skip_below) {
  if (same.size() > most_ids || different.size() > most_ids || keep.size() > most_kept)
    throw std::invalid_argument("too many ids or diagonals");
  auto owned = std::make_unique<OwnedProblem>();
  owned->diagonals = std::move(diagonals);
  owned->keep = std::move(keep);
  owned->problem = {.x = batch(x),
                    .y = batch(y),
                    .symmetric = symmetric,
                    .kind = kind_of(kind),
                    .phi = {phi_named(phi), phi_range.first, phi_range.second},
                    .scale = scale,
                    .row_bias = at<const void>(row_bias),
                    .col_bias = at<const void>(col_bias),
                    .exclude = {.diagonals = owned->diagonals.data(),
                                .keep = owned->keep.data(),
                                .diagonal_count = std::int64_t(owned->diagonals.size()),
                                .keep_count = std::int64_t(owned->keep.size())},
                    .distances = distances_of(distances),
                    .far_apart = far_apart,
                    .center = at<const void>(center),
                    .of_itself = of_itself,
                    .skip_below = skip_below};
  Problem& p = owned->problem;
  const auto compact = [&](const AddressPair& a) {
    const auto *row = at<const std::int64_t>(a.first), *col = at<const std::int64_t>(a.second);
    return owned->ids.emplace_back(row, p.N(), col, p.M()).pointers();
  };
  std::transform(same.begin(), same.end(), p.exclude.same.begin(), compact);
  std::transform(different.begin(), different.end(), p.exclude.different.begin(), compact);
  return owned;
}

// The parts of a loss of rows beside the scores: the terms of negatives and of positives; which pairs are positives;
// whether rows are normalized and columns summed too; and the log-sum-exps that are added to the negatives.
using TermsArgument = std::tuple<std::string, std::vector<double>, bool>;
using PositivesArgument = std::tuple<std::optional<std::int64_t>, Address, Address, Address, Address, Address>;
using RowArgument = std::tuple<TermsArgument, TermsArgument, PositivesArgument, bool, bool, Address>;

RowProblem row_problem(const OwnedProblem& owned, const RowArgument& a) {
  const auto terms = [](const TermsArgument& t) {
    return Terms{op_named(std::get<0>(t)), std::get<1>(t), std::get<2>(t)};
  };
  const auto& [negatives, of_positives, positives, normalize, cols, also] = a;
  const auto& [shift, index, row_ids, col_ids, score, col_score] = positives;
  return {owned.problem,
          {shift.has_value(), shift.value_or(0), at<const std::int64_t>(index), at<const std::int64_t>(row_ids),
           at<const std::int64_t>(col_ids), at<const void>(score), at<const void>(col_score)},
          terms(negatives),
          terms(of_positives),
          normalize,
          cols,
          at<const void>(also)};
}

// Runs f(a null pointer of the real type, options) without the interpreter's lock. It checks for signals now and then,
// and raises a KeyboardInterrupt. Returns the number that f returns, if any, and the tiles that f computed: looked at
// beforehand, scored, taken back to the embeddings.
template <class F>
auto unlocked(bool wide, int threads, std::int64_t workspace, F&& f) {
  Work work;
  const Options options{threads, workspace, chosen_level(),
                        [] {
                          const py::gil_scoped_acquire lock;
                          return PyErr_CheckSignals() != 0;
                        },
                        &work};
  const auto call = [&] {
    return wide ? f(static_cast<double*>(nullptr), options) : f(static_cast<float*>(nullptr), options);
  };
  try {
    const py::gil_scoped_release release;
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      return std::tuple(work.looked, work.scored, work.backward);
    } else {
      const double number = call();
      return std::tuple(number, work.looked, work.scored, work.backward);
    }
  } catch (const Stopped&) {
    throw py::error_already_set();
  }
}

// x, y, scale, row_bias, col_bias; and the columns of Y whose gradient y holds.
using GradientsArgument = std::tuple<Address, Address, Address, Address, Address, std::int64_t, std::int64_t>;

// Clears the gradients, because the core adds to them, on as many threads as pay. Clearing takes an eighth of the time
// of adding.
template <class Real>
Gradients<Real> gradients(const Problem& p, const Options& options, const GradientsArgument& a) {
  const auto cleared = [&options]<class T>(T* to, std::int64_t rows, std::int64_t D) {
    const auto clear = [=](std::int64_t first, std::int64_t end, int) {
      std::fill(to + first * D, to + end * D, T(0));
    };
    if (to) for_rows(rows, std::max<std::int64_t>(D / 8, 1), options, clear);
    return to;
  };
  const auto [x, y, scale, row_bias, col_bias, first, end] = a;
  return {.x = cleared(at<Real>(x), p.N(), p.D()),
          .y = cleared(at<Real>(y), end - first, p.D()),
          .scale = cleared(at<double>(scale), 1, 1),
          .row_bias = cleared(at<Real>(row_bias), p.N(), 1),
          .col_bias = cleared(at<Real>(col_bias), p.M(), 1),
          .columns = {first, end}};
}

// Addresses in the order of the pointers of a structure of row_loss.h; std::bit_cast turns them into it.
using SideArgument = std::array<Address, 8>;
using SlopesArgument = std::array<Address, 4>;
using GivenArgument = std::array<Address, 3>;
using LossArgument = std::tuple<std::string, std::string, double, Address, Address>;

void define_words(py::module_& module) {
  module.def("join", [](const std::string& name, const std::vector<double>& N, double P, double spread, double n) {
    const JoinWord word = known_join(name);
    if (int(N.size()) != word.tilts) throw std::invalid_argument("a join of another number of tilts");
    const Joined<double> of = joined(word.join, N.data(), P, spread, n);
    return std::tuple(of.value, std::tuple(std::vector<double>(of.N, of.N + word.tilts), of.P, of.spread));
  });
  module.def("psi", [](const std::string& name, double s) {
    const Op psi = op_named(name);
    if (psi == Op::logsumexp) throw std::invalid_argument("no psi: '" + name + "'");
    return std::tuple(psi_value(psi, s), psi_slope(psi, s));
  });
  module.def("phi", [](const std::string& name, double low, double high, double u) {
    const Phi phi{phi_named(name), low, high};
    return std::tuple(phi_value(phi, u), phi_slope(phi, u));
  });
}

void define_row_losses(py::module_& module) {
  module.def("row_sums", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                            const SideArgument& rows, const SideArgument& cols) {
    const RowProblem problem = row_problem(owned, row);
    return unlocked(owned.problem.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      using Side = SideArrays<Real>;
      row_sums<Real>(problem, options, std::bit_cast<Side>(rows), std::bit_cast<Side>(cols));
    });
  });
  module.def("row_grads", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                             const SideArgument& rows, const SideArgument& cols, const SlopesArgument& of_rows,
                             const SlopesArgument& of_cols, const GradientsArgument& out, const GivenArgument& given) {
    const RowProblem problem = row_problem(owned, row);
    return unlocked(owned.problem.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      using Side = SideArrays<Real>;
      using Slopes = SlopesArrays<Real>;
      row_grads<Real>(problem, options, std::bit_cast<Side>(rows), std::bit_cast<Side>(cols),
                      std::bit_cast<Slopes>(of_rows), std::bit_cast<Slopes>(of_cols),
                      gradients<Real>(owned.problem, options, out), std::bit_cast<GivenGradients<Real>>(given));
    });
  });
  module.def("row_loss", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                            const LossArgument& loss, const GradientsArgument& out, const GivenArgument& given) {
    const RowProblem problem = row_problem(owned, row);
    const auto& [join, reduction, factor, weights, col_weights] = loss;
    const Loss of{known_join(join), reduction_of(reduction), factor, at<const void>(weights),
                  at<const void>(col_weights)};
    return unlocked(owned.problem.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      return row_loss<Real>(problem, options, of, gradients<Real>(owned.problem, options, out),
                            std::bit_cast<GivenGradients<Real>>(given));
    });
  });
}

void define_attention(py::module_& module) {
  module.def("attend", [](const OwnedProblem& owned, const BatchArgument& values, int threads, std::int64_t workspace,
                          Address out, const AddressPair& totals) {
    unlocked(owned.problem.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      attend<Real>(owned.problem, batch(values), options, at<Real>(out),
                   {at<Real>(totals.first), at<Real>(totals.second)});
    });
  });
  module.def("attend_grads", [](const OwnedProblem& owned, const BatchArgument& values, const BatchArgument& upstream,
                                int threads, std::int64_t workspace, const AddressPair& totals, Address inner,
                                const GradientsArgument& out, Address of_values) {
    const Problem& p = owned.problem;
    unlocked(p.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      const Batch v = batch(values);
      if (of_values) std::fill_n(at<Real>(of_values), v.rows * v.columns, Real(0));
      attend_grads<Real>(p, v, batch(upstream), options, {at<const Real>(totals.first), at<const Real>(totals.second)},
                         at<const Real>(inner), gradients<Real>(p, options, out), at<Real>(of_values));
    });
  });
}

// Points in fp64, (N, D) and contiguous: their address, N and D.
using PointsArgument = std::tuple<Address, std::int64_t, std::int64_t>;

void define_neighbours(py::module_& module) {
  const auto points = [](const PointsArgument& a) {
    return Points{at<const double>(std::get<0>(a)), std::get<1>(a), std::get<2>(a)};
  };
  module.def("kth_distance",
             [=](const PointsArgument& z, const std::string& norm, std::int64_t k, int threads, Address radius) {
               unlocked(true, threads, 0, [&](auto*, const Options& options) {
                 kth_distance(points(z), named<Norm>(norm, {"euclidean", "max"}), k, options, at<double>(radius));
               });
             });
  module.def("count_nearer", [=](const PointsArgument& z, Address limit, int threads, Address count) {
    unlocked(true, threads, 0, [&](auto*, const Options& options) {
      count_nearer(points(z), at<const double>(limit), options, at<std::int64_t>(count));
    });
  });
  module.def("reach_of_nearer",
             [=](const PointsArgument& z, std::int64_t split, Address limit, int threads, Address reach) {
               unlocked(true, threads, 0, [&](auto*, const Options& options) {
                 reach_of_nearer(points(z), split, at<const double>(limit), options, at<double>(reach));
               });
             });
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiled core of jessl_kernels.";
  module.def(
      "build_info",
      [] {
        py::dict info;
        for (const auto& [key, value] : build_info()) info[py::str(key)] = py::str(value);
        info["python"] = PY_VERSION;
        info["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_MINOR);
        return info;
      },
      "What the extension was built with and what this processor can run, as a dict of strings.");
  module.def(
      "simd_level", [] { return name_of(chosen_level()); },
      "The instruction set in use: the best, or that of JESSL_SIMD.");
  py::class_<OwnedProblem>(module, "Problem").def(py::init(&owned_problem));
  define_words(module);
  define_row_losses(module);
  define_attention(module);
  define_neighbours(module);
  module.def("total", [](const OwnedProblem& owned, int threads, std::int64_t workspace, bool with_gradient,
                         const GradientsArgument& out) {
    const Problem& p = owned.problem;
    return unlocked(p.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      const Gradients<Real> to = gradients<Real>(p, options, out);
      return total<Real>(p, options, with_gradient ? &to : nullptr);
    });
  });
  module.def("top_k", [](const OwnedProblem& owned, std::int64_t k, int threads, std::int64_t workspace, Address values,
                         Address indices) {
    const Problem& p = owned.problem;
    unlocked(p.wide(), threads, workspace, [&]<class Real>(Real*, const Options& options) {
      top_k<Real>(p, k, options, at<Real>(values), at<std::int64_t>(indices));
    });
  });
  module.def("squared_radius", [](const BatchArgument& x, const BatchArgument& y, int threads, Address center) {
    const Batch of_x = batch(x), of_y = batch(y);
    return unlocked(of_x.element == Element::f64, threads, 0, [&]<class Real>(Real*, const Options& options) {
      return squared_radius<Real>(of_x, of_y, options, at<Real>(center));
    });
  });
  module.def("strip_rows",
             [](const OwnedProblem& owned, std::int64_t workspace) { return strip_rows(owned.problem, workspace); });
  module.def("bounds_scores", [](const OwnedProblem& owned) {
    const Options options{1, 0, chosen_level(), {}};
    const Problem& p = owned.problem;
    return p.wide() ? common_power<double>(p, options).has_value() : common_power<float>(p, options).has_value();
  });
  module.def("keeps_scores", [](const OwnedProblem& owned, bool of_scale, std::int64_t workspace) {
    return keeps_scores(owned.problem, of_scale, workspace);
  });
  module.def("put_in_order", [](const BatchArgument& points, Address permutation) {
    unlocked(false, 1, 0, [&](auto*, const Options& options) {
      spatial_sort(batch(points), at<std::int64_t>(permutation), options.interrupted);
    });
  });
}
