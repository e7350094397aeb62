// The parts of attention between its matrix products, on one tile of scores: rows are queries, columns keys.
#include "internal.h"

CK_INLINE long visible(long first_visible, long row, long columns) {
  long count = first_visible + row;
  return count < columns ? count : columns;
}

CK_DISPATCHED
void ck_attention_softmax(float *scores, long stride, float scale, long first_visible, float *log_sum_exp,
                          long log_sum_exp_stride, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    float *row = scores + r * stride;
    long count = visible(first_visible, r, columns);
    float largest = row[0];
    for (long c = 1; c < count; c++) largest = row[c] > largest ? row[c] : largest;
    float sum = 0;
    for (long c = 0; c < count; c++) {
      float e = ck_exp(scale * (row[c] - largest));
      row[c] = e;
      sum += e;
    }
    float inverse = 1.0f / sum;
    for (long c = 0; c < count; c++) row[c] *= inverse;
    for (long c = count; c < columns; c++) row[c] = 0;
    log_sum_exp[r * log_sum_exp_stride] = scale * largest + __builtin_logf(sum);
  }
}

CK_DISPATCHED
void ck_attention_probabilities(float *scores, long stride, float scale, long first_visible,
                                const float *log_sum_exp, long log_sum_exp_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    float *row = scores + r * stride, total = log_sum_exp[r * log_sum_exp_stride];
    long count = visible(first_visible, r, columns);
    for (long c = 0; c < count; c++) row[c] = ck_exp(scale * row[c] - total);
    for (long c = count; c < columns; c++) row[c] = 0;
  }
}

CK_DISPATCHED
void ck_attention_score_gradient(const float *restrict probabilities, float *restrict gradient, long stride,
                                 float scale, const float *restrict d_out, long d_out_stride,
                                 const float *restrict out, long out_stride, long head_dimension,
                                 long first_visible, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *p = probabilities + r * stride, *up = d_out + r * d_out_stride, *o = out + r * out_stride;
    float *g = gradient + r * stride, mean = 0;
    for (long i = 0; i < head_dimension; i++) mean += up[i] * o[i];
    long count = visible(first_visible, r, columns);
    for (long c = 0; c < count; c++) g[c] = scale * p[c] * (g[c] - mean);
    for (long c = count; c < columns; c++) g[c] = 0;
  }
}
