// CRC32C and SHA-256 on plain bytes: the two sums that decide whether a file is whole.
// C because both want processor instructions that Swift cannot name.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Continues a CRC32C (Castagnoli, reflected, as in iSCSI); start with 0.
uint32_t cchecksums_crc32c(uint32_t crc, const void *bytes, size_t count);
/// The same sum without processor instructions; what other machines run, and what tests compare with.
uint32_t cchecksums_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

/// Absorbs `blocks` blocks of 64 bytes into the eight words of a SHA-256 state.
void cchecksums_sha256_blocks(uint32_t state[8], const void *bytes, size_t blocks);
/// The same without processor instructions.
void cchecksums_sha256_blocks_portable(uint32_t state[8], const void *bytes, size_t blocks);
