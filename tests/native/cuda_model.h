// A model of a GPU on which csrc/cuda runs without one: the same sources, compiled by a C++ compiler.
//
// A block's threads are fibers of one thread of the host. A fiber runs until it waits for others: at __syncthreads, or
// at a warp's shuffle. Who runs next is drawn at random, and so is the order of blocks; JESSL_MODEL_SEED changes the
// draws, and no draw may change a result. Shared memory holds NaN when a block begins. What would be undefined on a GPU
// is an error here: a barrier or a shuffle that some threads miss or that they reach at different places, a store
// beyond a shared array, a launch outside of a GPU's limits.
//
// jessl_model_launches counts launches; while jessl_model_idle is set they do nothing else, and the host alone takes
// time.
//
// The model does not see races between blocks, which run one after the other, nor any timing. cuda_model.cpp has the
// scheduler; its errors are reported like those of CUDA, by cudaGetLastError.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>

#define __global__
#define __device__
#define __host__
#define JESSL_SHARED(type, name, count) type* const name = jessl_model::shared<type>(count)
#define JESSL_LAUNCH(kernel, grid, block, stream, ...) \
  (static_cast<void>(stream), jessl_model::launch(grid, block, [&] { kernel(__VA_ARGS__); }))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace jessl_model {

using Where = std::source_location;

inline constexpr unsigned warp_size = 32;

// Of the thread that runs.
struct Thread {
  dim3 thread, block, threads, blocks;
  unsigned number;  // in its block
};
Thread& running();

void launch(dim3 grid, dim3 block, const std::function<void()>& kernel);

// Waits for all threads of the block; whether any of them gives true.
bool block_barrier(bool value, const Where& where);
// Waits for all lanes of the warp, and returns the number that lane `from` gives.
std::uint64_t exchanged(std::uint64_t bits, unsigned from, unsigned lanes, const Where& where);
// The array that this place of the source has in the block.
void* shared_bytes(std::size_t bytes, const Where& where);

template <class T>
T* shared(std::size_t count, const Where& where = Where::current()) {
  return static_cast<T*>(shared_bytes(count * sizeof(T), where));
}

template <class T>
T shuffled(T value, unsigned from, unsigned lanes, const Where& where) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchanged(bits, from, lanes, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned lane() { return running().number % warp_size; }

template <class To, class From>
To same_bits(From from) {
  To to;
  static_assert(sizeof(To) == sizeof(From));
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace jessl_model

extern "C" {
__attribute__((visibility("default"))) extern std::uint64_t jessl_model_launches;
__attribute__((visibility("default"))) extern int jessl_model_idle;
}

#define threadIdx (jessl_model::running().thread)
#define blockIdx (jessl_model::running().block)
#define blockDim (jessl_model::running().threads)
#define gridDim (jessl_model::running().blocks)

inline void __syncthreads(const jessl_model::Where& where = jessl_model::Where::current()) {
  jessl_model::block_barrier(false, where);
}
inline int __syncthreads_or(int value, const jessl_model::Where& where = jessl_model::Where::current()) {
  return jessl_model::block_barrier(value != 0, where);
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, unsigned mask,
                  const jessl_model::Where& where = jessl_model::Where::current()) {
  return jessl_model::shuffled(value, jessl_model::lane() ^ mask, lanes, where);
}
template <class T>
T __shfl_down_sync(unsigned lanes, T value, unsigned by,
                   const jessl_model::Where& where = jessl_model::Where::current()) {
  const unsigned from = jessl_model::lane() + by;  // beyond the last lane a thread gets its own number back
  return jessl_model::shuffled(value, from < jessl_model::warp_size ? from : jessl_model::lane(), lanes, where);
}

struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(8) ushort4 {
  unsigned short x, y, z, w;
};
inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
  return {x, y, z, w};
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float __uint_as_float(std::uint32_t bits) { return jessl_model::same_bits<float>(bits); }
inline std::uint32_t __float_as_uint(float value) { return jessl_model::same_bits<std::uint32_t>(value); }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration, cudaErrorLaunchFailure };
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceCount(int* count);
