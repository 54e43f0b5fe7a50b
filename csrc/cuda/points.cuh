// Embeddings read as fp32, whatever their type, which is exact; and written, rounded to the nearest, ties to even.
#pragma once

#include "cuda/four.cuh"
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

__device__ inline std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = __float_as_uint(value);
  if (value != value) return std::uint16_t(bits >> 16 | 0x40);
  return std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

__device__ inline std::uint16_t to_fp16(float value) {
  const std::uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (value != value) return std::uint16_t(sign | 0x7e00);
  if (magnitude < 0x38800000)  // subnormal in fp16: a multiple of 2⁻²⁴, as the last bit of 0.5 is
    return std::uint16_t(sign | (__float_as_uint(fabsf(value) + 0.5f) - 0x3f000000));
  const std::uint32_t rounded = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  return std::uint16_t(sign | (rounded < 0x7c00 ? rounded : 0x7c00));  // the largest become infinite
}

// Four neighbouring elements by one store; `at` is a multiple of four.
__device__ inline void store_four(void* to, Element element, std::int64_t at, const Four& four) {
  if (element == Element::f32)
    store_four(static_cast<float*>(to) + at, four);
  else
    *reinterpret_cast<ushort4*>(static_cast<std::uint16_t*>(to) + at) = make_ushort4(
        to_bf16(four.values[0]), to_bf16(four.values[1]), to_bf16(four.values[2]), to_bf16(four.values[3]));
}

// Writes to element `at` of a tensor of this type.
__device__ inline void store(void* to, Element element, std::int64_t at, float value) {
  if (element == Element::f32)
    static_cast<float*>(to)[at] = value;
  else
    static_cast<std::uint16_t*>(to)[at] = element == Element::bf16 ? to_bf16(value) : to_fp16(value);
}

}  // namespace jessl::cuda
