// The only file that knows Python: it unpacks arguments, calls the core, and packs what comes back.
//
// Tensors arrive as addresses. Everything about them (shapes, types, that they are there at all) was checked by
// jessl_kernels/backends/cpu.py, the only caller.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "build_info.h"
#include "cpu/for_rows.h"
#include "cpu/loss/ids.h"
#include "cpu/loss/radius.h"
#include "cpu/loss/row_loss.h"
#include "cpu/passes/passes.h"
#include "cpu/skip/spatial_sort.h"
#include "pairwise/join.h"
#include "pairwise/psi.h"
#include "pairwise/score.h"

namespace py = pybind11;
using namespace jessl;

namespace {

using Address = std::uintptr_t;  // 0 for what is not there
using AddressPair = std::pair<Address, Address>;
using PieceArgument = std::tuple<Address, std::int64_t, std::int64_t, std::int64_t>;  // data, rows, two strides
using BatchArgument = std::tuple<std::vector<PieceArgument>, std::int64_t, std::string>;

// Words of the schema, in the order of the enumerations.
template <class Enum>
Enum named(const std::string& word, std::initializer_list<const char*> words) {
  int place = 0;
  for (const char* known : words) {
    if (word == known) return Enum(place);
    ++place;
  }
  throw std::invalid_argument("unknown word '" + word + "'");
}
Element element(const std::string& word) { return named<Element>(word, {"float32", "float64", "bfloat16", "float16"}); }
Kind kind_of(const std::string& word) { return named<Kind>(word, {"dot", "sqdist"}); }
PhiName phi_of(const std::string& word) { return named<PhiName>(word, {"identity", "clamp", "laplace"}); }
Op op_of(const std::string& word) { return named<Op>(word, {"logsumexp", "softplus", "log1m_exp", "step"}); }
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
  Batch batch{.pieces = {}, .rows = 0, .columns = columns, .element = element(type)};
  std::size_t k = 0;
  for (const auto& [data, rows, row_stride, column_stride] : pieces) {
    batch.pieces[k++] = {at<const void>(data), row_stride, column_stride, batch.rows, batch.rows + rows};
    batch.rows += rows;
  }
  batch.pieces[k - 1].end = std::numeric_limits<std::int64_t>::max();
  return batch;
}

// A problem, and what it points into.
struct OwnedProblem {
  Problem problem;
  std::vector<std::int64_t> diagonals, keep;
  std::deque<CompactIds> ids;

  OwnedProblem(const BatchArgument& x, const BatchArgument& y, bool of_itself, bool symmetric, const std::string& kind,
               const std::string& phi, const std::pair<double, double>& phi_range, double scale, Address row_bias,
               Address col_bias, std::vector<std::int64_t> diagonals_, std::vector<std::int64_t> keep_,
               const std::vector<AddressPair>& same, const std::vector<AddressPair>& different,
               const AddressPair& without, const AddressPair& within, const std::string& distances, double far_apart,
               Address center, double skip_below)
      : diagonals(std::move(diagonals_)), keep(std::move(keep_)) {
    problem = {.x = batch(x),
               .y = batch(y),
               .symmetric = symmetric,
               .kind = kind_of(kind),
               .phi = {phi_of(phi), phi_range.first, phi_range.second},
               .scale = scale,
               .row_bias = at<const void>(row_bias),
               .col_bias = at<const void>(col_bias),
               .exclude = {.diagonals = diagonals.data(),
                           .keep = keep.data(),
                           .diagonal_count = std::int64_t(diagonals.size()),
                           .keep_count = std::int64_t(keep.size())},
               .distances = distances_of(distances),
               .far_apart = far_apart,
               .center = at<const void>(center),
               .of_itself = of_itself,
               .skip_below = skip_below};
    const auto compact = [this](const AddressPair& a) {
      if (!a.first) return Ids{};
      const auto *row = at<const std::int64_t>(a.first), *col = at<const std::int64_t>(a.second);
      return ids.emplace_back(row, problem.N(), col, problem.M()).pointers();
    };
    if (same.size() > most_ids || different.size() > most_ids || keep.size() > most_kept)
      throw std::invalid_argument("too many ids or diagonals");
    Exclusion& exclude = problem.exclude;
    std::transform(same.begin(), same.end(), exclude.same.begin(), compact);
    std::transform(different.begin(), different.end(), exclude.different.begin(), compact);
    exclude.without = compact(without);
    exclude.within = compact(within);
  }
  OwnedProblem(const OwnedProblem&) = delete;
};

// What a loss of rows says beside the scores: its terms, of negatives and of positives; which pairs are positives;
// whether rows are normalized, and columns summed too; and what negatives are joined by.
using TermsArgument = std::tuple<std::string, std::vector<double>, bool>;
using PositivesArgument = std::tuple<std::optional<std::int64_t>, Address, Address, Address, Address, Address>;
using RowArgument = std::tuple<TermsArgument, TermsArgument, PositivesArgument, bool, bool, Address>;

RowProblem row_problem(const OwnedProblem& owned, const RowArgument& a) {
  const auto terms = [](const TermsArgument& t) {
    return Terms{op_of(std::get<0>(t)), std::get<1>(t), std::get<2>(t)};
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

using Tiles = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

// Run f without the interpreter's lock; it looks for signals now and then, and a KeyboardInterrupt comes back as
// itself. Returns the tiles it computed: looked at beforehand, scored, taken back to the embeddings.
template <class F>
Tiles unlocked(int threads, std::int64_t workspace, F&& f) {
  Work work;
  const Options options{threads, workspace, chosen_level(),
                        [] {
                          const py::gil_scoped_acquire lock;
                          return PyErr_CheckSignals() != 0;
                        },
                        &work};
  try {
    const py::gil_scoped_release release;
    f(options);
    return {work.looked, work.scored, work.backward};
  } catch (const Stopped&) {
    throw py::error_already_set();
  }
}

// The same for an f that returns a number, which comes first.
template <class F>
auto unlocked_number(int threads, std::int64_t workspace, F&& f) {
  double number = 0;
  const Tiles tiles = unlocked(threads, workspace, [&](const Options& options) { number = f(options); });
  return std::tuple_cat(std::tuple(number), tiles);
}

// x, y, scale, row_bias, col_bias; and the columns of Y whose gradient y holds.
using GradientsArgument = std::tuple<Address, Address, Address, Address, Address, std::int64_t, std::int64_t>;

// Cleared, since the core adds to them; by as many threads as that is worth, which takes an eighth of the time of
// adding.
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

// Of one side: reference, total, linear and count of negatives, and of positives.
using SideArgument = std::array<Address, 8>;
template <class Real>
SideArrays<Real> side(const SideArgument& a) {
  return {{at<Real>(a[0]), at<Real>(a[1]), at<Real>(a[2]), at<Real>(a[3])},
          {at<Real>(a[4]), at<Real>(a[5]), at<Real>(a[6]), at<Real>(a[7])}};
}
// N, P, spread, negative_spread.
using SlopesArgument = std::array<Address, 4>;
template <class Real>
SlopesArrays<Real> slopes(const SlopesArgument& a) {
  return {at<const Real>(a[0]), at<const Real>(a[1]), at<const Real>(a[2]), at<const Real>(a[3])};
}
// Of scores, columns' scores, and what negatives are joined by.
using GivenArgument = std::array<Address, 3>;
template <class Real>
GivenGradients<Real> given(const GivenArgument& a) {
  return {at<Real>(a[0]), at<Real>(a[1]), at<Real>(a[2])};
}
using LossArgument = std::tuple<std::string, std::string, double, Address, Address>;

// f with a null pointer of the problem's real type, to tell it which.
template <class F>
auto typed(const Problem& p, F&& f) {
  return p.wide() ? f(static_cast<double*>(nullptr)) : f(static_cast<float*>(nullptr));
}

void define_words(py::module_& module) {
  module.def("join", [](const std::string& name, const std::vector<double>& N, double P, double spread, double n) {
    const JoinWord word = known_join(name);
    if (int(N.size()) != word.tilts) throw std::invalid_argument("a join of another number of tilts");
    const JoinSlopes<double> slopes = join_slopes(word.join, N.data(), P, spread, n);
    return std::tuple(join_value(word.join, N.data(), P, spread, n),
                      std::tuple(std::vector<double>(slopes.N, slopes.N + word.tilts), slopes.P, slopes.spread));
  });
  module.def("psi", [](const std::string& name, double s) {
    const Op psi = op_of(name);
    if (psi == Op::logsumexp) throw std::invalid_argument("no psi: '" + name + "'");
    return std::tuple(psi_value(psi, s), psi_slope(psi, s));
  });
  module.def("phi", [](const std::string& name, double low, double high, double u) {
    const Phi phi{phi_of(name), low, high};
    return std::tuple(phi_value(phi, u), phi_slope(phi, u));
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
  define_words(module);

  py::class_<OwnedProblem>(module, "Problem")
      .def(py::init<const BatchArgument&, const BatchArgument&, bool, bool, const std::string&, const std::string&,
                    const std::pair<double, double>&, double, Address, Address, std::vector<std::int64_t>,
                    std::vector<std::int64_t>, const std::vector<AddressPair>&, const std::vector<AddressPair>&,
                    const AddressPair&, const AddressPair&, const std::string&, double, Address, double>());

  module.def("row_sums", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                            const SideArgument& rows, const SideArgument& cols) {
    const RowProblem problem = row_problem(owned, row);
    return unlocked(threads, workspace, [&](const Options& options) {
      typed(owned.problem,
            [&]<class Real>(Real*) { row_sums<Real>(problem, options, side<Real>(rows), side<Real>(cols)); });
    });
  });
  module.def("row_grads", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                             const SideArgument& rows, const SideArgument& cols, const SlopesArgument& of_rows,
                             const SlopesArgument& of_cols, const GradientsArgument& out, const GivenArgument& to) {
    const RowProblem problem = row_problem(owned, row);
    return unlocked(threads, workspace, [&](const Options& options) {
      typed(owned.problem, [&]<class Real>(Real*) {
        row_grads<Real>(problem, options, side<Real>(rows), side<Real>(cols), slopes<Real>(of_rows),
                        slopes<Real>(of_cols), gradients<Real>(owned.problem, options, out), given<Real>(to));
      });
    });
  });
  module.def("row_loss", [](const OwnedProblem& owned, const RowArgument& row, int threads, std::int64_t workspace,
                            const LossArgument& loss, const GradientsArgument& out, const GivenArgument& to) {
    const RowProblem problem = row_problem(owned, row);
    const auto& [join, reduction, factor, weights, col_weights] = loss;
    const Loss of{known_join(join), reduction_of(reduction), factor, at<const void>(weights),
                  at<const void>(col_weights)};
    return unlocked_number(threads, workspace, [&](const Options& options) {
      return typed(owned.problem, [&]<class Real>(Real*) {
        return row_loss<Real>(problem, options, of, gradients<Real>(owned.problem, options, out), given<Real>(to));
      });
    });
  });
  module.def("total", [](const OwnedProblem& owned, int threads, std::int64_t workspace, bool with_gradient,
                         const GradientsArgument& out) {
    const Problem& p = owned.problem;
    return unlocked_number(threads, workspace, [&](const Options& options) {
      return typed(p, [&]<class Real>(Real*) {
        const Gradients<Real> to = gradients<Real>(p, options, out);
        return total<Real>(p, options, with_gradient ? &to : nullptr);
      });
    });
  });
  module.def("top_k", [](const OwnedProblem& owned, std::int64_t k, int threads, std::int64_t workspace, Address values,
                         Address indices) {
    const Problem& p = owned.problem;
    unlocked(threads, workspace, [&](const Options& options) {
      typed(p, [&]<class Real>(Real*) { top_k<Real>(p, k, options, at<Real>(values), at<std::int64_t>(indices)); });
    });
  });
  module.def("squared_radius", [](const BatchArgument& x, const BatchArgument& y, int threads, Address center) {
    return unlocked_number(threads, 0, [&](const Options& options) {
      const Batch of_x = batch(x), of_y = batch(y);
      return of_x.element == Element::f64 ? squared_radius<double>(of_x, of_y, options, at<double>(center))
                                          : squared_radius<float>(of_x, of_y, options, at<float>(center));
    });
  });
  module.def("strip_rows",
             [](const OwnedProblem& owned, std::int64_t workspace) { return strip_rows(owned.problem, workspace); });
  module.def("bounds_scores", [](const OwnedProblem& owned) {
    const Problem& p = owned.problem;
    return p.wide() ? common_power<double>(p).has_value() : common_power<float>(p).has_value();
  });
  module.def("keeps_scores", [](const OwnedProblem& owned, bool of_scale, std::int64_t workspace) {
    return keeps_scores(owned.problem, of_scale, workspace);
  });
  module.def("put_in_order", [](const BatchArgument& points, Address permutation) {
    unlocked(1, 0, [&](const Options& options) {
      spatial_sort(batch(points), at<std::int64_t>(permutation), options.interrupted);
    });
  });
}
