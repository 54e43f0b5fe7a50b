// Marks functions that device code calls too.
#pragma once

#ifdef __CUDACC__
#define JESSL_HOST_DEVICE __host__ __device__
#else
#define JESSL_HOST_DEVICE
#endif

// nvcc shows a file to the compiler of the host too, each of which refuses the other's spelling.
#if defined(__CUDA_ARCH__)
#define JESSL_UNROLL(count) _Pragma("unroll")
#elif defined(__CUDACC__)
#define JESSL_UNROLL(count)
#else
#define JESSL_PRAGMA(text) _Pragma(#text)
#define JESSL_UNROLL(count) JESSL_PRAGMA(GCC unroll count)
#endif
