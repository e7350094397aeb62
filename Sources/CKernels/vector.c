// Elementwise passes and sums over flat vectors, and the fused optimizer steps.
#include "internal.h"

CK_DISPATCHED
void ck_vector_round(const float *restrict x, uint16_t *restrict rounded, long count) {
  for (long i = 0; i < count; i++) rounded[i] = ck_bf16(x[i]);
}
CK_DISPATCHED
void ck_vector_fill(float *x, float value, long count) {
  for (long i = 0; i < count; i++) x[i] = value;
}
CK_DISPATCHED
void ck_vector_add(const float *x, float scale, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] += scale * x[i];
}
CK_DISPATCHED
void ck_vector_scale(float *x, float factor, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) x[i] *= factor;
}
CK_DISPATCHED
void ck_vector_subtract(const float *a, const float *b, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] = a[i] - b[i];
}
CK_DISPATCHED
void ck_vector_scaled(const float *restrict x, float factor, float *restrict y, long count) {
  for (long i = 0; i < count; i++) y[i] = factor * x[i];
}
CK_DISPATCHED
void ck_vector_product(const float *restrict a, const float *restrict b, float *restrict y, long count) {
  for (long i = 0; i < count; i++) y[i] = a[i] * b[i];
}
CK_DISPATCHED
void ck_vector_add_squares(const float *x, float scale, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] += scale * x[i] * x[i];
}
CK_DISPATCHED
void ck_vector_add_magnitudes(const float *x, float scale, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] += scale * __builtin_fabsf(x[i]);
}
CK_DISPATCHED
void ck_vector_square(const float *x, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] = x[i] * x[i];
}
CK_DISPATCHED
void ck_vector_square_rounded(const float *restrict x, uint16_t *restrict rounded, long count) {
  for (long i = 0; i < count; i++) rounded[i] = ck_bf16(x[i] * x[i]);
}
// Rows of a tile lie on pages of their own, where the processor does not fetch ahead.
enum { AHEAD = 8 };
CK_DISPATCHED
void ck_vector_square_tile(const float *restrict x, long stride, float *restrict y, long rows, long columns) {
  for (long r = 0; r < rows; r++, x += stride, y += columns) {
    if (r + AHEAD < rows)
      for (long i = 0; i < columns; i += 16) __builtin_prefetch(x + AHEAD * stride + i);
    for (long i = 0; i < columns; i++) y[i] = x[i] * x[i];
  }
}
CK_DISPATCHED
void ck_vector_square_tile_rounded(const uint16_t *restrict x, long stride, uint16_t *restrict y, long rows,
                                   long columns) {
  for (long r = 0; r < rows; r++, x += stride, y += columns) {
    if (r + AHEAD < rows)
      for (long i = 0; i < columns; i += 32) __builtin_prefetch(x + AHEAD * stride + i);
    for (long i = 0; i < columns; i++) {
      float value = ck_from_bf16(x[i]);
      y[i] = ck_bf16(value * value);
    }
  }
}
CK_DISPATCHED
void ck_vector_add_product(const float *a, const float *b, float scale, float *y, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) y[i] += scale * a[i] * b[i];
}
CK_DISPATCHED
void ck_vector_divide(const float *numerator, const float *denominator, const float *fallback, float *q,
                      long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) q[i] = denominator[i] > 0 ? numerator[i] / denominator[i] : fallback[i];
}

CK_DISPATCHED
void ck_vector_add_path(const float *gradient, const float *values, float *previous, float *path, long count) {
  CK_ELEMENTWISE
  for (long i = 0; i < count; i++) {
    path[i] -= gradient[i] * (values[i] - previous[i]);
    previous[i] = values[i];
  }
}
CK_DISPATCHED
void ck_vector_damped_step(float *parameters, const float *previous, const float *force, const float *bound,
                           const float *second_moment, float inverse_correction2, float epsilon, float rate,
                           uint16_t *rounded, long count) {
  if (second_moment) {
    CK_ELEMENTWISE
    for (long i = 0; i < count; i++) {
      float metric = __builtin_elementwise_sqrt(second_moment[i] * inverse_correction2) + epsilon;
      float slope = force[i] + bound[i] * (parameters[i] - previous[i]);
      parameters[i] -= rate * slope / (metric + rate * bound[i]);
    }
  } else {
    CK_ELEMENTWISE
    for (long i = 0; i < count; i++) {
      float slope = force[i] + bound[i] * (parameters[i] - previous[i]);
      parameters[i] -= rate * slope / (1.0f + rate * bound[i]);
    }
  }
  if (rounded) ck_vector_round(parameters, rounded, count);
}

// Sums run in float over 256 elements and in double over blocks: fast, and exact enough for norms of 10^8 numbers.
#define CK_BLOCK 256

CK_DISPATCHED
double ck_vector_dot(const float *x, const float *y, long count) {
  CK_REORDER
  double total = 0;
  for (long b = 0; b < count; b += CK_BLOCK) {
    long end = b + CK_BLOCK < count ? b + CK_BLOCK : count;
    float sum = 0;
    for (long i = b; i < end; i++) sum += x[i] * y[i];
    total += sum;
  }
  return total;
}

CK_DISPATCHED
double ck_vector_quadratic(const float *x, const float *anchor, const float *curvature, long count) {
  CK_REORDER
  double total = 0;
  for (long b = 0; b < count; b += CK_BLOCK) {
    long end = b + CK_BLOCK < count ? b + CK_BLOCK : count;
    float sum = 0;
    if (!anchor) {
      for (long i = b; i < end; i++) sum += (curvature ? curvature[i] : 1.0f) * x[i] * x[i];
    } else if (curvature) {
      for (long i = b; i < end; i++) sum += curvature[i] * (x[i] - anchor[i]) * (x[i] - anchor[i]);
    } else {
      for (long i = b; i < end; i++) sum += (x[i] - anchor[i]) * (x[i] - anchor[i]);
    }
    total += sum;
  }
  return total;
}

// What the pulls contribute to one block: a gradient (coupled), and force and stiffness (proximal).
typedef struct {
  float gradient[CK_BLOCK];
  float stiffness[CK_BLOCK];
  float penalty;
  int proximal;
} pull_block;

CK_INLINE void gather_coupled(pull_block *block, const float *restrict theta, const ck_pull *pulls, int pull_count,
                              long begin, long count) {
  CK_REORDER
  for (long i = 0; i < count; i++) block->gradient[i] = 0;
  block->penalty = 0;
  block->proximal = 0;
  for (int p = 0; p < pull_count; p++) {
    const float *anchor = pulls[p].anchor + begin;
    const float *curvature = pulls[p].curvature ? pulls[p].curvature + begin : 0;
    float strength = pulls[p].strength, sum = 0;
    if (curvature) {
      for (long i = 0; i < count; i++) sum += curvature[i] * (theta[i] - anchor[i]) * (theta[i] - anchor[i]);
    } else {
      for (long i = 0; i < count; i++) sum += (theta[i] - anchor[i]) * (theta[i] - anchor[i]);
    }
    block->penalty += 0.5f * strength * sum;
    if (pulls[p].proximal) {
      block->proximal = 1;
    } else if (curvature) {
      for (long i = 0; i < count; i++) block->gradient[i] += strength * curvature[i] * (theta[i] - anchor[i]);
    } else {
      for (long i = 0; i < count; i++) block->gradient[i] += strength * (theta[i] - anchor[i]);
    }
  }
}

// theta += (sum k (anchor - theta)) / (d + sum k), k = eta * lambda * F: the minimiser of the step's quadratic model
// in the metric d, written as a correction so that a strength of 0 changes no bit.
CK_INLINE void apply_proximal(pull_block *block, float *restrict theta, const float *restrict metric, float eta,
                              const ck_pull *pulls, int pull_count, long begin, long count) {
  float force[CK_BLOCK];
  for (long i = 0; i < count; i++) {
    force[i] = 0;
    block->stiffness[i] = 0;
  }
  for (int p = 0; p < pull_count; p++) {
    if (!pulls[p].proximal) continue;
    const float *anchor = pulls[p].anchor + begin;
    const float *curvature = pulls[p].curvature ? pulls[p].curvature + begin : 0;
    float strength = eta * pulls[p].strength;
    for (long i = 0; i < count; i++) {
      float k = curvature ? strength * curvature[i] : strength;
      force[i] += k * (anchor[i] - theta[i]);
      block->stiffness[i] += k;
    }
  }
  for (long i = 0; i < count; i++) theta[i] += force[i] / (metric[i] + block->stiffness[i]);
}

CK_INLINE void round_block(const float *restrict theta, uint16_t *restrict rounded, long count) {
  for (long i = 0; i < count; i++) rounded[i] = ck_bf16(theta[i]);
}

#define CK_PIECE 4096

CK_INLINE float block_quadratic(const float *restrict theta, const float *restrict anchor,
                                const float *restrict curvature, long count) {
  CK_REORDER
  float sum = 0;
  for (long i = 0; i < count; i++) sum += curvature[i] * (theta[i] - anchor[i]) * (theta[i] - anchor[i]);
  return sum;
}

// One past, which is what any number of merged pasts is: two loops a block instead of six, bits as in the general case.
CK_INLINE double adamw_beside_one(float *restrict theta, const float *restrict g, float *restrict m, float *restrict v,
                                  const float *restrict anchor, const float *restrict curvature, float strength,
                                  const int proximal, const ck_adamw_step *step, long count) {
  float eta = step->learning_rate, keep = 1.0f - eta * step->weight_decay, pressure = eta * strength;
  float beta1 = step->beta1, beta2 = step->beta2, epsilon = step->epsilon, scale = step->gradient_scale;
  float correction1 = step->inverse_correction1, correction2 = step->inverse_correction2;
  double total = 0;
  for (long b = 0; b < count; b += CK_BLOCK) {
    long end = b + CK_BLOCK < count ? b + CK_BLOCK : count;
    total += 0.5f * strength * block_quadratic(theta + b, anchor + b, curvature + b, end - b);
    for (long i = b; i < end; i++) {
      float slope = scale * g[i];
      if (!proximal) {
        float force = strength * curvature[i] * (theta[i] - anchor[i]);
        slope += force;
      }
      m[i] = beta1 * m[i] + (1.0f - beta1) * slope;
      v[i] = beta2 * v[i] + (1.0f - beta2) * slope * slope;
      float metric = __builtin_elementwise_sqrt(v[i] * correction2) + epsilon;
      theta[i] = theta[i] * keep - eta * (m[i] * correction1) / metric;
      if (proximal) {
        float stiffness = pressure * curvature[i], force = stiffness * (anchor[i] - theta[i]);
        theta[i] += force / (metric + stiffness);
      }
    }
  }
  return total;
}

CK_DISPATCHED
double ck_vector_adamw(float *parameters, const float *gradient, float *first_moment, float *second_moment,
                       uint16_t *rounded, const ck_pull *pulls, int pull_count, const ck_adamw_step *step,
                       long count) {
  if (pull_count == 1 && pulls->curvature) {
    double one = 0;
    // In pieces, so that rounding finds the parameters in cache.
    for (long b = 0; b < count; b += CK_PIECE) {
      long n = count - b < CK_PIECE ? count - b : CK_PIECE;
      const float *anchor = pulls->anchor + b, *curvature = pulls->curvature + b;
      if (pulls->proximal) {
        one += adamw_beside_one(parameters + b, gradient + b, first_moment + b, second_moment + b, anchor, curvature,
                                pulls->strength, 1, step, n);
      } else {
        one += adamw_beside_one(parameters + b, gradient + b, first_moment + b, second_moment + b, anchor, curvature,
                                pulls->strength, 0, step, n);
      }
      if (rounded) round_block(parameters + b, rounded + b, n);
    }
    return one;
  }
  double penalty = 0;
  float eta = step->learning_rate, keep = 1.0f - eta * step->weight_decay;
  float beta1 = step->beta1, beta2 = step->beta2, epsilon = step->epsilon, scale = step->gradient_scale;
  float correction1 = step->inverse_correction1, correction2 = step->inverse_correction2;
  pull_block block;
  float metric[CK_BLOCK];
  for (long b = 0; b < count; b += CK_BLOCK) {
    long n = count - b < CK_BLOCK ? count - b : CK_BLOCK;
    float *restrict theta = parameters + b, *restrict m = first_moment + b, *restrict v = second_moment + b;
    const float *restrict g = gradient + b;
    if (pull_count) gather_coupled(&block, theta, pulls, pull_count, b, n);
    for (long i = 0; i < n; i++) {
      float slope = scale * g[i];
      if (pull_count) slope += block.gradient[i];
      m[i] = beta1 * m[i] + (1.0f - beta1) * slope;
      v[i] = beta2 * v[i] + (1.0f - beta2) * slope * slope;
      metric[i] = __builtin_elementwise_sqrt(v[i] * correction2) + epsilon;
      theta[i] = theta[i] * keep - eta * (m[i] * correction1) / metric[i];
    }
    if (pull_count) {
      penalty += block.penalty;
      if (block.proximal) apply_proximal(&block, theta, metric, eta, pulls, pull_count, b, n);
    }
    if (rounded) round_block(theta, rounded + b, n);
  }
  return penalty;
}

CK_DISPATCHED
double ck_vector_sgd(float *parameters, const float *gradient, float *momentum_buffer, float momentum,
                     float learning_rate, float weight_decay, float gradient_scale, uint16_t *rounded,
                     const ck_pull *pulls, int pull_count, long count) {
  double penalty = 0;
  float keep = 1.0f - learning_rate * weight_decay;
  pull_block block;
  float metric[CK_BLOCK];
  for (long i = 0; i < CK_BLOCK; i++) metric[i] = 1.0f;
  for (long b = 0; b < count; b += CK_BLOCK) {
    long n = count - b < CK_BLOCK ? count - b : CK_BLOCK;
    float *restrict theta = parameters + b;
    const float *restrict g = gradient + b;
    float *restrict buffer = momentum_buffer ? momentum_buffer + b : 0;
    if (pull_count) gather_coupled(&block, theta, pulls, pull_count, b, n);
    for (long i = 0; i < n; i++) {
      float slope = gradient_scale * g[i];
      if (pull_count) slope += block.gradient[i];
      if (buffer) {
        buffer[i] = momentum * buffer[i] + slope;
        slope = buffer[i];
      }
      theta[i] = theta[i] * keep - learning_rate * slope;
    }
    if (pull_count) {
      penalty += block.penalty;
      if (block.proximal) apply_proximal(&block, theta, metric, learning_rate, pulls, pull_count, b, n);
    }
    if (rounded) round_block(theta, rounded + b, n);
  }
  return penalty;
}
