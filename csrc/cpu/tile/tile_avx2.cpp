// The tile functions for AVX2 with FMA.
//
// The standard headers come first: the linker could keep an inline function of theirs compiled here, for all files.
// Everything included below the pragma has no linkage, or is a template on a vector type that exists only in this file.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/tile/tile.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "cpu/simd/vector_avx2.h"
#include "cpu/tile/tile_ops.h"

namespace jessl {

const Tables avx2_tables = tables;

}  // namespace jessl

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
