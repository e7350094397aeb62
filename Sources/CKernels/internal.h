// What the kernel files share: dispatch by CPU at load time, and an exponential that vectorises.
#pragma once
#include "ckernels.h"
#include <string.h>

#if defined(__x86_64__)
#define CK_DISPATCHED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CK_DISPATCHED
#endif
#define CK_INLINE static inline __attribute__((always_inline))
// Iterations are independent, though results may lie exactly where operands do: without this the compiler's check for
// overlap would choose the scalar loop there.
#define CK_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
// Sums may be reordered into vector lanes; the order depends on the CPU only, never on threads.
#define CK_REORDER _Pragma("clang fp reassociate(on) contract(fast)")

// Sixteen columns at a time, wherever they lie: compilers cut them to what the CPU has.
typedef float ck_lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t ck_words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t ck_word __attribute__((may_alias));

// A float's bits as bfloat16: nearest, ties to even; the quiet bit keeps what is not a number from turning into infinity.
CK_INLINE uint16_t ck_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : nearest);
}

CK_INLINE float ck_from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// e^x for |relative error| < 2e-7, clamped to the normal range. Cody and Waite reduction, degree 6.
CK_INLINE float ck_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float scaled = x * 1.44269504088896341f;
  // Adding and removing 1.5 * 2^23 rounds to the nearest integer without a library call.
  float shifted = scaled + 12582912.0f;
  float n = shifted - 12582912.0f;
  float r = __builtin_fmaf(n, -0.693145751953125f, x);
  r = __builtin_fmaf(n, -1.42860682030941723212e-6f, r);
  float p = 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits;
  memcpy(&bits, &shifted, 4);
  bits = (bits << 23) + 0x3f800000;
  float power;
  memcpy(&power, &bits, 4);
  return p * power;
}
