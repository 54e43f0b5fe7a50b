// An order of points in which neighbours in space mostly stand together, so that tiles are compact.
#pragma once

#include <cstdint>

#include "pairwise/problem.h"

namespace jessl {

// Writes the numbers of the points in their new order, (rows,). They are halved again and again across the line between two
// points far apart, at multiples of a tile and then of its parts: O(N·D·log N), and the same for the same points.
void put_in_order(const Batch&, std::int64_t* order);

}  // namespace jessl
