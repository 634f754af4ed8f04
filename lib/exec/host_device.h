// Functions that the processor and the GPU share, value by value: plain C++17.
#pragma once

#if defined(__CUDACC__)
#define QWB_BOTH __host__ __device__ __forceinline__
#else
#define QWB_BOTH inline
#endif
