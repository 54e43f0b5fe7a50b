#include "cpu/loss/radius.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/tile/normalize.h"

namespace jessl {
namespace {

double larger(double a, double b) { return std::isnan(a) || b <= a ? a : b; }  // NaN if either is

}  // namespace

template <class Real>
double squared_radius(const Batch& x, const Batch& y, const Options& options, Real* center) {
  const std::int64_t D = x.columns;
  std::vector<double> sum(D);
  {
    const RowReader<Real> reader(y, 1);
    for (std::int64_t j = 0; j < y.rows; ++j) {
      const Real* row = reader.row(j, 0);
      for (std::int64_t d = 0; d < D; ++d) sum[d] += row[d];
    }
  }
  for (std::int64_t d = 0; d < D; ++d) center[d] = Real(sum[d] / double(y.rows));
  double most = 0;
  const auto widen = [&](const Batch& batch) {
    const RowReader<Real> reader(batch, options.threads);
    std::vector<double> of_thread(options.threads);
    for_rows(batch.rows, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i)
        of_thread[thread] = larger(of_thread[thread], squared_distance(reader.row(i, thread), center, D));
    });
    for (const double square : of_thread) most = larger(most, square);
  };
  widen(x);
  if (!same_rows(x, y)) widen(y);
  return most;
}

template double squared_radius<float>(const Batch&, const Batch&, const Options&, float*);
template double squared_radius<double>(const Batch&, const Batch&, const Options&, double*);

}  // namespace jessl
