// Embeddings read as fp32, whatever their type: exact.
#pragma once

#include "cuda/runtime.cuh"
#include "cuda/strip.h"

namespace jessl::cuda {

__device__ inline float of_bf16(std::uint16_t bits) { return __uint_as_float(std::uint32_t(bits) << 16); }

__device__ inline float of_fp16(std::uint16_t bits) {
  const std::uint32_t magnitude = std::uint32_t(bits & 0x7fff) << 13, sign = std::uint32_t(bits & 0x8000) << 16;
  // The exponent of fp16 is 112 less than that of fp32; a product mends subnormal numbers too.
  const float finite = __uint_as_float(magnitude) * 0x1p112f;
  const bool special = (bits & 0x7c00) == 0x7c00;  // an infinity, or no number
  return __uint_as_float((special ? magnitude | 0x7f800000 : __float_as_uint(finite)) | sign);
}

__device__ inline float coordinate(const Points& points, std::int64_t row, std::int64_t d) {
  const std::int64_t at = row * points.row_stride + d * points.column_stride;
  if (points.element == Element::f32) return static_cast<const float*>(points.data)[at];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(points.data)[at];
  return points.element == Element::bf16 ? of_bf16(bits) : of_fp16(bits);
}

}  // namespace jessl::cuda
