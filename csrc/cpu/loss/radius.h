// How far points lie from their center, which decides how their squared distances are taken
// (backends/squared_distance.py).
#pragma once

#include "cpu/options.h"
#include "pairwise/problem.h"

namespace jessl {

// The mean of Y's rows, (D,), written to `center`; and the largest squared distance of any row of X or Y from it.
template <class Real>
double squared_radius(const Batch& x, const Batch& y, const Options&, Real* center);

}  // namespace jessl
