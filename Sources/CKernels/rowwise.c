// Operations whose result for one token depends on that token's row alone: norms, activations, rotary, biases.
#include "internal.h"

CK_DISPATCHED
void ck_rowwise_add_bias(const float *bias, float *y, long y_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    float *row = y + r * y_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) row[c] += bias[c];
  }
}

CK_DISPATCHED
void ck_rowwise_column_sums(const float *x, long x_stride, float *sums, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *row = x + r * x_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) sums[c] += row[c];
  }
}

CK_DISPATCHED
void ck_rowwise_normalize(const float *restrict x, long x_stride, const float *restrict gain,
                          const float *restrict shift, float epsilon, int centred, float *restrict y, long y_stride,
                          float *restrict statistics, long statistics_stride, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride;
    float *out = y + r * y_stride;
    float mean = 0;
    if (centred) {
      for (long c = 0; c < columns; c++) mean += in[c];
      mean /= columns;
    }
    float squares = 0;
    for (long c = 0; c < columns; c++) squares += (in[c] - mean) * (in[c] - mean);
    float inverse = 1.0f / __builtin_sqrtf(squares / columns + epsilon);
    if (shift) {
      for (long c = 0; c < columns; c++) out[c] = (in[c] - mean) * inverse * gain[c] + shift[c];
    } else {
      for (long c = 0; c < columns; c++) out[c] = (in[c] - mean) * inverse * gain[c];
    }
    statistics[r * statistics_stride] = mean;
    statistics[r * statistics_stride + 1] = inverse;
  }
}

// dx = inverse * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gain; the middle term only where centred.
CK_DISPATCHED
void ck_rowwise_normalize_gradient(const float *dy, long dy_stride, const float *restrict x, long x_stride,
                                   const float *restrict gain, const float *restrict statistics, long statistics_stride, int centred,
                                   float *dx, long dx_stride, int accumulate, long rows, long columns) {
  CK_REORDER
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride, *up = dy + r * dy_stride;
    float *out = dx + r * dx_stride;
    float mean = statistics[r * statistics_stride], inverse = statistics[r * statistics_stride + 1];
    float along = 0, sum = 0;
    for (long c = 0; c < columns; c++) {
      float g = up[c] * gain[c];
      along += g * (in[c] - mean);
      sum += g;
    }
    along *= inverse * inverse / columns;
    sum = centred ? sum / columns : 0;
    if (accumulate) {
      CK_ELEMENTWISE
      for (long c = 0; c < columns; c++) out[c] += inverse * (up[c] * gain[c] - sum - (in[c] - mean) * along);
    } else {
      CK_ELEMENTWISE
      for (long c = 0; c < columns; c++) out[c] = inverse * (up[c] * gain[c] - sum - (in[c] - mean) * along);
    }
  }
}

CK_DISPATCHED
void ck_rowwise_normalized_product(const float *dy, long dy_stride, const float *restrict x, long x_stride,
                                   const float *restrict statistics, long statistics_stride, float *out, long out_stride, long rows,
                                   long columns) {
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride, *up = dy + r * dy_stride;
    float *to = out + r * out_stride;
    float mean = statistics[r * statistics_stride], inverse = statistics[r * statistics_stride + 1];
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) to[c] = up[c] * (in[c] - mean) * inverse;
  }
}

CK_DISPATCHED
void ck_rowwise_gated_silu(const float *gate, long gate_stride, const float *up, long up_stride, float *y,
                           long y_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *g = gate + r * gate_stride, *u = up + r * up_stride;
    float *out = y + r * y_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) out[c] = g[c] / (1.0f + ck_exp(-g[c])) * u[c];
  }
}

CK_DISPATCHED
void ck_rowwise_gated_silu_gradient(const float *dy, long dy_stride, const float *gate, long gate_stride,
                                    const float *up, long up_stride, float *dgate, long dgate_stride, float *dup,
                                    long dup_stride, float *y, long y_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *d = dy + r * dy_stride, *g = gate + r * gate_stride, *u = up + r * up_stride;
    float *dg = dgate + r * dgate_stride, *du = dup + r * dup_stride, *out = y + r * y_stride;
    // Every value is read before any is written: the results may lie where the operands do.
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) {
      float gate_value = g[c], up_value = u[c], gradient = d[c];
      float sigmoid = 1.0f / (1.0f + ck_exp(-gate_value));
      float silu = gate_value * sigmoid;
      dg[c] = gradient * up_value * sigmoid * (1.0f + gate_value * (1.0f - sigmoid));
      du[c] = gradient * silu;
      out[c] = silu * up_value;
    }
  }
}

#define CK_GELU_A 0.7978845608028654f
#define CK_GELU_B 0.044715f

CK_DISPATCHED
void ck_rowwise_gelu(const float *x, long x_stride, float *y, long y_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride;
    float *out = y + r * y_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) {
      float v = in[c], u = CK_GELU_A * (v + CK_GELU_B * v * v * v);
      // (1 + tanh u) / 2 = 1 / (1 + e^(-2u))
      out[c] = v / (1.0f + ck_exp(-2.0f * u));
    }
  }
}

CK_DISPATCHED
void ck_rowwise_gelu_gradient(const float *dy, long dy_stride, const float *x, long x_stride, float *dx,
                              long dx_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride, *up = dy + r * dy_stride;
    float *out = dx + r * dx_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) {
      float v = in[c], u = CK_GELU_A * (v + CK_GELU_B * v * v * v);
      float half = 1.0f / (1.0f + ck_exp(-2.0f * u));
      float slope = CK_GELU_A * (1.0f + 3.0f * CK_GELU_B * v * v);
      out[c] = up[c] * (half + v * 2.0f * half * (1.0f - half) * slope);
    }
  }
}

CK_DISPATCHED
void ck_rowwise_relu(const float *x, long x_stride, float *y, long y_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *in = x + r * x_stride;
    float *out = y + r * y_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) out[c] = in[c] > 0 ? in[c] : 0;
  }
}

CK_DISPATCHED
void ck_rowwise_relu_gradient(const float *dy, long dy_stride, const float *y, long y_stride, float *dx,
                              long dx_stride, long rows, long columns) {
  for (long r = 0; r < rows; r++) {
    const float *up = dy + r * dy_stride, *out = y + r * y_stride;
    float *to = dx + r * dx_stride;
    CK_ELEMENTWISE
    for (long c = 0; c < columns; c++) to[c] = out[c] > 0 ? up[c] : 0;
  }
}

CK_DISPATCHED
void ck_rowwise_rotate(float *x, long x_stride, long heads, long head_dimension, const int32_t *positions,
                       const float *cosines, const float *sines, int inverse, long rows) {
  long half = head_dimension / 2;
  float sign = inverse ? -1.0f : 1.0f;
  for (long r = 0; r < rows; r++) {
    const float *restrict cosine = cosines + positions[r] * half, *restrict sine = sines + positions[r] * half;
    for (long h = 0; h < heads; h++) {
      float *restrict a = x + r * x_stride + h * head_dimension, *restrict b = a + half;
      for (long i = 0; i < half; i++) {
        float s = sign * sine[i], first = a[i], second = b[i];
        a[i] = first * cosine[i] - second * s;
        b[i] = second * cosine[i] + first * s;
      }
    }
  }
}
