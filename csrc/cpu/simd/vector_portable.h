// Vectors of 128 bits: SSE2, NEON or whatever the target has.
#pragma once

#define JESSL_VECTOR_BYTES 16
#include "cpu/simd/vector.h"
