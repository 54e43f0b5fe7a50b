// Marks functions that device code calls too.
#pragma once

#ifdef __CUDACC__
#define JESSL_HOST_DEVICE __host__ __device__
#define JESSL_UNROLL(count) _Pragma("unroll")
#else
#define JESSL_HOST_DEVICE
#define JESSL_UNROLL_AS(text) _Pragma(#text)
#define JESSL_UNROLL(count) JESSL_UNROLL_AS(GCC unroll count)
#endif
