// The yardstick of benchmarks: how many multiply-adds a core can do when nothing else is in its way.
#include "internal.h"

// Independent chains hide the latency of a multiply-add; all of them fit the registers of the CPU they are for.
#define CK_PEAK(NAME, LANES, CHAINS, TARGET)                                                                \
  TARGET static float NAME(long rounds, float factor, float term) {                                         \
    typedef float lanes __attribute__((vector_size(4 * LANES)));                                            \
    lanes f = (lanes){0} + factor, t = (lanes){0} + term, chain[CHAINS];                                    \
    for (int c = 0; c < CHAINS; c++) chain[c] = (lanes){0} + (float)c;                                      \
    for (long r = 0; r < rounds; r++) {                                                                     \
      _Pragma("clang loop unroll(full)") for (int c = 0; c < CHAINS; c++) chain[c] =                        \
          __builtin_elementwise_fma(chain[c], f, t);                                                        \
    }                                                                                                       \
    lanes total = (lanes){0};                                                                               \
    for (int c = 0; c < CHAINS; c++) total += chain[c];                                                     \
    float sum = 0;                                                                                          \
    for (int i = 0; i < LANES; i++) sum += total[i];                                                        \
    return sum;                                                                                             \
  }

#if defined(__x86_64__)
CK_PEAK(peak_512, 16, 20, __attribute__((target("avx512f"))))
CK_PEAK(peak_256, 8, 12, __attribute__((target("avx2,fma"))))
// Without multiply-add instructions the builtin would call a library; a product and a sum count the same.
static float peak_128(long rounds, float factor, float term) {
  typedef float lanes __attribute__((vector_size(16)));
  lanes f = (lanes){0} + factor, t = (lanes){0} + term, chain[12];
  for (int c = 0; c < 12; c++) chain[c] = (lanes){0} + (float)c;
  for (long r = 0; r < rounds; r++) {
    _Pragma("clang loop unroll(full)") for (int c = 0; c < 12; c++) chain[c] = chain[c] * f + t;
  }
  lanes total = (lanes){0};
  for (int c = 0; c < 12; c++) total += chain[c];
  return total[0] + total[1] + total[2] + total[3];
}
#else
CK_PEAK(peak_128, 4, 24, )
#endif

double ck_peak_fma(long rounds, float factor, float term, float *result) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    *result = peak_512(rounds, factor, term);
    return 2.0 * 16 * 20 * (double)rounds;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    *result = peak_256(rounds, factor, term);
    return 2.0 * 8 * 12 * (double)rounds;
  }
  *result = peak_128(rounds, factor, term);
  return 2.0 * 4 * 12 * (double)rounds;
#else
  *result = peak_128(rounds, factor, term);
  return 2.0 * 4 * 24 * (double)rounds;
#endif
}
