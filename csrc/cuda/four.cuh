// Four neighbouring numbers of a strip by one load of 16 bytes: its rows begin at multiples of 16 bytes. Numbers beyond
// the last column are there too, and mean nothing.
#pragma once

#include "cuda/runtime.cuh"

namespace jessl::cuda {

struct Four {
  float values[4];
};
__device__ inline Four load_four(const float* from) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  return {four.x, four.y, four.z, four.w};
}
__device__ inline void store_four(float* to, const Four& four) {
  *reinterpret_cast<float4*>(to) = make_float4(four.values[0], four.values[1], four.values[2], four.values[3]);
}

}  // namespace jessl::cuda
