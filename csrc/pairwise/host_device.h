// Marks functions that device code calls too.
#pragma once

#ifdef __CUDACC__
#define JESSL_HOST_DEVICE __host__ __device__
#else
#define JESSL_HOST_DEVICE
#endif

// nvcc compiles a file for the device and for the host, whose compiler knows another word.
#ifdef __CUDA_ARCH__
#define JESSL_UNROLL(count) _Pragma("unroll")
#elif defined(__CUDACC__)
#define JESSL_UNROLL(count)
#else
#define JESSL_UNROLL_AS(text) _Pragma(#text)
#define JESSL_UNROLL(count) JESSL_UNROLL_AS(GCC unroll count)
#endif
