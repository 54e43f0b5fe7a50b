// What joins a reduction with scores that were left out of it, for one row.
#pragma once

#include <cmath>

namespace jessl {

// log(1 + e^x) and its slope 1 / (1 + e^{−x}), neither of which overflows. NaN stays NaN.
inline double log1p_exp(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace jessl
