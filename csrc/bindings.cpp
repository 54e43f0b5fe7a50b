// The only file that knows Python: it unpacks arguments, calls the core, and packs what comes back.
//
// Tensors arrive as addresses. Everything about them (shapes, types, that they are there at all) was checked by
// jessl_kernels/backends/cpu.py, the only caller.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "build_info.h"
#include "cpu/driver.h"
#include "cpu/for_rows.h"
#include "cpu/labelled.h"
#include "cpu/order.h"
#include "cpu/paired.h"
#include "cpu/spread.h"

namespace py = pybind11;
using namespace jessl;

namespace {

using Address = std::uintptr_t;  // 0 for what is not there
using PieceArgument = std::tuple<Address, std::int64_t, std::int64_t>;
using BatchArgument = std::tuple<PieceArgument, std::int64_t, std::int64_t, std::string, PieceArgument, std::int64_t>;
using IdsArgument = std::pair<Address, Address>;

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
Op op_of(const std::string& word) { return named<Op>(word, {"logsumexp", "softplus"}); }
Join join_of(const std::string& word) { return named<Join>(word, {"none", "anchor", "minus", "softplus"}); }
Distances distances_of(const std::string& word) {
  return named<Distances>(word, {"differences", "product", "product_if_far"});
}

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Batch batch(const BatchArgument& a) {
  const auto piece = [](const PieceArgument& p) {
    const auto& [data, row_stride, column_stride] = p;
    return Piece{at<const void>(data), row_stride, column_stride};
  };
  const auto& [first, rows, columns, type, rest, split] = a;
  return {piece(first), rows, columns, element(type), piece(rest), split};
}

// A problem, and the lists it points into.
struct OwnedProblem {
  Problem problem;
  std::vector<std::int64_t> diagonals, keep;

  OwnedProblem(const BatchArgument& x, const BatchArgument& y, bool symmetric, const std::string& kind, const std::string& phi,
               const std::pair<double, double>& phi_range, double scale, Address row_bias, Address col_bias,
               std::vector<std::int64_t> diagonals_, std::vector<std::int64_t> keep_, const IdsArgument& same,
               const IdsArgument& different, const std::string& distances, double far_apart, Address center, double skip_below,
               const IdsArgument& moved)
      : diagonals(std::move(diagonals_)), keep(std::move(keep_)) {
    const auto ids = [](const IdsArgument& a) { return Ids{at<const std::int32_t>(a.first), at<const std::int32_t>(a.second)}; };
    problem = {batch(x), batch(y), symmetric, kind_of(kind), {phi_of(phi), phi_range.first, phi_range.second}, scale,
               at<const void>(row_bias), at<const void>(col_bias),
               {diagonals.data(), keep.data(), std::int64_t(diagonals.size()), std::int64_t(keep.size()), ids(same), ids(different),
                {at<const std::int64_t>(moved.first), at<const std::int64_t>(moved.second), std::get<1>(y)}},
               distances_of(distances), far_apart, at<const void>(center), skip_below};
  }
  OwnedProblem(const OwnedProblem&) = delete;
};

using Tiles = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

// Run f without the interpreter's lock; it looks for signals now and then, and a KeyboardInterrupt comes back as itself. Returns
// the tiles it computed: looked at beforehand, scored, pulled.
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
    return {work.looked, work.scored, work.pulled};
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

using Pair = std::pair<Address, Address>;

// Two addresses as one of the structs of two pointers.
template <template <class> class Struct, class Real>
Struct<Real> pair(const Pair& a) {
  return {at<Real>(a.first), at<Real>(a.second)};
}

using GradientsArgument = std::tuple<Address, Address, Address, Address, Address>;

// Cleared, since the core adds to them; by as many threads as that is worth, which takes an eighth of the time of adding.
template <class Real>
Gradients<Real> gradients(const Problem& p, const Options& options, const GradientsArgument& a) {
  const auto cleared = [&options]<class T>(T* to, std::int64_t rows, std::int64_t D) {
    const auto clear = [=](std::int64_t first, std::int64_t end, int) { std::fill(to + first * D, to + end * D, T(0)); };
    if (to) for_rows(rows, std::max<std::int64_t>(D / 8, 1), options, clear);
    return to;
  };
  const auto [x, y, scale, row_bias, col_bias] = a;
  return {cleared(at<Real>(x), p.N(), p.D()), cleared(at<Real>(y), p.M(), p.D()), cleared(at<double>(scale), 1, 1),
          cleared(at<Real>(row_bias), p.N(), 1), cleared(at<Real>(col_bias), p.M(), 1)};
}

// f with a null pointer of the problem's real type, to tell it which.
template <class F>
auto typed(const Problem& p, F&& f) {
  return p.wide() ? f(static_cast<double*>(nullptr)) : f(static_cast<float*>(nullptr));
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
  module.def("simd_level", [] { return name_of(chosen_level()); }, "The instruction set in use: the best, or that of JESSL_SIMD.");

  py::class_<OwnedProblem>(module, "Problem")
      .def(py::init<const BatchArgument&, const BatchArgument&, bool, const std::string&, const std::string&, const std::pair<double, double>&, double,
                    Address, Address, std::vector<std::int64_t>, std::vector<std::int64_t>, const IdsArgument&,
                    const IdsArgument&, const std::string&, double, Address, double, const IdsArgument&>());

  module.def("reduce", [](const OwnedProblem& owned, const std::string& op, int threads, std::int64_t workspace,
                          const Pair& values) {
    const Problem& p = owned.problem;
    return unlocked(threads, workspace, [&](const Options& options) {
      typed(p, [&]<class Real>(Real*) { reduce<Real>(p, op_of(op), options, pair<Sides, Real>(values)); });
    });
  });
  module.def("gradient", [](const OwnedProblem& owned, const std::string& op, int threads, std::int64_t workspace,
                            const Pair& row, const Pair& col, const GradientsArgument& out) {
    const Problem& p = owned.problem;
    return unlocked(threads, workspace, [&](const Options& options) {
      typed(p, [&]<class Real>(Real*) {
        gradient<Real>(p, op_of(op), options, pair<Upstream, Real>(row), pair<Upstream, Real>(col), gradients<Real>(p, options, out));
      });
    });
  });
  module.def("reduce_and_gradient", [](const OwnedProblem& owned, const std::string& op, int threads, std::int64_t workspace,
                                       const Pair& row, const Pair& col, const Pair& values, const GradientsArgument& out) {
    const Problem& p = owned.problem;
    return unlocked(threads, workspace, [&](const Options& options) {
      typed(p, [&]<class Real>(Real*) {
        reduce_and_gradient<Real>(p, op_of(op), options, pair<Weighted, Real>(row), pair<Weighted, Real>(col),
                                  pair<Sides, Real>(values), gradients<Real>(p, options, out));
      });
    });
  });
  module.def("squared_radius", [](const BatchArgument& x, const BatchArgument& y, int threads, Address center) {
    return unlocked_number(threads, 0, [&](const Options& options) {
      const Batch of_x = batch(x), of_y = batch(y);
      return of_x.element == Element::f64 ? squared_radius<double>(of_x, of_y, options, at<double>(center))
                                          : squared_radius<float>(of_x, of_y, options, at<float>(center));
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
  module.def("paired", [](const OwnedProblem& owned, const std::string& op, int threads, std::int64_t workspace, double weight,
                          const std::string& join, std::int64_t shift, bool normalize, bool columns, bool with_gradient,
                          const GradientsArgument& out) {
    const Problem& p = owned.problem;
    const Pairing pairing{shift, join_of(join), normalize, columns, weight};
    return unlocked_number(threads, workspace, [&](const Options& options) {
      return typed(p, [&]<class Real>(Real*) {
        const Gradients<Real> to = gradients<Real>(p, options, out);
        return paired<Real>(p, op_of(op), options, pairing, with_gradient ? &to : nullptr);
      });
    });
  });
  module.def("labelled", [](const OwnedProblem& owned, int threads, std::int64_t workspace, Address labels, bool mean_outside,
                            double weight, bool per_counted, bool normalize, bool with_gradient, const GradientsArgument& out) {
    const Problem& p = owned.problem;
    const Labelling labelling{at<const std::int64_t>(labels), mean_outside, weight, per_counted, normalize};
    return unlocked_number(threads, workspace, [&](const Options& options) {
      return typed(p, [&]<class Real>(Real*) {
        const Gradients<Real> to = gradients<Real>(p, options, out);
        return labelled<Real>(p, options, labelling, with_gradient ? &to : nullptr);
      });
    });
  });
  module.def("strip_rows", [](const OwnedProblem& owned, std::int64_t workspace) { return strip_rows(owned.problem, workspace); });
  module.def("bounds_scores", [](const OwnedProblem& owned) { return bounds_scores(owned.problem); });
  module.def("keeps_scores", [](const OwnedProblem& owned, bool of_scale, std::int64_t workspace) {
    return keeps_scores(owned.problem, of_scale, workspace);
  });
  module.def("put_in_order", [](const BatchArgument& points, Address order) {
    unlocked(1, 0, [&](const Options& options) { put_in_order(batch(points), at<std::int64_t>(order), options.interrupted); });
  });
  module.def("top_k", [](const OwnedProblem& owned, std::int64_t k, int threads, std::int64_t workspace, Address values, Address indices) {
    const Problem& p = owned.problem;
    unlocked(threads, workspace, [&](const Options& options) {
      typed(p, [&]<class Real>(Real*) { top_k<Real>(p, k, options, at<Real>(values), at<std::int64_t>(indices)); });
    });
  });
}
