// The sum over all pairs: in one pass if one power of 2 suits all of them. Otherwise in two, where a row's share of the
// sum is the slope at its log-sum-exp.
#include <cmath>
#include <numeric>

#include "cpu/loss/prepared.h"
#include "cpu/loss/row_loss.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/skip/gathering.h"

namespace jessl {
namespace {

template <class Real>
void scale_all(const Problem& p, const Gradients<Real>& out, double factor) {
  const auto scale = [factor](auto* numbers, std::int64_t n) {
    for (std::int64_t i = 0; numbers && i < n; ++i) numbers[i] *= factor;
  };
  scale(out.x, p.N() * p.D());
  scale(out.y, (std::min(out.columns.end, p.M()) - out.columns.first) * p.D());
  scale(out.scale, 1);
  scale(out.row_bias, p.N());
  scale(out.col_bias, p.M());
}

template <class Real>
double total_of(const Problem& p, const Options& options, const Gradients<Real>* out) {
  const Terms terms;
  const std::int64_t of_strip = rows_for(p, options.workspace);
  Skipping<Real> skipping(p, terms, of_strip, false);
  const bool at_once = out && !gathers(p, terms);
  if (const std::optional<Real> power = at_once ? common_power<Real>(p, options) : std::nullopt) {
    Sums sums{SideSums(terms, p.N()), {}};
    if (p.compact()) skipping.look_ahead(options);
    grad_pass<Real>(p, terms, options, {}, *out, skipping, {.sums = &sums, .power = power});
    const std::vector<double>& of_rows = sums.rows.of_tilt[0].z;
    const double sum = std::accumulate(of_rows.begin(), of_rows.end(), 0.0);
    scale_all(p, *out, sum == 0 ? 0 : (p.symmetric ? 2 : 1) / sum);
    return std::log(sum) + double(*power) * log_2;
  }
  ScoreCache<Real> cache(p, of_strip, out ? extras_of(p, out->scale) : Extras{}, out ? options.workspace : 0);
  const Sums sums = sum_pass<Real>(p, terms, options, false, skipping, &cache);
  const OnlineLse& rows = sums.rows.of_tilt[0];
  OnlineLse all(1);
  for (std::int64_t i = 0; i < p.N(); ++i) all.merge(0, 1, &rows.m[i], 1.0, &rows.z[i]);
  const double value = std::log(all.z[0]) + all.m[0];
  if (!out || all.z[0] == 0) return value;
  SideSlopes share{{std::vector<double>(p.N())}, {}};
  for (std::int64_t i = 0; i < p.N(); ++i) share.of_tilt[0][i] = rows.z[i] * std::exp(rows.m[i] - value);
  grad_pass<Real>(p, terms, options, {p, terms, sums.rows, share, {}, {}}, *out, skipping, {.cache = &cache});
  return value;
}

}  // namespace

template <class Real>
double total(const Problem& p, const Options& options, const Gradients<Real>* out) {
  Prepared<Real> rows(p, false, out && out->y ? out->columns : Columns{}, nullptr, options);
  if (!out) return total_of<Real>(rows.problem, rows.options, nullptr);
  const double value = total_of<Real>(rows.problem, rows.options, &rows.gradients(*out));
  rows.finish();
  return value;
}

template double total<float>(const Problem&, const Options&, const Gradients<float>*);
template double total<double>(const Problem&, const Options&, const Gradients<double>*);

}  // namespace jessl
