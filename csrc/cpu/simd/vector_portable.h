// Vectors of 128 bits in plain C++ with the vector extension of GCC and Clang: SSE2, NEON or whatever the target has.
//
// max and min return their first argument if either is NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace jessl::portable {

// A vector of the compiler's, and one of unsigned whole numbers of the same size.
template <class R>
struct Compiler;
template <>
struct Compiler<float> {
  typedef float Lanes __attribute__((vector_size(16)));
  typedef std::uint32_t Bits __attribute__((vector_size(16)));
  using Whole = std::uint32_t;
};
template <>
struct Compiler<double> {
  typedef double Lanes __attribute__((vector_size(16)));
  typedef std::uint64_t Bits __attribute__((vector_size(16)));
  using Whole = std::uint64_t;
};

template <class R>
struct Vector {
  using Real = R;
  using Lanes = typename Compiler<R>::Lanes;
  using Bits = typename Compiler<R>::Bits;
  using I = typename Compiler<R>::Whole;
  static constexpr int lanes = 16 / sizeof(R);
  static constexpr int mantissa_bits = sizeof(R) == 4 ? 23 : 52;
  static constexpr I exponent_bias = sizeof(R) == 4 ? 127 : 1023;
  struct Mask {
    Bits v;
  };
  Lanes v;
  Vector() = default;
  Vector(Lanes v) : v(v) {}
  explicit Vector(R x) {
    for (int l = 0; l < lanes; ++l) v[l] = x;
  }
  static Vector load(const R* p, std::int64_t = 0) {
    Vector a;
    std::memcpy(&a.v, p, sizeof(a.v));
    return a;
  }
  void store(R* p, std::int64_t = 0) const { std::memcpy(p, &v, sizeof(v)); }

  friend Vector operator+(Vector a, Vector b) { return a.v + b.v; }
  friend Vector operator-(Vector a, Vector b) { return a.v - b.v; }
  friend Vector operator*(Vector a, Vector b) { return a.v * b.v; }
  friend Vector operator/(Vector a, Vector b) { return a.v / b.v; }
  friend Vector fma(Vector a, Vector b, Vector c) { return a.v * b.v + c.v; }
  friend Mask operator<(Vector a, Vector b) { return {(Bits)(a.v < b.v)}; }
  friend Mask operator==(Vector a, Vector b) { return {(Bits)(a.v == b.v)}; }
  friend Vector select(Mask m, Vector a, Vector b) { return (Lanes)((m.v & (Bits)a.v) | (~m.v & (Bits)b.v)); }
  friend Vector max(Vector a, Vector b) { return select(a < b, b, a); }
  friend Vector min(Vector a, Vector b) { return select(b < a, b, a); }
  friend Vector abs(Vector a) { return max(a, Vector(R(0)) - a); }
  friend Vector sqrt(Vector a) {
    for (int l = 0; l < lanes; ++l) a.v[l] = std::sqrt(a.v[l]);
    return a;
  }
  friend R sum(Vector a) {
    R total = a.v[0];
    for (int l = 1; l < lanes; ++l) total += a.v[l];
    return total;
  }
  friend R largest(Vector a) {
    R most = a.v[0];
    for (int l = 1; l < lanes; ++l) most = most < a.v[l] ? a.v[l] : most;
    return most;
  }
  // a · 2^n for a whole n, |n| ≤ 126: 2^n is the number whose exponent bits are n plus the bias. Added
  // to 1.5·2^mantissa, n stands in the low bits of the sum (a conversion to an integer would be undefined for the n of
  // −inf and NaN).
  friend Vector scale_by_power(Vector a, Vector n) {
    const Vector one_and_a_half(R(I(3) << (mantissa_bits - 1)));
    const Bits whole = (Bits)(n.v + one_and_a_half.v) - (Bits)one_and_a_half.v;
    return a.v * (Lanes)((whole + exponent_bias) << mantissa_bits);
  }
  // The same for any n and a: 0 where n < least, and +inf where n is above 126 (1022).
  friend Vector scale_within(Vector a, Vector n, Vector least) {
    a = select(n < least, Vector(R(0)), scale_by_power(a, n));
    return select(Vector(R(exponent_bias - 1)) < n, Vector(R(__builtin_inf())), a);
  }
};

using F32 = Vector<float>;
using F64 = Vector<double>;

}  // namespace jessl::portable
