// Where token ids meet vectors: embedding rows, cross-entropy, sampling.
#include "internal.h"

void ck_tokens_gather(const float *table, long table_stride, const int32_t *tokens, float *y, long y_stride,
                      long rows, long columns) {
  for (long r = 0; r < rows; r++) memcpy(y + r * y_stride, table + tokens[r] * table_stride, columns * sizeof(float));
}

CK_DISPATCHED
void ck_tokens_scatter_add(const float *dy, long dy_stride, const int32_t *tokens, float *table, long table_stride,
                           long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    float *to = table + tokens[r] * table_stride;
    const float *from = dy + r * dy_stride;
    for (long c = 0; c < columns; c++) to[c] += from[c];
  }
}

CK_INLINE float row_maximum(const float *row, long columns) {
  CK_REORDER
  float largest = row[0];
  for (long c = 1; c < columns; c++) largest = row[c] > largest ? row[c] : largest;
  return largest;
}

CK_INLINE float exponential_sum(const float *row, float largest, long columns) {
  CK_REORDER
  float sum = 0;
  for (long c = 0; c < columns; c++) sum += ck_exp(row[c] - largest);
  return sum;
}

CK_DISPATCHED
void ck_tokens_cross_entropy(float *logits, long stride, const int32_t *targets, float scale, float *losses,
                             uint16_t *rounded, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    float *row = logits + r * stride;
    if (targets[r] < 0) {
      for (long c = 0; c < columns; c++) row[c] = 0;
      if (rounded) memset(rounded + r * stride, 0, columns * sizeof *rounded);
      losses[r] = 0;
      continue;
    }
    float largest = row_maximum(row, columns), of_target = row[targets[r]], sum = 0;
    for (long c = 0; c < columns; c++) {
      float e = ck_exp(row[c] - largest);
      row[c] = e;
      sum += e;
    }
    float factor = scale / sum;
    if (rounded) {
      uint16_t *restrict to = rounded + r * stride;
      for (long c = 0; c < columns; c++) {
        row[c] *= factor;
        to[c] = ck_bf16(row[c]);
      }
      row[targets[r]] -= scale;
      to[targets[r]] = ck_bf16(row[targets[r]]);
    } else {
      for (long c = 0; c < columns; c++) row[c] *= factor;
      row[targets[r]] -= scale;
    }
    losses[r] = largest - of_target + __builtin_logf(sum);
  }
}

CK_DISPATCHED
void ck_tokens_negative_log_likelihood(const float *logits, long stride, const int32_t *targets, float *losses,
                                       long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    if (targets[r] < 0) {
      losses[r] = 0;
      continue;
    }
    float largest = row_maximum(row, columns);
    losses[r] = largest - row[targets[r]] + __builtin_logf(exponential_sum(row, largest, columns));
  }
}

// Sums of blocks first, then a walk inside the one block where the cumulative sum crosses the draw.
CK_DISPATCHED
void ck_tokens_sample(const float *logits, long stride, const double *uniforms, int32_t *labels, long rows,
                      long columns) {
  const long block = 256;
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    float largest = row_maximum(row, columns);
    double total = 0;
    for (long b = 0; b < columns; b += block) {
      total += exponential_sum(row + b, largest, columns - b < block ? columns - b : block);
    }
    double wanted = uniforms[r] * total, reached = 0;
    long b = 0;
    for (; b + block < columns; b += block) {
      double sum = exponential_sum(row + b, largest, block);
      if (reached + sum > wanted) break;
      reached += sum;
    }
    long end = b + block < columns ? b + block : columns, label = b;
    for (; label < end - 1; label++) {
      reached += ck_exp(row[label] - largest);
      if (reached > wanted) break;
    }
    labels[r] = (int32_t)label;
  }
}

CK_DISPATCHED
void ck_tokens_softmax(const float *logits, long stride, float *out, long out_stride, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    float *to = out + r * out_stride, largest = row_maximum(row, columns), sum = 0;
    for (long c = 0; c < columns; c++) {
      float e = ck_exp(row[c] - largest);
      to[c] = e;
      sum += e;
    }
    float inverse = 1.0f / sum;
    for (long c = 0; c < columns; c++) to[c] *= inverse;
  }
}
