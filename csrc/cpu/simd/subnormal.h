// Results that would be subnormal, flushed to 0.
#pragma once

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace jessl {

// While it lives, on this thread. A weight, e^s of 2^−110 times a gradient of 2^−20, may be subnormal, and then takes
// 20 to 40 times as long as another product: where scores reach far down (a small bandwidth), as long as all the rest.
// Whoever makes weights is called by way of a pointer, which the compiler moves no arithmetic across. On other
// processors than x86 nothing is flushed.
class FlushesSubnormals {
 public:
#ifdef __SSE2__
  FlushesSubnormals() { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
  ~FlushesSubnormals() { _mm_setcsr(before_); }
  FlushesSubnormals(const FlushesSubnormals&) = delete;
  FlushesSubnormals& operator=(const FlushesSubnormals&) = delete;

 private:
  const unsigned before_ = _mm_getcsr();
#else
  FlushesSubnormals() {}  // so that an instance is not unused
#endif
};

}  // namespace jessl
