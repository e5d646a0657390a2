/* The kernels for one instruction set: build.py compiles this file once for each, all at the same time.
 *
 * LEVEL is portable, avx2 or avx512, and the compiler has been told to use those instructions.
 */
#include "kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BF16__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(a) JOIN(a, LEVEL)

#include "lanes.h"
