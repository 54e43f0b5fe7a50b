// Loading of embeddings: every bf16 and fp16 pattern, strides, the center; and products against plain loops.
#include <cmath>
#include <cstring>
#include <memory>

#include "check.h"
#include "cpu/tile/normalize.h"
#include "cpu/tile/rows.h"
#include "functions.h"
#include "numbers.h"

namespace jessl::test {
namespace {

template <class Real>
bool same(Real a, double b) {
  return std::isnan(b) ? std::isnan(a) : double(a) == b && std::signbit(a) == std::signbit(b);
}

// All patterns of 16 bits as 256 rows of 256, loaded by the portable code here and by each level's own.
void judge_patterns(Element element, double (*truth)(std::uint16_t)) {
  std::vector<std::uint16_t> bits(1 << 16);
  for (std::size_t k = 0; k < bits.size(); ++k) bits[k] = std::uint16_t(k);
  const Batch batch{{bits.data(), 256, 1}, 256, 256, element};
  const auto judge = [&](const char* who, std::int64_t first, Rows<const float> rows, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t d = 0; d < 256; ++d) {
        const double expected = truth(bits[(first + i) * 256 + d]);
        check(same(rows.data[i * rows.ld + d], expected), who, ": pattern ", bits[(first + i) * 256 + d], " is ",
              rows.data[i * rows.ld + d], ", not ", expected);
      }
  };
  std::vector<float> memory(most_rows * padded<float>(256));
  const Rows<float> rows{memory.data(), padded<float>(256)};
  for (std::int64_t first = 0; first < 256; first += 128) {
    load_rows<float>(batch, first, 128, nullptr, rows);
    judge("load_rows", first, {rows.data, rows.ld}, 128);
    for (const Level level : levels()) {
      Problem p{};
      p.x = p.y = batch;
      p.scale = 1;
      std::vector<float> inside(most_rows), bias(most_rows);
      std::fill(memory.begin(), memory.end(), 7.0f);
      Tile<float> tile{};
      tile.first = first;
      tile.count = 128;
      tile.place = rows;
      tile.inside = inside.data();
      tile.bias = bias.data();
      tile_ops<float>(level).load_tile(p, tile);
      judge(name_of(level), first, tile.rows, 128);
    }
  }
}

}  // namespace

FACT(every_bfloat16_is_converted_exactly) { judge_patterns(Element::bf16, value_of_bfloat16); }
FACT(every_float16_is_converted_exactly_subnormals_infinities_and_nan_too) {
  judge_patterns(Element::f16, value_of_float16);
}

FACT(rows_are_read_by_any_strides_less_the_center_and_padded_with_zeros) {
  std::vector<double> data(4000);
  for (std::size_t k = 0; k < data.size(); ++k) data[k] = double(k);
  const std::vector<double> center = {0.5, -1, 2, 0, 0, 0, 0.25};
  const std::int64_t D = 7, ld = padded<double>(D);
  for (const auto& [row_stride, column_stride] :
       {std::pair<std::int64_t, std::int64_t>{7, 1}, {23, 1}, {29, 3}, {1, 100}, {0, 1}, {-9, 1}, {15, -2}}) {
    std::vector<double> memory(6 * ld, std::nan(""));
    const double* start = data.data() + 1500;
    const Batch batch{{start, row_stride, column_stride}, 40, D, Element::f64};
    load_rows<double>(batch, 5, 6, center.data(), {memory.data(), ld});
    for (std::int64_t i = 0; i < 6; ++i)
      for (std::int64_t d = 0; d < ld; ++d) {
        const double expected = d < D ? start[(5 + i) * row_stride + d * column_stride] - center[d] : 0;
        check(memory[i * ld + d] == expected, "strides ", row_stride, ", ", column_stride, ", row ", i, ", column ", d);
      }
  }
}

FACT(a_batch_in_three_pieces_is_read_across_their_ends) {
  std::vector<double> data(400);
  for (std::size_t k = 0; k < data.size(); ++k) data[k] = double(k);
  const std::int64_t D = 5, ld = padded<double>(D), split = 7, rows = 11;
  const std::vector<std::int64_t> backwards = {10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  const double* rest = data.data() + 200;
  for (const std::int64_t* permutation : {static_cast<const std::int64_t*>(nullptr), backwards.data()}) {
    const Piece first{data.data(), 6, 1, 0, 4}, second{data.data() + 4 * 6, 6, 1, 4, split}, third{rest, 1, 4, split};
    Batch batch{{first, second, third}, rows, D, Element::f64};
    batch.permutation = permutation;
    std::vector<double> memory(rows * ld);
    load_rows<double>(batch, 0, rows, nullptr, {memory.data(), ld});
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t at = permutation ? permutation[i] : i;
      for (std::int64_t d = 0; d < D; ++d) {
        const double expected = at < split ? data[at * 6 + d] : rest[at - split + d * 4];
        check(memory[i * ld + d] == expected, "row ", i, ", column ", d, " is ", memory[i * ld + d], ", not ",
              expected);
      }
      const double* there = row_in_place<double>(batch, i);
      check(there == (at < split ? data.data() + at * 6 : nullptr), "row ", i,
            " is found at another place, or where it has gaps");
    }
  }
}

FACT(rows_are_read_where_they_stand_only_if_products_may) {
  constexpr std::int64_t D = 32, N = 20;
  alignas(64) static float data[N * 1024 + 64], place[N * 64];
  for (std::size_t k = 0; k < std::size(data); ++k) data[k] = float(k);
  const std::int64_t ld = padded<float>(D);
  const float factors[N] = {}, center[D] = {};
  std::int64_t permutation[N];
  for (std::int64_t i = 0; i < N; ++i) permutation[i] = N - 1 - i;
  const auto judge = [&](const char* what, const Batch& batch, const float* center, const float* expected) {
    const Rows<const float> rows = rows_ready<float>(batch, 4, 8, center, {place, ld});
    check(rows.data == expected, what, ": rows are ", rows.data == place ? "copied" : "read elsewhere");
    std::vector<float> copy(8 * ld);
    load_rows<float>(batch, 4, 8, center, {copy.data(), ld});
    for (std::int64_t i = 0; i < 8; ++i)
      for (std::int64_t d = 0; d < batch.columns; ++d)
        check(rows.data[i * rows.ld + d] == copy[i * ld + d], what, " at ", i, ", ", d);
  };
  const Batch plain{{data, D, 1}, N, D, Element::f32};
  judge("rows one after the other", plain, nullptr, data + 4 * D);
  judge("rows with gaps", {{data, 80, 1}, N, D, Element::f32}, nullptr, data + 4 * 80);
  judge("the second of two pieces", {{Piece{nullptr, 0, 0, 0, 4}, Piece{data, 48, 1, 4}}, N, D, Element::f32}, nullptr,
        data);
  judge("rows on both sides of a split", {{Piece{data, D, 1, 0, 10}, Piece{data + 640, D, 1, 10}}, N, D, Element::f32},
        nullptr, place);
  judge("rows that begin within a line", {{data + 1, D, 1}, N, D, Element::f32}, nullptr, place);
  judge("a stride of half lines", {{data, 40, 1}, N, D, Element::f32}, nullptr, place);
  judge("a stride of 4 KiB", {{data, 1024, 1}, N, D, Element::f32}, nullptr, place);
  judge("one row repeated", {{data, 0, 1}, N, D, Element::f32}, nullptr, place);
  judge("columns apart", {{data, 2 * D, 2}, N, D, Element::f32}, nullptr, place);
  judge("a line begun", {{data, D, 1}, N, D - 1, Element::f32}, nullptr, place);
  judge("a center", plain, center, place);
  Batch other = plain;
  other.permutation = permutation;
  judge("a permutation", other, nullptr, place);
  other = plain;
  other.row_factor = factors;
  judge("factors", other, nullptr, place);
}

FACT(a_small_batch_is_copied_once_and_a_large_one_never) {
  constexpr std::int64_t D = 48, N = 300;
  std::vector<float> data(N * D), factor(N);
  std::vector<std::int64_t> permutation(N);
  Random random{3};
  for (float& x : data) x = float(random.normal());
  for (std::int64_t i = 0; i < N; ++i) factor[i] = float(random.normal()), permutation[i] = (7 * i) % N;
  const std::int64_t bytes = N * padded<float>(D) * sizeof(float);
  for (const bool fits : {true, false})
    for (const std::int64_t columns : {D, D - 1}) {
      Batch batch{{data.data(), D, 1}, N, columns, Element::f32}, before = batch;
      batch.row_factor = before.row_factor = factor.data();
      batch.permutation = before.permutation = permutation.data();
      batch.normalized = true;
      Options options{2, 32 * bytes - !fits, Level::portable, {}};
      const ReadyRows<float> ready(batch, options);
      const bool moved = fits && columns == D;
      check(stand_ready<float>(batch, 0, N) == moved, columns, " columns");
      check(options.taken == (moved ? bytes : 0), options.taken, " bytes taken");
      check(batch.normalized && batch.rows == N && batch.columns == columns, "what else is known of the batch");
      std::vector<float> now(padded<float>(D)), then(now);
      for (std::int64_t i = 0; i < N; ++i) {
        load_rows<float>(batch, i, 1, nullptr, {now.data(), std::int64_t(now.size())});
        load_rows<float>(before, i, 1, nullptr, {then.data(), std::int64_t(then.size())});
        check(now == then, "row ", i);
      }
    }
}

FACT(a_transpose_is_zero_beyond_its_rows) {
  for (const std::int64_t count : {1, 15, 16, 17, 97})
    for (const std::int64_t D : {1, 3, 40}) {
      const std::int64_t ld = padded<float>(D), lanes = (count + 15) / 16 * 16, out_ld = padded<float>(lanes);
      std::vector<float> rows(count * ld), out(D * out_ld, std::nanf(""));
      Random random{5};
      for (float& x : rows) x = float(random.normal());
      transpose<float>({rows.data(), ld}, count, D, lanes, {out.data(), out_ld});
      for (std::int64_t d = 0; d < D; ++d)
        for (std::int64_t i = 0; i < lanes; ++i)
          check(out[d * out_ld + i] == (i < count ? rows[i * ld + d] : 0.0f), count, " rows, D = ", D, ", at ", i, ", ",
                d);
    }
}

// Whole numbers, so that every order of summation gives the same exact answer; and memory that ends with the padding,
// so that the address sanitizer sees a step beyond it.
template <class Real>
void judge_products() {
  Random random{11};
  for (const Level level : levels()) {
    const Functions<Real> f = functions<Real>(level);
    const std::int64_t lanes = level == Level::portable ? 16 / sizeof(Real)
                               : level == Level::avx2   ? 32 / sizeof(Real)
                                                        : 64 / sizeof(Real);
    for (const std::int64_t rows : {1, 2, 3, 5, 6, 7, 11, 12, 13, 25})
      for (const std::int64_t columns : {1, 2, 7, 17, 31, 33, 97})
        for (const std::int64_t K : {1, 2, 7, 97}) {
          const std::int64_t whole = (columns + lanes - 1) / lanes * lanes;
          const auto b = std::make_unique<Real[]>(K * whole), c = std::make_unique<Real[]>(rows * whole);
          const auto a = std::make_unique<Real[]>(rows * K);
          for (std::int64_t k = 0; k < rows * K; ++k) a[k] = Real(random.below(9) - 4);
          for (std::int64_t k = 0; k < K * whole; ++k) b[k] = Real(random.below(9) - 4);
          const auto judge = [&](const char* what, auto&& term, double start, std::int64_t a_k, std::int64_t a_r) {
            for (std::int64_t r = 0; r < rows; ++r)
              for (std::int64_t j = 0; j < columns; ++j) {
                double expected = start;
                for (std::int64_t k = 0; k < K; ++k)
                  expected += term(double(a[k * a_k + r * a_r]), double(b[k * whole + j]));
                check(double(c[r * whole + j]) == expected, what, ", ", name_of(level), " ", rows, "×", columns, "×", K,
                      " at ", r, ", ", j, ": ", c[r * whole + j], ", not ", expected);
              }
          };
          const auto times = [](double x, double y) { return x * y; };
          for (const bool by_rows : {false, true}) {
            const std::int64_t a_k = by_rows ? 1 : rows, a_r = by_rows ? K : 1;
            std::fill_n(c.get(), rows * whole, Real(3));
            f.product(a.get(), a_k, a_r, {b.get(), whole}, {c.get(), whole}, rows, columns, K, true);
            judge("A·B added", times, 3, a_k, a_r);
            f.product(a.get(), a_k, a_r, {b.get(), whole}, {c.get(), whole}, rows, columns, K, false);
            judge("A·B", times, 0, a_k, a_r);
            f.squared_distance(a.get(), a_k, a_r, {b.get(), whole}, {c.get(), whole}, rows, columns, K);
            judge("(A − B)²", [](double x, double y) { return (x - y) * (x - y); }, 0, a_k, a_r);
          }
        }
  }
}

FACT(products_and_squared_distances_of_odd_sizes_are_those_of_a_plain_loop) {
  judge_products<float>();
  judge_products<double>();
}

}  // namespace jessl::test
