// What vector instructions this processor has, and giving its memory back.
#include "internal.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

int ck_processor_level(void) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CK_PROCESSOR_OTHER;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
    return CK_PROCESSOR_AVX2;
  return __builtin_cpu_supports("avx512bf16") ? CK_PROCESSOR_AVX512_BF16 : CK_PROCESSOR_AVX512;
#else
  return CK_PROCESSOR_OTHER;
#endif
}

void ck_memory_trim(void) {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}
