// Flushes subnormal results to 0.
#pragma once

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace jessl {

// Flushes on this thread while it lives. A weight, e^s of 2^−110 times a gradient of 2^−20, may be subnormal, and then
// takes 20 to 40 times as long as another product: with a small bandwidth, as long as all the rest. Functions that make
// weights are called through a pointer, and the compiler moves no arithmetic across such a call. Only x86 flushes.
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
