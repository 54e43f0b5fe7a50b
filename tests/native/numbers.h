// What the bits of 16-bit numbers mean, from the definition of the formats; and bits for a number, rounded toward 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace jessl::test {

inline double value_of(std::uint16_t bits, int mantissa_bits, int exponent_bits) {
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1), mantissa = bits & ((1 << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double magnitude;
  if (exponent == (1 << exponent_bits) - 1)
    magnitude = mantissa ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    magnitude = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  else
    magnitude = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return bits & 0x8000u ? -magnitude : magnitude;
}
inline double value_of_bfloat16(std::uint16_t bits) { return value_of(bits, 7, 8); }
inline double value_of_float16(std::uint16_t bits) { return value_of(bits, 10, 5); }

inline std::uint16_t bits_of_bfloat16(double x) {
  const float rounded = float(x);
  std::uint32_t bits;
  std::memcpy(&bits, &rounded, 4);
  return std::uint16_t(bits >> 16);
}
inline std::uint16_t bits_of_float16(double x) {
  int exponent;
  const double fraction = std::frexp(std::abs(x), &exponent);  // in [½, 1)
  const std::uint16_t sign = std::signbit(x) ? 0x8000u : 0;
  if (exponent < -13) return sign;  // subnormal: near enough to 0 for a test's data
  return std::uint16_t(sign | (exponent + 14) << 10 | (int(fraction * 2048) - 1024));
}

}  // namespace jessl::test
