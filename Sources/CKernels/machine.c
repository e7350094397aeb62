// What vector instructions this processor has, and what the heap keeps of its memory.
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

// The C library's own limits follow what is freed: a product's working space at the top of the heap would be given
// back and cleared anew in every step.
void ck_memory_keep(void) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}
