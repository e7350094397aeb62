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

// Logits that stay in the first cache between two looks.
#define CK_PART 2048

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
    // Each part is taken relative to the largest logit so far, so that the row is read from memory once.
    float of_target = row[targets[r]], largest = row[0], sum = 0, references[(columns + CK_PART - 1) / CK_PART];
    for (long b = 0; b < columns; b += CK_PART) {
      long count = columns - b < CK_PART ? columns - b : CK_PART;
      float *part = row + b, reference = row_maximum(part, count), partial = 0;
      reference = reference > largest ? reference : largest;
      for (long c = 0; c < count; c++) {
        float e = ck_exp(part[c] - reference);
        part[c] = e;
        partial += e;
      }
      sum = sum * ck_exp(largest - reference) + partial;
      references[b / CK_PART] = largest = reference;
    }
    float overall = scale / sum;
    for (long b = 0; b < columns; b += CK_PART) {
      long count = columns - b < CK_PART ? columns - b : CK_PART;
      float *part = row + b, factor = overall * ck_exp(references[b / CK_PART] - largest);
      if (rounded) {
        uint16_t *restrict to = rounded + r * stride + b;
        for (long c = 0; c < count; c++) {
          part[c] *= factor;
          to[c] = ck_bf16(part[c]);
        }
      } else {
        for (long c = 0; c < count; c++) part[c] *= factor;
      }
    }
    row[targets[r]] -= scale;
    if (rounded) rounded[r * stride + targets[r]] = ck_bf16(row[targets[r]]);
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
      // The kept ones stand sorted; few parts of the row have anything that passes the smallest of them.
      long count = 0;
      for (long b = 0; b < columns; b += 64) {
        long end = columns - b < 64 ? columns : b + 64;
        if (count == width && !(row_maximum(row + b, end - b) > kept[width - 1])) continue;
        for (long c = b; c < end; c++) {
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
    }
    if (inverse_temperature == 0) continue;
    float largest = row_maximum(row, columns), sum = 0;
    for (long c = 0; c < columns; c++) sum += ck_exp((row[c] - largest) * inverse_temperature);
    float log_sum = __builtin_logf(sum);
    for (long k = 0; k < width; k++) kept[k] = (kept[k] - largest) * inverse_temperature - log_sum;
  }
}

// The loss of the target and the divergence from a teacher's kept classes and tail, gradients of both in the row.
CK_INLINE void blend_divergence(float *row, int32_t target, float hard, float soft, float temperature,
                                const int32_t *classes, const float *values, long width, float scale, float *loss,
                                float *soft_loss, long columns) {
  CK_REORDER
  float largest = row_maximum(row, columns), of_target = row[target], inverse = 1.0f / temperature;
  float sum = 0, soft_sum = 0, kept = 0, teacher = 0, total = 0, logarithms[width + 1];
  for (long k = 0; k < width; k++) logarithms[k] = (row[classes[k]] - largest) * inverse;
  // At the usual temperatures 1 and 2 one exponential a class serves both losses: e^z = (e^(z/2))^2.
  int same = temperature == 1.0f, square = temperature == 2.0f;
  if (same || square) {
    for (long c = 0; c < columns; c++) {
      float e = ck_exp((row[c] - largest) * inverse);
      row[c] = e;
      soft_sum += e;
      sum += e * e;
    }
    if (same) sum = soft_sum;
  } else {
    for (long c = 0; c < columns; c++) {
      float z = row[c] - largest;
      sum += ck_exp(z);
      soft_sum += ck_exp(z * inverse);
    }
  }
  *loss = largest - of_target + __builtin_logf(sum);
  float log_sum = __builtin_logf(soft_sum);
  for (long k = 0; k < width; k++) {
    float q = ck_exp(values[k]);
    logarithms[k] -= log_sum;
    kept += ck_exp(logarithms[k]);
    teacher += q;
    // A probability too small for ck_exp is 0 in the limit.
    if (values[k] > -86.0f) total += q * (values[k] - logarithms[k]);
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
  float hard_factor = scale * hard / sum;
  if (same) {
    for (long c = 0; c < columns; c++) row[c] *= hard_factor + tail_factor;
  } else if (square) {
    for (long c = 0; c < columns; c++) row[c] = row[c] * (hard_factor * row[c] + tail_factor);
  } else {
    for (long c = 0; c < columns; c++) {
      float z = row[c] - largest;
      row[c] = hard_factor * ck_exp(z) + tail_factor * ck_exp(z * inverse);
    }
  }
  for (long k = 0; k < width; k++) {
    row[classes[k]] += factor * (tail_ratio * ck_exp(logarithms[k]) - ck_exp(values[k]));
  }
  row[target] -= scale * hard;
}

CK_DISPATCHED
void ck_tokens_blend(float *row, int32_t target, float hard, float soft, float temperature, const int32_t *classes,
                     const float *values, long width, float scale, float *loss, float *soft_loss, long columns) {
  CK_REORDER
  if (soft != 0 && temperature > 0) {
    blend_divergence(row, target, hard, soft, temperature, classes, values, width, scale, loss, soft_loss, columns);
    return;
  }
  float largest = row_maximum(row, columns), of_target = row[target], sum = 0, total = 0;
  float factor = 2.0f * scale * soft / (float)columns, differences[width + 1];
  // Mean over classes of (z - v)^2 for the kept ones. Their logits are needed after the row is overwritten.
  if (soft == 0) width = 0;
  for (long k = 0; k < width; k++) {
    differences[k] = row[classes[k]] - values[k];
    total += differences[k] * differences[k];
  }
  for (long c = 0; c < columns; c++) {
    float e = ck_exp(row[c] - largest);
    row[c] = e;
    sum += e;
  }
  *loss = largest - of_target + __builtin_logf(sum);
  *soft_loss = total / (float)columns;
  float hard_factor = scale * hard / sum;
  for (long c = 0; c < columns; c++) row[c] *= hard_factor;
  for (long k = 0; k < width; k++) row[classes[k]] += factor * differences[k];
  row[target] -= scale * hard;
}
