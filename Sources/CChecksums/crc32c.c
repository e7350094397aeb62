// CRC32C with the SSE4.2 instruction where the processor has it, with a table elsewhere.
// Detects accidents (flipped bits, torn or zeroed pages), not attackers.
#include "cchecksums.h"
#include <string.h>

// Four bits at a time: 16 entries are written down easily and checked by the known answer of "123456789".
static const uint32_t nibbles[16] = {
  0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
  0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u,
};

uint32_t cchecksums_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  crc = ~crc;
  for (size_t i = 0; i < count; i++) {
    crc ^= p[i];
    crc = (crc >> 4) ^ nibbles[crc & 15];
    crc = (crc >> 4) ^ nibbles[crc & 15];
  }
  return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2")))
static uint32_t crc32c_sse42(uint32_t start, const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  uint64_t crc = (uint32_t)~start;
  for (; count >= 8; count -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  uint32_t rest = (uint32_t)crc;
  for (; count > 0; count--, p++) rest = _mm_crc32_u8(rest, *p);
  return ~rest;
}
#endif

uint32_t cchecksums_crc32c(uint32_t crc, const void *bytes, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(crc, bytes, count);
#endif
  return cchecksums_crc32c_portable(crc, bytes, count);
}
