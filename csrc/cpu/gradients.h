// The gradients of a problem's arguments, as a call writes them.
#pragma once

#include <cstdint>
#include <limits>

#include "cpu/tile/tile.h"

namespace jessl {

// Null where nobody asks. Added to what is there. In a symmetric problem x holds both halves, and y is null.
template <class Real>
struct Gradients {
  Real *x = nullptr, *y = nullptr;
  double* scale = nullptr;
  Real *row_bias = nullptr, *col_bias = nullptr;
  Columns columns = {0, std::numeric_limits<std::int64_t>::max()};  // of Y, those whose gradient y holds
  // x and y of dot scores stay without α, for a call that adds its own to them and finishes both.
  bool unfinished = false;

  bool any() const { return x || y || scale || row_bias || col_bias; }
};

}  // namespace jessl
