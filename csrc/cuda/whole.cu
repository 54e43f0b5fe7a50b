// The stages of whole.h.
#include "cuda/whole.h"

namespace jessl::cuda {
namespace {

// A batch as the scores see it, in the workspace if it is not a given tensor.
struct Batch {
  void* rows;
  float* norms;
};
Batch batch(const Whole& whole, const Pieces& pieces, std::int64_t count, Room& room) {
  const std::int64_t bytes = pieces.given[0].element == Element::f32 ? 4 : 2;
  const bool made = whole.normalize || pieces.count > 1;
  return {room.take<std::byte>(made ? count * pieces.given[0].dimensions * bytes : 0),
          room.take<float>(whole.normalize ? count : 0)};
}

SumsOf sums(const Tilts& tilts, bool linear, std::int64_t count, Room& room) {
  const std::int64_t all = tilts.count * count;
  return {.reference = room.take<float>(tilts.op == Op::logsumexp ? all : 0),
          .total = room.take<float>(all),
          .linear = room.take<float>(linear ? count : 0),
          .count = room.take<float>(linear ? count : 0),
          .stride = count};
}

// Everything that one call keeps. The same function counts the bytes and cuts them.
struct Kept {
  Batch x, y;
  PairsRoom pairs;
  JoinSide row, col;
  double* losses;
};

Pairs pairs_of(const Whole& whole, const Batch& x, const Batch& y) {
  const auto points = [&](const Pieces& pieces, const Batch& made) -> Points {
    if (!whole.normalize && pieces.count == 1) return pieces.given[0];
    const Points& first = pieces.given[0];
    return {made.rows, first.dimensions, 1, first.dimensions, first.element};
  };
  const bool of_itself = whole.y.count == 0;
  const Points of_x = points(whole.x, x);
  return {of_x, of_itself ? of_x : points(whole.y, y), whole.N, whole.M, whole.distances, of_itself, whole.few};
}

JoinSide side(const Whole& whole, bool columns, Room& room) {
  const std::int64_t count = columns ? whole.M : whole.N;
  const bool several = whole.words.several;
  JoinSide made{};
  made.count = count;
  made.of_columns = columns;
  made.divisor = columns ? whole.col_divisor : whole.divisor;
  made.weights = columns ? whole.col_weights : whole.weights;
  made.negatives = sums(whole.negatives.tilts, false, count, room);
  if (several) made.positives = sums(whole.positives.tilts, true, count, room);
  const bool spread = several && whole.words.join.spread && whole.positives.tilts.op == Op::logsumexp;
  const auto vectors = [&](bool wanted, std::int64_t n) { return room.take<float>(wanted ? n : 0); };
  made.factor = vectors(whole.with_gradient, whole.negatives.tilts.count * count);
  made.positive_factor = vectors(whole.with_gradient && several, count);
  made.spread = vectors(whole.with_gradient && spread, count);
  made.mean = vectors(whole.with_gradient && spread, count);
  made.number_counted = room.take<double>(1);
  return made;
}

Kept kept(const Whole& whole, Room& room) {
  Kept made{};
  made.x = batch(whole, whole.x, whole.N, room);
  if (whole.y.count > 0) made.y = batch(whole, whole.y, whole.M, room);
  const int tilts = std::max(whole.negatives.tilts.count, whole.positives.tilts.count);
  made.pairs = room_for(pairs_of(whole, made.x, made.y), tilts, room);
  made.row = side(whole, false, room);
  if (whole.cols) made.col = side(whole, true, room);
  const bool single = whole.negatives.scores.single.M > 0;
  made.row.partner_scores = made.col.partner_scores = room.take<float>(single ? whole.N : 0);
  made.row.single = made.col.single = room.take<float>(single && whole.with_gradient ? whole.N : 0);
  const std::int64_t of_rows = loss_parts(whole.N);
  made.losses = room.take<double>(of_rows + (whole.cols ? loss_parts(whole.M) : 0));
  made.row.losses = made.losses;
  made.col.losses = made.losses ? made.losses + of_rows : nullptr;
  return made;
}

// Calls f(piece, its first row, the row after its last).
template <class F>
void for_pieces(const Pieces& pieces, F&& f) {
  std::int64_t first = 0;
  for (int k = 0; k < pieces.count; first += pieces.rows[k], ++k)
    if (pieces.rows[k] > 0) f(pieces.given[k], first, first + pieces.rows[k]);
}

void rows_in(const Whole& whole, const Pieces& pieces, const Batch& to) {
  if (!whole.normalize && pieces.count <= 1) return;
  for_pieces(pieces, [&](const Points& given, std::int64_t first, std::int64_t end) {
    unit_rows(whole.negatives, {given, first, end, whole.normalize ? to.norms : nullptr}, to.rows);
  });
}

// Takes the gradient of rows `begin` … `stop` − 1 back through their norms.
void rows_out(const Whole& whole, const Pieces& pieces, const Batch& of, const Points& rows, std::int64_t begin,
              std::int64_t stop, float* gradient) {
  if (!whole.normalize || !gradient) return;
  for_pieces(pieces, [&](Points given, std::int64_t first, std::int64_t end) {
    const std::int64_t from = std::max(first, begin), to = std::min(end, stop);
    if (from >= to) return;
    const std::int64_t size = given.element == Element::f32 ? 4 : 2;
    given.data = static_cast<const std::byte*>(given.data) + (from - first) * given.row_stride * size;
    rows_back(whole.negatives, {given, from, to, of.norms}, rows, {}, begin, gradient);
  });
}

Side weights_of(const SumsOf& sums, const float* factor, const float* spread = nullptr, const float* mean = nullptr) {
  return {sums.reference, factor, spread, mean, sums.stride};
}

}  // namespace

std::int64_t room_of(const Whole& whole) {
  Room room;
  kept(whole, room);
  return room.bytes();
}

void run(const Whole& whole, void* memory, WholeResult to) {
  Room room(memory);
  const Kept own = kept(whole, room);
  const Pairs pairs = pairs_of(whole, own.x, own.y);
  rows_in(whole, whole.x, own.x);
  rows_in(whole, whole.y, own.y);
  settle_pairs(whole.negatives, pairs, own.pairs);
  pair_sums(whole.negatives, pairs, own.pairs, own.row.negatives, own.col.negatives);
  if (whole.words.several) pair_sums(whole.positives, pairs, own.pairs, own.row.positives, own.col.positives);
  join_side(whole.negatives, pairs, own.pairs.t, whole.words, own.row);
  if (whole.cols) join_side(whole.negatives, pairs, own.pairs.t, whole.words, own.col);
  const std::int64_t parts = loss_parts(whole.N) + (whole.cols ? loss_parts(whole.M) : 0);
  add_up(whole.negatives, own.losses, parts, to.value, true);
  if (!whole.with_gradient) return;
  to.grads.fresh = true;
  const Side of_rows = weights_of(own.row.negatives, own.row.factor);
  const Side of_columns = weights_of(own.col.negatives, own.col.factor);
  const bool pulls = whole.words.join.join != Join::none;  // that join ignores positives
  pair_grads(whole.negatives, pairs, own.pairs, {of_rows, of_columns, nullptr, pulls ? own.row.single : nullptr},
             to.grads);
  if (whole.words.several && pulls) {
    to.grads.fresh = false;
    const auto several = [](const JoinSide& side) {
      return weights_of(side.positives, side.positive_factor, side.spread, side.mean);
    };
    pair_grads(whole.positives, pairs, own.pairs, {several(own.row), several(own.col), nullptr}, to.grads);
  }
  rows_out(whole, whole.x, own.x, pairs.x, 0, whole.N, to.grads.x);
  rows_out(whole, whole.y, own.y, pairs.y, to.grads.first, to.grads.end, to.grads.y);
}

}  // namespace jessl::cuda
