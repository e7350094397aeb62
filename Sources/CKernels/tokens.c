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

// Sixteen maxima side by side: the compiler takes one alone number by number, because a number that is none would make
// its order matter.
CK_INLINE float row_maximum(const float *row, long columns) {
  float lanes[16], largest = row[0];
  for (int l = 0; l < 16; l++) lanes[l] = largest;
  long c = 0;
  for (; c + 16 <= columns; c += 16)
    for (int l = 0; l < 16; l++) lanes[l] = row[c + l] > lanes[l] ? row[c + l] : lanes[l];
  for (; c < columns; c++) largest = row[c] > largest ? row[c] : largest;
  for (int l = 0; l < 16; l++) largest = lanes[l] > largest ? lanes[l] : largest;
  return largest;
}

CK_INLINE float exponential_sum(const float *row, float largest, long columns) {
  CK_REORDER
  float sum = 0;
  for (long c = 0; c < columns; c++) sum += ck_exp(row[c] - largest);
  return sum;
}

// A walk along a cumulative sum until it crosses a draw. Rounding can leave the draw beyond the end: then the last
// term that is not 0 counts.
typedef struct {
  double before, reached;
  long index;
} cumulative;

CK_INLINE int crosses(cumulative *sum, double term, long index, double wanted) {
  if (term <= 0) return 0;
  sum->index = index;
  sum->before = sum->reached;
  sum->reached += term;
  return sum->reached > wanted;
}

// Logits that stay in the first cache between two looks.
#define CK_PART 2048

// The class where the cumulative sum of a row of exponentials crosses a draw: part, block, class. Part p was taken
// relative to a logit of its own; its sum is partials[p], and factors[p] makes it comparable with the others'.
CK_INLINE long drawn_class(const float *row, const float *partials, const float *factors, double uniform, long columns) {
  CK_REORDER
  const long block = 64, parts = (columns + CK_PART - 1) / CK_PART;
  double total = 0;
  for (long p = 0; p < parts; p++) total += (double)partials[p] * factors[p];
  cumulative whole = {0}, blocks = {0}, classes = {0};
  for (long p = 0; p < parts; p++) {
    if (crosses(&whole, (double)partials[p] * factors[p], p, uniform * total)) break;
  }
  const long first = whole.index * CK_PART, end = columns - first < CK_PART ? columns : first + CK_PART;
  double wanted = (uniform * total - whole.before) / factors[whole.index];
  for (long b = first; b < end; b += block) {
    float sum = 0;
    for (long c = b; c < (end - b < block ? end : b + block); c++) sum += row[c];
    if (crosses(&blocks, sum, b, wanted)) break;
  }
  for (long c = blocks.index; c < (end - blocks.index < block ? end : blocks.index + block); c++) {
    if (crosses(&classes, row[c], c, wanted - blocks.before)) break;
  }
  return classes.index;
}

// Targets are given, or drawn from the row's own softmax at `uniforms` and written to `labels`.
CK_DISPATCHED
void ck_tokens_cross_entropy(float *logits, long stride, const int32_t *targets, const double *uniforms,
                             int32_t *labels, float scale, float *losses, uint16_t *rounded, long rows, long columns) {
  CK_REORDER
  const long parts = (columns + CK_PART - 1) / CK_PART;
  for (long r = 0; r < rows; r++) {
    float *row = logits + r * stride;
    if (!uniforms && targets[r] < 0) {
      for (long c = 0; c < columns; c++) row[c] = 0;
      if (rounded) memset(rounded + r * stride, 0, columns * sizeof *rounded);
      losses[r] = 0;
      continue;
    }
    // Each part is taken relative to the largest logit so far, so that the row is read from memory once.
    float of_target = uniforms ? 0 : row[targets[r]], largest = row[0], sum = 0;
    float references[parts], partials[parts], factors[parts];
    for (long p = 0; p < parts; p++) {
      long count = columns - p * CK_PART < CK_PART ? columns - p * CK_PART : CK_PART;
      float *part = row + p * CK_PART, reference = row_maximum(part, count), partial = 0;
      reference = reference > largest ? reference : largest;
      for (long c = 0; c < count; c++) {
        float e = ck_exp(part[c] - reference);
        part[c] = e;
        partial += e;
      }
      sum = sum * ck_exp(largest - reference) + partial;
      partials[p] = partial;
      references[p] = largest = reference;
    }
    for (long p = 0; p < parts; p++) factors[p] = ck_exp(references[p] - largest);
    long target = uniforms ? drawn_class(row, partials, factors, uniforms[r], columns) : targets[r];
    if (uniforms) {
      labels[r] = (int32_t)target;
      of_target = references[target / CK_PART] + __builtin_logf(row[target]);
    }
    float overall = scale / sum;
    for (long p = 0; p < parts; p++) {
      long count = columns - p * CK_PART < CK_PART ? columns - p * CK_PART : CK_PART;
      float *part = row + p * CK_PART, factor = overall * factors[p];
      if (rounded) {
        uint16_t *restrict to = rounded + r * stride + p * CK_PART;
        for (long c = 0; c < count; c++) {
          part[c] *= factor;
          to[c] = ck_bf16(part[c]);
        }
      } else {
        for (long c = 0; c < count; c++) part[c] *= factor;
      }
    }
    row[target] -= scale;
    if (rounded) rounded[r * stride + target] = ck_bf16(row[target]);
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
  const long block = 256, blocks = (columns + block - 1) / block;
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    float largest = row_maximum(row, columns), sums[blocks];
    double total = 0;
    for (long b = 0; b < blocks; b++) {
      sums[b] = exponential_sum(row + b * block, largest, b + 1 < blocks ? block : columns - b * block);
      total += sums[b];
    }
    cumulative whole = {0}, classes = {0};
    for (long b = 0; b < blocks; b++) {
      if (crosses(&whole, sums[b], b, uniforms[r] * total)) break;
    }
    long first = whole.index * block, end = columns - first < block ? columns : first + block;
    for (long c = first; c < end; c++) {
      if (crosses(&classes, ck_exp(row[c] - largest), c, uniforms[r] * total - whole.before)) break;
    }
    labels[r] = (int32_t)classes.index;
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

// Takes what of a part of a row passes the smallest of the kept ones, which stand sorted. Returns how many are kept.
CK_INLINE long keep_likeliest(const float *row, long first, long end, int32_t *names, float *kept, long count,
                              long width) {
  for (long b = first; b < end; b += 64) {
    long stop = end - b < 64 ? end : b + 64;
    if (count == width && !(row_maximum(row + b, stop - b) > kept[width - 1])) continue;
    for (long c = b; c < stop; c++) {
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
  return count;
}

CK_DISPATCHED
void ck_tokens_likeliest(const float *logits, long stride, long width, float inverse_temperature, int32_t *classes,
                         float *values, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *row = logits + r * stride;
    int32_t *names = classes + r * width;
    float *kept = values + r * width, largest = row[0], sum = 0;
    if (width >= columns) {
      for (long c = 0; c < columns; c++) {
        names[c] = (int32_t)c;
        kept[c] = row[c];
      }
    }
    long count = 0;
    // Part by part, so that a row comes from memory once; each is taken relative to the largest logit so far.
    for (long first = 0; first < columns; first += CK_PART) {
      long end = columns - first < CK_PART ? columns : first + CK_PART;
      float highest = row_maximum(row + first, end - first), partial = 0;
      if (width < columns && (count < width || highest > kept[width - 1])) {
        count = keep_likeliest(row, first, end, names, kept, count, width);
      }
      if (inverse_temperature == 0) continue;
      float reference = highest > largest ? highest : largest;
      for (long c = first; c < end; c++) partial += ck_exp((row[c] - reference) * inverse_temperature);
      sum = sum * ck_exp((largest - reference) * inverse_temperature) + partial;
      largest = reference;
    }
    if (inverse_temperature == 0) continue;
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
