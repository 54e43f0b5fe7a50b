// The tile functions for AVX-512 (F, DQ, BW, VL).
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"  // of the intrinsics themselves, in GCC 12 (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

#include "cpu/simd/vector_avx512.h"
#include "cpu/tile/tile_ops.h"

namespace jessl {

const Tables avx512_tables = tables;

}  // namespace jessl

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
