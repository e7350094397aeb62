// Six rows of a product of small tiles, compiled once for every kind of CPU that includes this with
//   TILE_GROUP    the function's name
//   TILE_TARGET   attributes that allow the CPU's instructions
//   TILE_VECTORS  how many times 16 columns are summed at once: 6 · TILE_VECTORS sums shall fit its registers
//   TILE_STEP(sum, a, b)  sum += a · b for 16 columns; a and b hold 32-bit words: a float, or two bf16 terms
//
// c[r, j] (+)= Σ_s a[r·a_row + s·a_step] · b[s·b_step + j], r < 6, j < columns (a multiple of 16). Sums go up in s.

#define TILE_JOIN_(name, part) name##part
#define TILE_JOIN(name, part) TILE_JOIN_(name, part)
#define TILE_BLOCK TILE_JOIN(TILE_GROUP, _block)

TILE_TARGET CK_INLINE void TILE_BLOCK(int vectors, const ck_word *a, long a_row, long a_step, const ck_word *b,
                                      long b_step, float *c, long c_row, long steps, int adds) {
  ck_lanes sums[6][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < 6; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sums[r][v] = adds ? *(const ck_lanes *)(c + r * c_row + 16 * v) : (ck_lanes){};
  for (long s = 0; s < steps; s++) {
    ck_words right[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) right[v] = *(const ck_words *)(b + s * b_step + 16 * v);
#pragma clang loop unroll(full)
    for (int r = 0; r < 6; r++) {
      ck_words left = (ck_words){} + a[r * a_row + s * a_step];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) TILE_STEP(sums[r][v], left, right[v]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < 6; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) *(ck_lanes *)(c + r * c_row + 16 * v) = sums[r][v];
}

TILE_TARGET static void TILE_GROUP(const ck_word *a, long a_row, long a_step, const ck_word *b, long b_step, float *c,
                                   long c_row, long columns, long steps, int adds) {
  long left = columns / 16, blocks = (left + TILE_VECTORS - 1) / TILE_VECTORS;
  for (; blocks > 0; blocks--) {
    // Blocks of about equal width: one narrow leftover would wait for its loads.
    long vectors = (left + blocks - 1) / blocks;
    switch (vectors) {
#if TILE_VECTORS >= 4
    case 4: TILE_BLOCK(4, a, a_row, a_step, b, b_step, c, c_row, steps, adds); break;
    case 3: TILE_BLOCK(3, a, a_row, a_step, b, b_step, c, c_row, steps, adds); break;
    case 2: TILE_BLOCK(2, a, a_row, a_step, b, b_step, c, c_row, steps, adds); break;
#endif
    default: TILE_BLOCK(1, a, a_row, a_step, b, b_step, c, c_row, steps, adds); break;
    }
    left -= vectors;
    b += 16 * vectors;
    c += 16 * vectors;
  }
}

#undef TILE_BLOCK
#undef TILE_JOIN
#undef TILE_JOIN_
#undef TILE_GROUP
#undef TILE_TARGET
#undef TILE_VECTORS
#undef TILE_STEP
