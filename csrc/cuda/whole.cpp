// The stages of whole.h.
#include "cuda/whole.h"

namespace jessl::cuda {
namespace {

// Whether the scores see rows that the workspace holds, and not a given tensor.
bool are_made(const Whole& whole, const Pieces& pieces) { return whole.normalize || pieces.count > 1; }

GivenRows batch(const Whole& whole, const Pieces& pieces, Room& room) {
  const std::int64_t count = pieces.all(), bytes = pieces.given[0].element == Element::f32 ? 4 : 2;
  const std::int64_t of_rows = are_made(whole, pieces) ? count * pieces.given[0].dimensions * bytes : 0;
  std::byte* const rows = room.take<std::byte>(of_rows);
  return {pieces, room.take<float>(whole.normalize ? count : 0), rows};
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
  GivenRows x, y;
  Pairs pairs;
  PairsRoom room;
  JoinSides sides;
};

Pairs pairs_of(const Whole& whole, const GivenRows& x, const GivenRows& y) {
  const auto points = [&](const GivenRows& batch) -> Points {
    const Points& first = batch.pieces.given[0];
    if (!are_made(whole, batch.pieces)) return first;
    return {batch.rows, first.dimensions, 1, first.dimensions, first.element};
  };
  const bool of_itself = y.pieces.count == 0;
  return {points(x), points(of_itself ? x : y), whole.N, whole.M, whole.distances, of_itself, whole.few};
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
  made.x = batch(whole, whole.x, room);
  if (whole.y.count > 0) made.y = batch(whole, whole.y, room);
  made.pairs = pairs_of(whole, made.x, made.y);
  made.room = room_for(made.pairs, std::max(whole.negatives.tilts.count, whole.positives.tilts.count), room);
  auto& [row, col] = made.sides.of;
  row = side(whole, false, room);
  if (whole.cols) col = side(whole, true, room);
  made.sides.count = whole.cols ? 2 : 1;
  const bool single = whole.negatives.scores.single.M > 0;
  row.partner_scores = col.partner_scores = room.take<float>(single ? whole.N : 0);
  row.single = col.single = room.take<float>(single && whole.with_gradient ? whole.N : 0);
  row.losses = room.take<double>(whole.N + (whole.cols ? whole.M : 0));
  return made;
}

Side weights_of(const JoinSide& side) {
  return {side.negatives.reference, side.factor, nullptr, nullptr, side.negatives.stride};
}
Side weights_of_positives(const JoinSide& side) {
  return {side.positives.reference, side.positive_factor, side.spread, side.mean, side.positives.stride};
}

// Whether a block makes the sum, the loss and U of a row: its weights are known with its sum.
bool row_by_row(const Whole& whole, const PairGrads& to) {
  const bool rows_alone = !whole.cols && !whole.words.several && !whole.words.counted;
  return !whole.few && rows_alone && whole.with_gradient && !to.col_bias;
}

void rows_in(const Whole& whole, const Kept& own) {
  const auto made = [&](const GivenRows& batch) { return are_made(whole, batch.pieces) ? batch : GivenRows{}; };
  const GivenRows x = made(own.x), y = made(own.y);
  if (x.pieces.count > 0)
    unit_rows(whole.negatives, x, y);
  else if (y.pieces.count > 0)
    unit_rows(whole.negatives, y, {});
}

void rows_out(const Whole& whole, const Kept& own, const PairGrads& to) {
  if (!whole.normalize) return;
  const RowsBack x{own.x, own.pairs.x, {}, 0, whole.N, to.x}, y{own.y, own.pairs.y, {}, to.first, to.end, to.y};
  if (x.gradient)
    rows_back(whole.negatives, x, y.gradient ? y : RowsBack{});
  else if (y.gradient)
    rows_back(whole.negatives, y, {});
}

}  // namespace

std::int64_t room_of(const Whole& whole) {
  Room room;
  kept(whole, room);
  return room.bytes();
}

void run(const Whole& whole, void* memory, WholeResult to) {
  Room room(memory);
  Kept own = kept(whole, room);
  auto& [row, col] = own.sides.of;
  const Sweep &negatives = whole.negatives, &positives = whole.positives;
  const bool several = whole.words.several, pulls = whole.words.join.join != Join::none;  // that ignores positives
  const Sides sides{weights_of(row), weights_of(col), nullptr, pulls ? row.single : nullptr};
  rows_in(whole, own);
  settle_pairs(negatives, own.pairs, own.room);
  to.grads.fresh = true;
  if (row_by_row(whole, to.grads)) {
    row_losses(negatives, own.pairs, own.room, whole.words, row, sides, small_targets(own.room, to.grads));
    small_pull(negatives, own.pairs, own.room, to.grads, {row.losses, whole.N, to.value});
    return rows_out(whole, own, to.grads);
  }
  const bool alone = !whole.cols && !several;  // nobody else needs the place of the parts before the join
  pair_sums(negatives, own.pairs, own.room, row.negatives, col.negatives, alone ? &row.parts : nullptr);
  if (several) pair_sums(positives, own.pairs, own.room, row.positives, col.positives);
  join(negatives, own.pairs, own.room.t, whole.words, own.sides, to.value);
  if (!whole.with_gradient) return;
  pair_grads(negatives, own.pairs, own.room, sides, to.grads);
  if (several && pulls) {
    to.grads.fresh = false;
    const Sides of_several{weights_of_positives(row), weights_of_positives(col), nullptr};
    pair_grads(positives, own.pairs, own.room, of_several, to.grads);
  }
  rows_out(whole, own, to.grads);
}

}  // namespace jessl::cuda
