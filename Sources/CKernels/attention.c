// Causal attention of one head over one text, in tiles that stay in cache: 96 queries against 96 keys at a time. Scores
// are never kept; sums of the softmax are carried from one block of keys to the next, and the way back computes the
// probabilities again.
//
// All products read 32-bit words: a float, or two bf16 terms of the sum next to each other. So an operand is packed in
// one of three forms, X being rows of d numbers: `rows` (words along d), `pairs` (words along the rows, d columns), and
// `columns` (the transpose of `rows`, in blocks of 96 columns). In fp32 `rows` and `pairs` are the same.
//
// Dao et al. 2022, arXiv:2205.14135, describe the scheme.
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { GROUP = 6, TILE = 96, BLOCK = 96 };

#define TILE_FMA(sum, a, b) sum += (ck_lanes)(a) * (ck_lanes)(b)
#if defined(__x86_64__)
#define TILE_GROUP group_v4_bf16
#define TILE_TARGET __attribute__((target("arch=x86-64-v4,avx512bf16"), min_vector_width(512)))
#define TILE_VECTORS 4
#define TILE_STEP(sum, a, b) sum = (ck_lanes)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b))
#include "tileproduct.h"
#define TILE_GROUP group_v4
#define TILE_TARGET __attribute__((target("arch=x86-64-v4"), min_vector_width(512)))
#define TILE_VECTORS 4
#define TILE_STEP TILE_FMA
#include "tileproduct.h"
#define TILE_GROUP group_v3
#define TILE_TARGET __attribute__((target("arch=x86-64-v3")))
#define TILE_VECTORS 1
#define TILE_STEP TILE_FMA
#include "tileproduct.h"
#endif
#define TILE_GROUP group_any
#define TILE_TARGET
#define TILE_VECTORS 1
#define TILE_STEP TILE_FMA
#include "tileproduct.h"

typedef void (*group_product)(const ck_word *, long, long, const ck_word *, long, float *, long, long, long, int);

int ck_attention_has_bf16(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return 0;
#endif
}

static group_product product_for(int is_bf16) {
#if defined(__x86_64__)
  if (is_bf16) return group_v4_bf16;
  if (__builtin_cpu_supports("x86-64-v4")) return group_v4;
  if (__builtin_cpu_supports("x86-64-v3")) return group_v3;
#endif
  return group_any;
}

CK_INLINE long least(long a, long b) { return a < b ? a : b; }
CK_INLINE long most(long a, long b) { return a > b ? a : b; }
CK_INLINE long up(long n, long to) { return (n + to - 1) / to * to; }

// Where everything lies in the working space. `terms` is how many terms a word holds.
typedef struct {
  long d, width;         // numbers of a head; the same in whole lanes
  long steps, row;       // words of a head; the same in whole lanes
  long terms, keys, columns;  // columns: keys in whole blocks
  uint32_t *k_columns, *v_columns, *k_pairs, *v_pairs;
  float *dk, *dv;
  uint32_t *q_rows, *q_pairs, *upstream_rows, *upstream_pairs;
  float *scores, *gradient, *sum_of_rows;
  uint32_t *p_pairs, *g_pairs, *g_rows;
  float *largest, *total, *mean;
  uint32_t *strip;
  long floats;
} layout;

static layout layout_of(ck_attention_shape shape, int is_backward, float *space) {
  layout l = {0};
  l.terms = shape.is_bf16 ? 2 : 1;
  l.d = shape.head_dimension;
  l.width = up(l.d, 16);
  l.steps = (l.d + l.terms - 1) / l.terms;
  l.row = up(l.steps, 16);
  l.keys = shape.keys;
  l.columns = up(l.keys, BLOCK);
  float *next = space;
#define CARVE(field, count) l.field = (void *)next, next += up(count, 16)
  CARVE(q_rows, TILE * l.row);
  CARVE(k_columns, l.columns * l.row);
  if (is_backward) {
    CARVE(v_columns, l.columns * l.row);
    CARVE(k_pairs, l.columns / l.terms * l.width);
    CARVE(dk, l.columns * l.width);
    CARVE(dv, l.columns * l.width);
    CARVE(upstream_rows, TILE * l.row);
    CARVE(gradient, TILE * BLOCK);
  } else {
    CARVE(v_pairs, l.columns / l.terms * l.width);
  }
  CARVE(scores, TILE * BLOCK);
  CARVE(sum_of_rows, TILE * l.width);
  if (shape.is_bf16) {
    CARVE(p_pairs, TILE * BLOCK / 2);
    CARVE(g_pairs, TILE * BLOCK / 2);
    CARVE(g_rows, TILE * BLOCK / 2);
    CARVE(q_pairs, TILE / 2 * l.width);
    CARVE(upstream_pairs, TILE / 2 * l.width);
  } else {
    // As `rows` and `pairs` are one.
    l.q_pairs = l.q_rows;
    l.upstream_pairs = l.upstream_rows;
    l.p_pairs = (uint32_t *)l.scores;
    l.g_pairs = l.g_rows = (uint32_t *)l.gradient;
  }
  CARVE(largest, TILE);
  CARVE(total, TILE);
  CARVE(mean, TILE);
  CARVE(strip, 16 * l.row);
#undef CARVE
  l.floats = next - space;
  return l;
}

long ck_attention_space(ck_attention_shape shape, int is_backward) { return layout_of(shape, is_backward, 0).floats; }

// MARK: Packing

// `padded` rows of which the first `rows` have numbers, the others zeros.
CK_DISPATCHED
static void pack_rows(const float *x, long stride, long rows, long padded, long d, long row, int is_bf16,
                      uint32_t *words) {
  for (long r = 0; r < padded; r++) {
    long count = r < rows ? d : 0;
    const float *from = x + r * stride;
    if (is_bf16) {
      uint16_t *to = (uint16_t *)(words + r * row);
      CK_ELEMENTWISE
      for (long i = 0; i < count; i++) to[i] = ck_bf16(from[i]);
      for (long i = count; i < 2 * row; i++) to[i] = 0;
    } else {
      float *to = (float *)(words + r * row);
      CK_ELEMENTWISE
      for (long i = 0; i < count; i++) to[i] = from[i];
      for (long i = count; i < row; i++) to[i] = 0;
    }
  }
}

CK_DISPATCHED
static void pack_pairs(const float *x, long stride, long rows, long padded, long d, long width, uint32_t *words) {
  for (long r = 0; r < padded; r += 2) {
    uint32_t *to = words + r / 2 * width;
    const float *first = x + r * stride, *second = first + stride;
    long both = r + 1 < rows ? d : 0, one = r < rows ? d : 0;
    CK_ELEMENTWISE
    for (long i = 0; i < both; i++) to[i] = ck_bf16(first[i]) | (uint32_t)ck_bf16(second[i]) << 16;
    for (long i = both; i < one; i++) to[i] = ck_bf16(first[i]);
    for (long i = one; i < width; i++) to[i] = 0;
  }
}

// Lane j of the rows i and i + s of a matrix whose blocks of s × s change places.
#define LOW(j, s) ((j) & (s) ? 16 + (j) - (s) : (j))
#define HIGH(j, s) ((j) & (s) ? 16 + (j) : (j) + (s))
#define LANES(f, s)                                                                                    \
  f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s), f(8, s), f(9, s), f(10, s), \
      f(11, s), f(12, s), f(13, s), f(14, s), f(15, s)
#define EXCHANGE(s)                                               \
  for (int i = 0; i < 16; i++) {                                  \
    if (i & s) continue;                                          \
    ck_words a = block[i], b = block[i + s];                      \
    block[i] = __builtin_shufflevector(a, b, LANES(LOW, s));      \
    block[i + s] = __builtin_shufflevector(a, b, LANES(HIGH, s)); \
  }

// The transpose of 16 rows of words, 16 at a time: word w of all of them at `to + w * BLOCK`.
CK_DISPATCHED
static void transpose(const uint32_t *strip, long row, uint32_t *to) {
  for (long w = 0; w < row; w += 16) {
    ck_words block[16];
    for (int i = 0; i < 16; i++) block[i] = *(const ck_words *)(strip + i * row + w);
    EXCHANGE(8)
    EXCHANGE(4)
    EXCHANGE(2)
    EXCHANGE(1)
    for (int i = 0; i < 16; i++) *(ck_words *)(to + (w + i) * BLOCK) = block[i];
  }
}

static void pack_columns(const layout *l, int is_bf16, const float *x, long stride, long first, uint32_t *words) {
  for (long key = first; key < l->keys; key += 16) {
    pack_rows(x + key * stride, stride, least(16, l->keys - key), 16, l->d, l->row, is_bf16, l->strip);
    transpose(l->strip, l->row, words + key / BLOCK * BLOCK * l->row + key % BLOCK);
  }
}

// Rows or pairs of rows, whichever a product of this precision reads along the rows.
static void pack_terms(const layout *l, const float *x, long stride, long rows, long padded, uint32_t *words) {
  if (l->terms == 2) {
    pack_pairs(x, stride, rows, padded, l->d, l->width, words);
  } else {
    pack_rows(x, stride, rows, padded, l->d, l->width, 0, words);
  }
}

void ck_attention_pack(ck_attention_shape shape, const float *k, long k_stride, const float *v, long v_stride,
                       long first, int is_backward, float *space) {
  layout l = layout_of(shape, is_backward, space);
  long rows = l.keys - first, padded = up(rows, 2);
  const float *keys = k + first * k_stride, *values = v + first * v_stride;
  pack_columns(&l, shape.is_bf16, k, k_stride, first, l.k_columns);
  if (is_backward) {
    pack_columns(&l, shape.is_bf16, v, v_stride, first, l.v_columns);
    pack_terms(&l, keys, k_stride, rows, padded, l.k_pairs + first / l.terms * l.width);
    memset(l.dk, 0, (size_t)(l.columns * l.width) * sizeof(float));
    memset(l.dv, 0, (size_t)(l.columns * l.width) * sizeof(float));
  } else {
    pack_terms(&l, values, v_stride, rows, padded, l.v_pairs + first / l.terms * l.width);
  }
}

// MARK: Between the products

// How many of a block's keys row r sees.
CK_INLINE long seen(long visible, long r, long rows) { return r < rows ? most(0, least(BLOCK, visible + r)) : 0; }

// Columns of row r to be filled: what the last row of its group sees. On the way back groups of rows and of keys begin
// together, so a sum reads none but these, except for keys behind the last one, whose sums nobody takes.
CK_INLINE long filled(long visible, long r, long rows) {
  return up(seen(visible, least(r / GROUP * GROUP + GROUP, rows) - 1, rows), 16);
}

// Sixteen columns at a time, always: a number of columns that compilers do not know leaves them a scalar rest.
#define BY_SIXTEEN(c, columns) \
  for (long c##_first = 0; c##_first < columns; c##_first += 16) \
    CK_ELEMENTWISE                                               \
    for (long c = c##_first; c < c##_first + 16; c++)

// exp(scale * (s − largest so far)) in place of the scores, or as bf16 rows; what was summed before is brought to the
// new largest score.
CK_DISPATCHED
static void soften(const layout *l, float scale, long visible, long begin, long rows, long padded, int is_first) {
  for (long r = begin; r < padded; r++) {
    float *row = l->scores + r * BLOCK;
    uint16_t *rounded = (uint16_t *)l->p_pairs + r * BLOCK;
    long count = seen(visible, r, rows), columns = filled(visible, r, rows);
    float before = is_first ? -__builtin_inff() : l->largest[r], largest = before;
    // A comparison at a time would keep the compiler from vectors.
    ck_lanes high = (ck_lanes){} + before;
    long whole = count / 16 * 16;
    for (long c = 0; c < whole; c += 16) high = __builtin_elementwise_max(high, *(const ck_lanes *)(row + c));
    largest = __builtin_reduce_max(high);
    for (long c = whole; c < count; c++) largest = row[c] > largest ? row[c] : largest;
    float sums[16] = {0}, sum = 0;
    BY_SIXTEEN(c, columns) {
      float e = ck_exp(scale * (row[c] - largest));
      e = c < count ? e : 0;
      row[c] = e;
      sums[c % 16] += e;
    }
    for (int i = 0; i < 16; i++) sum += sums[i];
    if (l->terms == 2) {
      BY_SIXTEEN(c, columns) rounded[c] = ck_bf16(row[c]);
    }
    if (is_first) {
      l->total[r] = sum;
    } else if (largest > before) {
      float factor = ck_exp(scale * (before - largest)), *o = l->sum_of_rows + r * l->width;
      for (long i = 0; i < l->width; i++) o[i] *= factor;
      l->total[r] = l->total[r] * factor + sum;
    } else {
      l->total[r] += sum;
    }
    l->largest[r] = largest;
  }
}

// Divides the tile's sums by their totals.
CK_DISPATCHED
static void finish(const layout *l, float scale, long rows, float *out, long out_stride, float *log_sum_exp,
                   long log_sum_exp_stride) {
  for (long r = 0; r < rows; r++) {
    float *to = out + r * out_stride, inverse = 1.0f / l->total[r];
    const float *sums = l->sum_of_rows + r * l->width;
    for (long i = 0; i < l->d; i++) to[i] = sums[i] * inverse;
    log_sum_exp[r * log_sum_exp_stride] = scale * l->largest[r] + __builtin_logf(l->total[r]);
  }
}

// P = exp(scale * S − lse) and dS = scale * P * (dP − mean), in place of S and dP; zeros where a row sees nothing.
CK_DISPATCHED
static void differentiate(const layout *l, float scale, long visible, long begin, long rows, long padded) {
  for (long r = begin; r < padded; r++) {
    float *restrict s = l->scores + r * BLOCK, *restrict g = l->gradient + r * BLOCK;
    float total = l->total[r], mean = l->mean[r];
    long count = seen(visible, r, rows), columns = filled(visible, r, rows);
    BY_SIXTEEN(c, columns) {
      float p = ck_exp(scale * s[c] - total), ds = scale * p * (g[c] - mean);
      s[c] = c < count ? p : 0;
      g[c] = c < count ? ds : 0;
    }
  }
  if (l->terms == 1) return;
  for (long r = begin; r < padded; r += 2) {
    const float *restrict s = l->scores + r * BLOCK, *restrict g = l->gradient + r * BLOCK;
    uint32_t *restrict p_pairs = l->p_pairs + r / 2 * BLOCK, *restrict g_pairs = l->g_pairs + r / 2 * BLOCK;
    uint16_t *restrict g_rows = (uint16_t *)l->g_rows + r * BLOCK;
    long columns = filled(visible, r, rows);
    BY_SIXTEEN(c, columns) p_pairs[c] = ck_bf16(s[c]) | (uint32_t)ck_bf16(s[BLOCK + c]) << 16;
    BY_SIXTEEN(c, columns) {
      uint32_t first = ck_bf16(g[c]), second = ck_bf16(g[BLOCK + c]);
      g_pairs[c] = first | second << 16;
      g_rows[c] = (uint16_t)first;
      g_rows[BLOCK + c] = (uint16_t)second;
    }
  }
}

// MARK: A head

// Scores of the tile's rows against a block of keys, as far as they are seen, from row `begin` on.
CK_INLINE void score(const layout *l, group_product product, const uint32_t *rows_of_words, const uint32_t *columns,
                     long block, long visible, long begin, long rows, float *to) {
  for (long r = begin; r < rows; r += GROUP) {
    long count = seen(visible, least(r + GROUP, rows) - 1, rows);
    product(rows_of_words + r * l->row, l->row, 1, columns + block * l->row, BLOCK, to + r * BLOCK, BLOCK,
            up(count, 16), l->steps, 0);
  }
}

// The tile's rows of words (probabilities, gradients of scores) times a block's pairs (values, keys).
CK_INLINE void mix(const layout *l, group_product product, const uint32_t *words, const uint32_t *pairs, long block,
                   long visible, long begin, long rows) {
  long stride = BLOCK / l->terms;
  for (long r = begin; r < rows; r += GROUP) {
    long count = seen(visible, least(r + GROUP, rows) - 1, rows);
    product(words + r * stride, stride, 1, pairs + block / l->terms * l->width, l->width, l->sum_of_rows + r * l->width,
            l->width, l->width, (count + l->terms - 1) / l->terms, block > 0);
  }
}

// Adds the transpose of the tile's pairs (P, dS) times its pairs of numbers (dO, Q) to a block's sums (dV, dK).
CK_INLINE void gather(const layout *l, group_product product, const uint32_t *words, const uint32_t *pairs, long block,
                      long visible, long rows, long padded, float *sums) {
  long keys = seen(visible, rows - 1, rows);
  for (long key = 0; key < keys; key += GROUP) {
    // The first row that sees the first of these keys, and all after it.
    long first = most(0, key - visible + 1) / l->terms, last = padded / l->terms;
    product(words + first * BLOCK + key, 1, BLOCK, pairs + first * l->width, l->width, sums + (block + key) * l->width,
            l->width, l->width, last - first, 1);
  }
}

// The first row, in whole groups, that sees anything of a block.
CK_INLINE long first_seeing(long visible) { return most(0, 1 - visible) / GROUP * GROUP; }

void ck_attention_forward(ck_attention_shape shape, const float *q, long q_stride, long first_visible, long rows,
                          float *out, long out_stride, float *log_sum_exp, long log_sum_exp_stride, float *space) {
  layout l = layout_of(shape, 0, space);
  group_product product = product_for(shape.is_bf16);
  for (long tile = 0; tile < rows; tile += TILE) {
    long height = least(TILE, rows - tile), padded = up(height, GROUP);
    pack_rows(q + tile * q_stride, q_stride, height, padded, l.d, l.row, shape.is_bf16, l.q_rows);
    for (long block = 0; block < first_visible - 1 + tile + height; block += BLOCK) {
      long visible = first_visible + tile - block, begin = first_seeing(visible);
      score(&l, product, l.q_rows, l.k_columns, block, visible, begin, height, l.scores);
      soften(&l, shape.scale, visible, begin, height, padded, block == 0);
      mix(&l, product, l.p_pairs, l.v_pairs, block, visible, begin, height);
    }
    finish(&l, shape.scale, height, out + tile * out_stride, out_stride, log_sum_exp + tile * log_sum_exp_stride,
           log_sum_exp_stride);
  }
}

// Σ dO·O of every row of the tile, from dO as the products read it: where a row sees one key, dP is the same number.
CK_DISPATCHED
static void inner_products(const layout *l, const float *out, long out_stride, long rows) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *o = out + r * out_stride, *exact = (const float *)(l->upstream_rows + r * l->row);
    const uint16_t *rounded = (const uint16_t *)exact;
    float sum = 0;
    if (l->terms == 2) {
      for (long i = 0; i < l->d; i++) sum += ck_from_bf16(rounded[i]) * o[i];
    } else {
      for (long i = 0; i < l->d; i++) sum += exact[i] * o[i];
    }
    l->mean[r] = sum;
  }
}

void ck_attention_backward(ck_attention_shape shape, const float *d_out, long d_out_stride, const float *q,
                           long q_stride, const float *out, long out_stride, const float *log_sum_exp,
                           long log_sum_exp_stride, float *dq, long dq_stride, float *space) {
  layout l = layout_of(shape, 1, space);
  group_product product = product_for(shape.is_bf16);
  for (long tile = 0; tile < l.keys; tile += TILE) {
    long height = least(TILE, l.keys - tile), padded = up(height, GROUP);
    const float *queries = q + tile * q_stride, *upstream = d_out + tile * d_out_stride;
    pack_rows(queries, q_stride, height, padded, l.d, l.row, shape.is_bf16, l.q_rows);
    pack_rows(upstream, d_out_stride, height, padded, l.d, l.row, shape.is_bf16, l.upstream_rows);
    if (shape.is_bf16) {
      pack_pairs(queries, q_stride, height, padded, l.d, l.width, l.q_pairs);
      pack_pairs(upstream, d_out_stride, height, padded, l.d, l.width, l.upstream_pairs);
    }
    inner_products(&l, out + tile * out_stride, out_stride, height);
    for (long r = 0; r < padded; r++) l.total[r] = r < height ? log_sum_exp[(tile + r) * log_sum_exp_stride] : 0;
    for (long r = height; r < padded; r++) l.mean[r] = 0;
    for (long block = 0; block < tile + height; block += BLOCK) {
      long visible = 1 + tile - block, begin = first_seeing(visible);
      // P = exp(scale·QKᵀ − lse);  dP = dO Vᵀ;  dS = scale·P(dP − Σ dO·O)
      score(&l, product, l.q_rows, l.k_columns, block, visible, begin, height, l.scores);
      score(&l, product, l.upstream_rows, l.v_columns, block, visible, begin, height, l.gradient);
      differentiate(&l, shape.scale, visible, begin, height, padded);
      // dV += Pᵀ dO;  dK += dSᵀ Q;  dQ += dS K
      gather(&l, product, l.p_pairs, l.upstream_pairs, block, visible, height, padded, l.dv);
      gather(&l, product, l.g_pairs, l.q_pairs, block, visible, height, padded, l.dk);
      mix(&l, product, l.g_rows, l.k_pairs, block, visible, begin, height);
    }
    for (long r = 0; r < height; r++) {
      memcpy(dq + (tile + r) * dq_stride, l.sum_of_rows + r * l.width, (size_t)l.d * sizeof(float));
    }
  }
}

void ck_attention_take(ck_attention_shape shape, float *dk, long dk_stride, float *dv, long dv_stride, float *space) {
  layout l = layout_of(shape, 1, space);
  for (long key = 0; key < l.keys; key++) {
    memcpy(dk + key * dk_stride, l.dk + key * l.width, (size_t)l.d * sizeof(float));
    memcpy(dv + key * dv_stride, l.dv + key * l.width, (size_t)l.d * sizeof(float));
  }
}

CK_DISPATCHED
void ck_attention_softmax(float *scores, long stride, float scale, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    float *row = scores + r * stride;
    float largest = row[0];
    for (long c = 1; c < columns; c++) largest = row[c] > largest ? row[c] : largest;
    float sum = 0;
    {
      CK_REORDER
      for (long c = 0; c < columns; c++) {
        float e = ck_exp(scale * (row[c] - largest));
        row[c] = e;
        sum += e;
      }
    }
    float inverse = 1.0f / sum;
    for (long c = 0; c < columns; c++) row[c] *= inverse;
  }
}
