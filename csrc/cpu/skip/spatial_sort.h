// An order of points in which neighbours in space mostly stand together, so that tiles are compact.
#pragma once

#include <cstdint>

#include "cpu/threads.h"
#include "pairwise/problem.h"

namespace jessl {

// Writes the numbers of the points in their new order, (rows,): the same for the same points, in O(N·D·log N). Points
// are halved again and again across the line between two that are far apart; of some thousand points tile after tile is
// gathered around one of them; and within a tile parts are halves again. On the calling thread, which asks now and then
// whether to stop.
void spatial_sort(const Batch&, std::int64_t* permutation, const Interrupted& interrupted = {});

}  // namespace jessl
