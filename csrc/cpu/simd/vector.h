// Vectors of JESSL_VECTOR_BYTES in plain C++ with the vector extension of GCC and Clang. Include one of the headers
// vector_*.h: each sets the width and overloads the functions that have an instruction of their own.
//
// max and min return their first argument if either is NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// A vector of real numbers, and one of unsigned integers of the same size.
template <class R>
struct Compiler;
template <>
struct Compiler<float> {
  using Whole = std::uint32_t;
  typedef float Lanes __attribute__((vector_size(JESSL_VECTOR_BYTES)));
  typedef Whole Bits __attribute__((vector_size(JESSL_VECTOR_BYTES)));
};
template <>
struct Compiler<double> {
  using Whole = std::uint64_t;
  typedef double Lanes __attribute__((vector_size(JESSL_VECTOR_BYTES)));
  typedef Whole Bits __attribute__((vector_size(JESSL_VECTOR_BYTES)));
};

template <class R>
struct Vector : Compiler<R> {
  using Real = R;
  using typename Compiler<R>::Lanes;
  using typename Compiler<R>::Bits;
  static constexpr int lanes = sizeof(Lanes) / sizeof(R);
  Lanes v;
  Vector() = default;
  Vector(Lanes v) : v(v) {}
  explicit Vector(R x) : v(x - Lanes{}) {}
  // The second argument is unused: it is the row stride of four vectors (unroll4.h).
  static Vector load(const R* p, std::int64_t = 0) {
    Vector a;
    std::memcpy(&a.v, p, sizeof(v));
    return a;
  }
  void store(R* p, std::int64_t = 0) const { std::memcpy(p, &v, sizeof(v)); }

  struct Mask {
    Bits v;
  };
  friend Vector operator+(Vector a, Vector b) { return a.v + b.v; }
  friend Vector operator-(Vector a, Vector b) { return a.v - b.v; }
  friend Vector operator*(Vector a, Vector b) { return a.v * b.v; }
  friend Vector operator/(Vector a, Vector b) { return a.v / b.v; }
};

template <class R, class V = Vector<R>>
typename V::Mask operator<(Vector<R> a, Vector<R> b) {
  return {(typename V::Bits)(a.v < b.v)};
}
template <class R, class V = Vector<R>>
typename V::Mask operator==(Vector<R> a, Vector<R> b) {
  return {(typename V::Bits)(a.v == b.v)};
}
template <class M>
bool any(M m) {
  bool some = false;
  for (unsigned l = 0; l < sizeof(m.v) / sizeof(m.v[0]); ++l) some |= m.v[l] != 0;
  return some;
}
template <class M, class R>
Vector<R> select(M m, Vector<R> a, Vector<R> b) {
  return m.v ? a.v : b.v;
}
template <class R>
Vector<R> fma(Vector<R> a, Vector<R> b, Vector<R> c) {
  return a.v * b.v + c.v;
}
template <class R>
Vector<R> max(Vector<R> a, Vector<R> b) {
  return select(a < b, b, a);
}
template <class R>
Vector<R> min(Vector<R> a, Vector<R> b) {
  return select(b < a, b, a);
}
template <class R>
Vector<R> abs(Vector<R> a) {
  return max(a, Vector<R>(R(0)) - a);
}
template <class R>
Vector<R> sqrt(Vector<R> a) {
  for (int l = 0; l < a.lanes; ++l) a.v[l] = std::sqrt(a.v[l]);
  return a;
}
template <class R>
R sum(Vector<R> a) {
  R total = a.v[0];
  for (int l = 1; l < a.lanes; ++l) total += a.v[l];
  return total;
}
template <class R>
R largest(Vector<R> a) {
  R most = a.v[0];
  for (int l = 1; l < a.lanes; ++l) most = most < a.v[l] ? a.v[l] : most;
  return most;
}
// a · 2^k for a whole k, |k| ≤ 126: 2^k is the number whose exponent bits are k plus the bias. The low bits of
// k + 1.5·2^mantissa are k (a conversion to an integer would be undefined for the k of −inf and NaN).
template <class R, class V = Vector<R>>
V scale_by_power(Vector<R> a, Vector<R> k) {
  using Bits = typename V::Bits;
  constexpr int mantissa_bits = sizeof(R) == 4 ? 23 : 52, bias = sizeof(R) == 4 ? 127 : 1023;
  const V one_and_a_half(R(typename V::Whole(3) << (mantissa_bits - 1)));
  const Bits whole = (Bits)(k.v + one_and_a_half.v) - (Bits)one_and_a_half.v;
  return a.v * (typename V::Lanes)((whole + bias) << mantissa_bits);
}
// m with ½√2 ≤ m < √2, and the whole power k of 2 with m · 2^k = a, for a positive normal a.
template <class R, class V = Vector<R>>
V split_power(Vector<R> a, Vector<R>& power) {
  using Bits = typename V::Bits;
  constexpr int mantissa_bits = sizeof(R) == 4 ? 23 : 52;
  constexpr typename V::Whole bias = sizeof(R) == 4 ? 127 : 1023;
  constexpr R last = R(typename V::Whole(1) << mantissa_bits);  // its last bit is 1
  const V one(R(1)), least(R(0.70710678118654752)), whole(last);
  const Bits k = ((Bits)a.v + ((Bits)one.v - (Bits)least.v)) >> mantissa_bits;
  power = V((typename V::Lanes)((Bits)whole.v + k)) - V(last + R(bias));
  return V((typename V::Lanes)((Bits)a.v - ((k - bias) << mantissa_bits)));
}
// The same for any k and a: 0 if k < least, and +inf if k is above 126 (1022).
template <class R, class V = Vector<R>>
V scale_within(Vector<R> a, Vector<R> k, Vector<R> least) {
  a = select(k < least, V(R(0)), scale_by_power(a, k));
  return select(V(R(sizeof(R) == 4 ? 126 : 1022)) < k, V(R(__builtin_inf())), a);
}

using F32 = Vector<float>;
using F64 = Vector<double>;

}  // namespace
}  // namespace jessl
