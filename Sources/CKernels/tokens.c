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

CK_DISPATCHED
void ck_tokens_likeliest(const float *logits, long stride, long width, float inverse_temperature, int32_t *classes,
                         float *values, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    int32_t *names = classes + r * width;
    float *kept = values + r * width;
    if (width >= columns) {
      for (long c = 0; c < columns; c++) {
        names[c] = (int32_t)c;
        kept[c] = row[c];
      }
    } else {
      // The kept ones stand sorted; few of the later classes pass the smallest of them.
      long count = 0;
      for (long c = 0; c < columns; c++) {
        if (count == width && !(row[c] > kept[width - 1])) continue;
        long place = count < width ? count++ : width - 1;
        for (; place > 0 && row[c] > kept[place - 1]; place--) {
          kept[place] = kept[place - 1];
          names[place] = names[place - 1];
        }
        kept[place] = row[c];
        names[place] = (int32_t)c;
      }
    }
    if (inverse_temperature == 0) continue;
    float largest = row_maximum(row, columns), sum = 0;
    for (long c = 0; c < columns; c++) sum += ck_exp((row[c] - largest) * inverse_temperature);
    float log_sum = __builtin_logf(sum);
    for (long k = 0; k < width; k++) kept[k] = (kept[k] - largest) * inverse_temperature - log_sum;
  }
}

CK_DISPATCHED
void ck_tokens_blend(float *row, int32_t target, float hard, float soft, float temperature, const int32_t *classes,
                     const float *values, long width, float scale, float *loss, float *soft_loss, long columns) {
  CK_REORDER
  float largest = row_maximum(row, columns), of_target = row[target], sum = 0, soft_sum = 0, inverse = 0;
  int divergence = soft != 0 && temperature > 0;
  if (divergence) inverse = 1.0f / temperature;
  for (long c = 0; c < columns; c++) sum += ck_exp(row[c] - largest);
  float hard_factor = scale * hard / sum;
  *loss = largest - of_target + __builtin_logf(sum);
  *soft_loss = 0;
  if (!divergence) {
    if (soft != 0) {
      // Mean over classes of (z - v)^2 for the kept ones. Their logits are needed after the row is overwritten.
      float total = 0, factor = 2.0f * scale * soft / (float)columns;
      float differences[width + 1];
      for (long k = 0; k < width; k++) {
        differences[k] = row[classes[k]] - values[k];
        total += differences[k] * differences[k];
      }
      *soft_loss = total / (float)columns;
      for (long c = 0; c < columns; c++) row[c] = hard_factor * ck_exp(row[c] - largest);
      for (long k = 0; k < width; k++) row[classes[k]] += factor * differences[k];
    } else {
      for (long c = 0; c < columns; c++) row[c] = hard_factor * ck_exp(row[c] - largest);
    }
    row[target] -= scale * hard;
    return;
  }
  for (long c = 0; c < columns; c++) soft_sum += ck_exp((row[c] - largest) * inverse);
  float log_sum = __builtin_logf(soft_sum), kept = 0, teacher = 0, total = 0;
  float logarithms[width + 1];
  for (long k = 0; k < width; k++) {
    float q = ck_exp(values[k]), log_p = (row[classes[k]] - largest) * inverse - log_sum;
    logarithms[k] = log_p;
    kept += ck_exp(log_p);
    teacher += q;
    // A probability too small for ck_exp is 0 in the limit.
    if (values[k] > -86.0f) total += q * (values[k] - log_p);
  }
  // The classes that were not kept count as one outcome.
  float tail_p = 1.0f - kept, tail_q = 1.0f - teacher, tail_ratio = 1.0f;
  if (width < columns && tail_p > 1e-7f) {
    if (tail_q < 0) tail_q = 0;
    tail_ratio = tail_q / tail_p;
    if (tail_q > 1e-7f) total += tail_q * __builtin_logf(tail_ratio);
  }
  *soft_loss = temperature * temperature * total;
  float factor = scale * soft * temperature, tail_factor = factor * (1.0f - tail_ratio) / soft_sum;
  for (long c = 0; c < columns; c++) {
    float z = row[c] - largest;
    row[c] = hard_factor * ck_exp(z) + tail_factor * ck_exp(z * inverse);
  }
  for (long k = 0; k < width; k++) {
    float p = ck_exp(logarithms[k]);
    row[classes[k]] += factor * (tail_ratio * p - ck_exp(values[k]));
  }
  row[target] -= scale * hard;
}
