// The only file of the CUDA backend that knows Python: it unpacks arguments and calls the functions of strip.h,
// pairs.h and whole.h.
//
// Tensors arrive as addresses, 0 for an absent one. The callers, in jessl_kernels/cuda, have checked their shapes,
// types and presence.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/build_info.h"
#include "cuda/strip.h"
#include "cuda/whole.h"
#include "pairwise/words.h"

namespace py = pybind11;
using namespace jessl;
using namespace jessl::cuda;

namespace {

using Address = std::uintptr_t;
using AddressPair = std::pair<Address, Address>;
using StripArgument = std::tuple<Address, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
using PointsArgument = std::tuple<Address, std::int64_t, std::int64_t, std::int64_t, std::string>;
using PiecesArgument = std::vector<std::pair<PointsArgument, std::int64_t>>;  // tensors and their rows
using SquaresArgument = std::tuple<Address, Address, Address>;
using VectorsArgument = std::tuple<Address, Address, Address, Address, std::int64_t>;  // four vectors and a stride
using SidesArgument = std::tuple<VectorsArgument, VectorsArgument, Address>;
using GradsArgument = std::tuple<std::array<Address, 6>, std::string>;
using PartnersArgument = std::tuple<std::int64_t, std::int64_t, std::int64_t, Address>;
using PairsArgument = std::tuple<PointsArgument, PointsArgument, std::int64_t, std::int64_t, bool, bool, bool>;
// x, y, columns of y, row bias, column bias, scale, whether the scale's is fp64
using PairGradsArgument =
    std::tuple<Address, Address, std::pair<std::int64_t, std::int64_t>, Address, Address, Address, bool>;
using PositivesArgument = std::tuple<bool, std::int64_t, Address, AddressPair, std::string, std::vector<double>>;
using LossArgument = std::tuple<std::string, std::string, double, Address, Address>;
using PullArgument = std::tuple<Address, PointsArgument, PointsArgument, PartnersArgument, bool>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void full(bool too_many, const char* what) {
  if (too_many) throw std::invalid_argument(std::string("too many ") + what);
}

Offsets offsets(const std::vector<std::int64_t>& values) {
  full(values.size() > most_offsets, "diagonals");
  Offsets made;
  std::copy(values.begin(), values.end(), made.values);
  made.count = int(values.size());
  return made;
}

IdPair id_pair(const AddressPair& pair) {
  return {at<const std::int64_t>(pair.first), at<const std::int64_t>(pair.second)};
}

template <int most>
IdPairs<most> id_pairs(const std::vector<AddressPair>& pairs) {
  full(pairs.size() > most, "pairs of ids");
  IdPairs<most> made;
  std::transform(pairs.begin(), pairs.end(), made.pairs, id_pair);
  made.count = int(pairs.size());
  return made;
}

Tilts tilts(const std::string& op, const std::vector<double>& values) {
  full(values.size() > most_tilts, "tilts");
  Tilts made{op_named(op), {}, int(values.size())};
  std::transform(values.begin(), values.end(), made.values, [](double tilt) { return float(tilt); });
  return made;
}

Sweep sweep(int device, Address stream, const std::string& phi, const std::pair<double, double>& parameters,
            Address scale, double scale_number, Address row_bias, Address col_bias,
            const std::vector<std::int64_t>& diagonals, const std::vector<std::int64_t>& keep,
            const std::vector<AddressPair>& same, const std::vector<AddressPair>& different, const AddressPair& without,
            const AddressPair& within, const std::string& op, const std::vector<double>& of_tilts) {
  return {.device = device,
          .stream = at<void>(stream),
          .scores = {.phi = {phi_named(phi), parameters.first, parameters.second},
                     .scale = at<const float>(scale),
                     .scale_number = float(scale_number),
                     .row_bias = at<const float>(row_bias),
                     .col_bias = at<const float>(col_bias),
                     .diagonals = offsets(diagonals),
                     .keep = offsets(keep),
                     .same = id_pairs<most_same>(same),
                     .different = id_pairs<most_different>(different),
                     .without = id_pair(without),
                     .within = id_pair(within),
                     .single = {}},
          .tilts = tilts(op, of_tilts)};
}

Strip strip(const StripArgument& a) {
  const auto [t, ld, first_row, rows, columns] = a;
  return {at<float>(t), ld, first_row, rows, columns};
}

Element element_of(const std::string& type) {
  const auto element = element_named(type);
  if (element == Element::f64) throw std::invalid_argument("no kernel is compiled for float64");
  return element;
}

Points points(const PointsArgument& a) {
  const auto& [data, row_stride, column_stride, dimensions, type] = a;
  return {at<const void>(data), row_stride, column_stride, dimensions, element_of(type)};
}

Pieces pieces(const PiecesArgument& all) {
  full(all.size() > most_pieces, "pieces");
  Pieces made;
  for (const auto& [rows, count] : all) {
    made.given[made.count] = points(rows);
    made.rows[made.count++] = count;
  }
  return made;
}

Partners partners(const PartnersArgument& a) {
  const auto [N, M, shift, index] = a;
  return {N, M, shift, at<const std::int64_t>(index)};
}

Pull pull(const PullArgument& a) {
  const auto& [weights, ahead, behind, of, distances] = a;
  return {at<const float>(weights), points(ahead), points(behind), partners(of), distances};
}

Pairs pairs(const PairsArgument& a) {
  const auto& [x, y, N, M, distances, of_itself, few] = a;
  const Pairs made{points(x), points(y), N, M, distances, of_itself, few};
  full(few && made.x.dimensions > most_few, "dimensions");
  return made;
}

PairGrads pair_grads_to(const PairGradsArgument& a) {
  const auto& [x, y, columns, row_bias, col_bias, scale, wide] = a;
  return {.x = at<float>(x),
          .y = at<float>(y),
          .first = columns.first,
          .end = columns.second,
          .row_bias = at<float>(row_bias),
          .col_bias = at<float>(col_bias),
          .scale = {at<void>(scale), wide},
          .fresh = false};
}

// positives: whether there is a single one of each row, its shift or its index; ids of several; what is summed over
// them
Whole whole(const Sweep& words, const PiecesArgument& x, const PiecesArgument& y, std::int64_t N, std::int64_t M,
            bool distances, bool few, bool normalize, bool cols, const PositivesArgument& of, const LossArgument& loss,
            bool with_gradient) {
  const auto& [single, shift, index, ids, op, of_tilts] = of;
  const auto& [name, reduction, factor, weights, col_weights] = loss;
  const auto join = join_of(name);
  if (!join || join->tilts != words.tilts.count) throw std::invalid_argument("no join '" + name + "' of these tilts");
  const Tilts of_positives = tilts(op, of_tilts);
  const bool several = ids.first != 0, counts = reduction == "mean_counted", counted = counts && (several || index);
  const bool mean = reduction == "mean" || (counts && single && !index);  // with a shift every row has a positive
  Sweep negatives = words, positives = words;
  if (single) negatives.scores.single = {N, M, shift, at<const std::int64_t>(index)};
  if (several) negatives.scores.without = positives.scores.within = id_pair(ids);
  positives.tilts = of_positives;
  return {.negatives = negatives,
          .positives = positives,
          .x = pieces(x),
          .y = pieces(y),
          .N = N,
          .M = M,
          .distances = distances,
          .few = few,
          .normalize = normalize,
          .cols = cols,
          .words = {*join, float(factor), counted, of_positives, several},
          .divisor = mean ? float(N) : 1,
          .col_divisor = mean ? float(M) : 1,
          .weights = at<const float>(weights),
          .col_weights = at<const float>(col_weights),
          .with_gradient = with_gradient};
}

SumsOf sums(const VectorsArgument& a) {
  const auto [reference, total, linear, count, stride] = a;
  return {at<float>(reference), at<float>(total), at<float>(linear), at<float>(count), stride};
}

Sides sides(const SidesArgument& a) {
  const auto side = [](const VectorsArgument& a) -> Side {
    const auto [reference, factor, spread, mean, stride] = a;
    return {at<const float>(reference), at<const float>(factor), at<const float>(spread), at<const float>(mean),
            stride};
  };
  return {side(std::get<0>(a)), side(std::get<1>(a)), at<const float>(std::get<2>(a))};
}

ScoreGrads grads(const GradsArgument& a) {
  const auto& [to, type] = a;
  const Element element = element_of(type);
  if (element == Element::f16) throw std::invalid_argument("U in float16 would lose small weights");
  return {at<void>(to[0]),  element,          at<float>(to[1]), at<float>(to[2]),
          at<float>(to[3]), at<float>(to[4]), at<double>(to[5])};
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  module.doc() = "CUDA kernels of jessl_kernels.";
  module.def(
      "build_info",
      [] {
        py::dict info;
        for (const auto& [key, value] : cuda_build_info()) info[py::str(key)] = py::str(value);
        return info;
      },
      "The compilers of the kernels, and for which GPUs they are compiled, as a dict of strings.");
  module.def("devices", &devices, "How many GPUs there are, or why none can be used.");
  py::class_<Whole>(module, "Whole", py::module_local())
      .def_property_readonly("room", &room_of)
      .def("run", [](const Whole& whole, Address memory, Address value, const PairGradsArgument& to) {
        run(whole, at<void>(memory), {{at<void>(value), false}, pair_grads_to(to)});
      });
  py::class_<Sweep>(module, "Sweep", py::module_local())
      .def(py::init(&sweep))
      .def("settle",
           [](const Sweep& sweep, const StripArgument& s, const PointsArgument& x, const PointsArgument& y,
              const SquaresArgument& squares) {
             const auto [of_x, of_y, close_above] = squares;
             settle(sweep, strip(s), points(x), points(y),
                    {at<const float>(of_x), at<const float>(of_y), at<const float>(close_above)});
           })
      .def("absorb", [](const Sweep& sweep, const StripArgument& s, const VectorsArgument& row,
                        const VectorsArgument& col) { absorb(sweep, strip(s), sums(row), sums(col)); })
      .def("weights", [](const Sweep& sweep, const StripArgument& s, const SidesArgument& of,
                         Address p) { weights(sweep, strip(s), sides(of), at<float>(p)); })
      .def("score_grad",
           [](const Sweep& sweep, const StripArgument& s, const SidesArgument& of, Address close_above,
              const GradsArgument& to) {
             score_grad(sweep, strip(s), sides(of), at<const float>(close_above), grads(to));
           })
      .def("close_rows",
           [](const Sweep& sweep, const StripArgument& s, const SidesArgument& of, Address close_above,
              const PointsArgument& x, const PointsArgument& y, Address grad_x) {
             close_rows(sweep, strip(s), sides(of), at<const float>(close_above), points(x), points(y),
                        at<float>(grad_x));
           })
      .def("close_columns",
           [](const Sweep& sweep, const StripArgument& s, const SidesArgument& of, Address close_above,
              const PointsArgument& x, const PointsArgument& y, std::int64_t first, std::int64_t end, Address grad_y) {
             close_columns(sweep, strip(s), sides(of), at<const float>(close_above), points(x), points(y), first, end,
                           at<float>(grad_y));
           })
      .def("pairs_room",
           [](const Sweep& sweep, const PairsArgument& of) {
             Room room;
             room_for(pairs(of), sweep.tilts.count, room);
             return room.bytes();
           })
      .def("pair_sums",
           [](const Sweep& sweep, const PairsArgument& of, Address memory, const VectorsArgument& row,
              const VectorsArgument& col) {
             const Pairs given = pairs(of);
             Room room(at<void>(memory));
             const PairsRoom taken = room_for(given, sweep.tilts.count, room);
             settle_pairs(sweep, given, taken);
             pair_sums(sweep, given, taken, sums(row), sums(col));
           })
      .def("pair_grads",
           [](const Sweep& sweep, const PairsArgument& of, Address memory, const SidesArgument& weights,
              const PairGradsArgument& to) {
             const Pairs given = pairs(of);
             Room room(at<void>(memory));
             const PairsRoom taken = room_for(given, sweep.tilts.count, room);
             settle_pairs(sweep, given, taken);
             pair_grads(sweep, given, taken, sides(weights), pair_grads_to(to));
           })
      .def("whole", &whole)
      .def("finish", [](const Sweep& sweep, const StripArgument& s) { finish(sweep, strip(s)); })
      .def("unit_rows", [](const Sweep& sweep, const PiecesArgument& of, Address norms,
                           Address rows) { unit_rows(sweep, {pieces(of), at<float>(norms), at<void>(rows)}, {}); })
      .def("pair_scores",
           [](const Sweep& sweep, const PointsArgument& x, const PointsArgument& y, const PartnersArgument& of,
              bool distances, Address t, Address s) {
             pair_scores(sweep, points(x), points(y), partners(of), distances, at<float>(t), at<float>(s));
           })
      .def("rows_back", [](const Sweep& sweep, const PiecesArgument& of, Address norms, const PointsArgument& rows,
                           const PullArgument& by, std::int64_t first, std::int64_t end, Address gradient) {
        const GivenRows given{pieces(of), at<float>(norms), nullptr};
        rows_back(sweep, {given, points(rows), pull(by), first, end, at<float>(gradient)}, {});
      });
}
