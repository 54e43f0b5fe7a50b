// CUDA as the kernels use it: the toolkit's, or a model of a GPU that runs the same sources on a CPU
// (tests/native/cuda_model.h).
//
// Two things are spelled by macros, because the model cannot read CUDA's own spelling: a launch, and shared memory.
#pragma once

#ifdef JESSL_CUDA_MODEL
#include "cuda_model.h"
#else
#include <cuda_runtime.h>
#define JESSL_SHARED(type, name, count) __shared__ type name[count]
#define JESSL_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/strip.h"

namespace jessl::cuda {

inline constexpr int warp_size = 32, most_threads = 256;  // of a block here
inline constexpr unsigned all_lanes = 0xffffffffu;

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // no later launch is to blame for this
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}
// Launches are asynchronous: this sees a launch that could not be made, and errors of earlier ones.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

// Every launch is preceded by this: the runtime that is linked into this library may not know which device torch uses.
inline void use(const Sweep& sweep) { check(cudaSetDevice(sweep.device), "cudaSetDevice"); }
inline cudaStream_t stream_of(const Sweep& sweep) { return static_cast<cudaStream_t>(sweep.stream); }

// The first dimension of a grid; the others end at 65,535.
inline unsigned blocks(std::int64_t count, std::int64_t each = 1) {
  const std::int64_t found = (count + each - 1) / each;
  if (found > 0x7fffffff) throw std::runtime_error("a strip needs more blocks than a launch has: lower the workspace");
  return unsigned(found);
}

// Threads of a block that goes along a row, each over four columns at a time.
inline unsigned threads_along(std::int64_t columns) {
  const std::int64_t wanted = (columns + 4 * warp_size - 1) / (4 * warp_size) * warp_size;
  return unsigned(std::min<std::int64_t>(wanted, most_threads));
}

}  // namespace jessl::cuda
