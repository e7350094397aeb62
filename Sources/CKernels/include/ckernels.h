// Single-threaded kernels on pointers and sizes: no allocation, no globals, no threads, no I/O.
// Matrices are row-major with a row stride in elements; every function handles `rows` rows from its pointers on.
#pragma once
#include <stdint.h>

// MARK: rowwise.c

void ck_rowwise_add_bias(const float *bias, float *y, long y_stride, long rows, long columns);
void ck_rowwise_column_sums(const float *x, long x_stride, float *sums, long rows, long columns);
void ck_rowwise_normalize(const float *x, long x_stride, const float *gain, const float *shift, float epsilon,
                          int centred, float *y, long y_stride, float *statistics, long statistics_stride, long rows, long columns);
void ck_rowwise_normalize_gradient(const float *dy, long dy_stride, const float *x, long x_stride, const float *gain,
                                   const float *statistics, long statistics_stride, int centred, float *dx, long dx_stride, int accumulate,
                                   long rows, long columns);
void ck_rowwise_normalized_product(const float *dy, long dy_stride, const float *x, long x_stride,
                                   const float *statistics, long statistics_stride, float *out, long out_stride, long rows, long columns);
void ck_rowwise_gated_silu(const float *gate, long gate_stride, const float *up, long up_stride, float *y,
                           long y_stride, long rows, long columns);
void ck_rowwise_gated_silu_gradient(const float *dy, long dy_stride, const float *gate, long gate_stride,
                                    const float *up, long up_stride, float *dgate, long dgate_stride, float *dup,
                                    long dup_stride, float *y, long y_stride, long rows, long columns);
void ck_rowwise_gelu(const float *x, long x_stride, float *y, long y_stride, long rows, long columns);
void ck_rowwise_gelu_gradient(const float *dy, long dy_stride, const float *x, long x_stride, float *dx,
                              long dx_stride, long rows, long columns);
void ck_rowwise_relu(const float *x, long x_stride, float *y, long y_stride, long rows, long columns);
void ck_rowwise_relu_gradient(const float *dy, long dy_stride, const float *y, long y_stride, float *dx,
                              long dx_stride, long rows, long columns);
void ck_rowwise_rotate(float *x, long x_stride, long heads, long head_dimension, const int32_t *positions,
                       const float *cosines, const float *sines, int inverse, long rows);

// MARK: attention.c

// Keys and values that one head of one text attends to, packed into `space` by ck_attention_pack.
typedef struct {
  long keys, head_dimension;
  float scale;
  int is_bf16;
} ck_attention_shape;

// Whether this CPU multiplies pairs of bf16.
int ck_attention_has_bf16(void);
// Floats of working space for one head of one text.
long ck_attention_space(ck_attention_shape shape, int is_backward);
// Packs keys and values from key `first` (a multiple of 16) on; backward also clears the sums of dK and dV.
void ck_attention_pack(ck_attention_shape shape, const float *k, long k_stride, const float *v, long v_stride,
                       long first, int is_backward, float *space);
// Row r of the queries sees the first `first_visible + r` keys. out = softmax(scale * QK') V.
void ck_attention_forward(ck_attention_shape shape, const float *q, long q_stride, long first_visible, long rows,
                          float *out, long out_stride, float *log_sum_exp, long log_sum_exp_stride, float *space);
// dQ of one head, whose query r sees the first r + 1 keys; its dK and dV are added to the sums in `space`.
void ck_attention_backward(ck_attention_shape shape, const float *d_out, long d_out_stride, const float *q,
                           long q_stride, const float *out, long out_stride, const float *log_sum_exp,
                           long log_sum_exp_stride, float *dq, long dq_stride, float *space);
// The sums of dK and dV.
void ck_attention_take(ck_attention_shape shape, float *dk, long dk_stride, float *dv, long dv_stride, float *space);
// Rows become softmax(scale * row).
void ck_attention_softmax(float *scores, long stride, float scale, long rows, long columns);

// MARK: tokens.c

void ck_tokens_gather(const float *table, long table_stride, const int32_t *tokens, float *y, long y_stride,
                      long rows, long columns);
void ck_tokens_scatter_add(const float *dy, long dy_stride, const int32_t *tokens, float *table, long table_stride,
                           long rows, long columns);
// Targets are given, or drawn from every row's softmax at `uniforms` and left in `labels`. With `rounded` the gradient is
// also left there in bfloat16, in rows of the same stride.
void ck_tokens_cross_entropy(float *logits, long stride, const int32_t *targets, const double *uniforms,
                             int32_t *labels, float scale, float *losses, uint16_t *rounded, long rows, long columns);
void ck_tokens_negative_log_likelihood(const float *logits, long stride, const int32_t *targets, float *losses,
                                       long rows, long columns);
void ck_tokens_sample(const float *logits, long stride, const double *uniforms, int32_t *labels, long rows,
                      long columns);
void ck_tokens_softmax(const float *logits, long stride, float *out, long out_stride, long rows, long columns);

// The `width` largest logits of every row by falling value, equals by rising class, and their logarithmic
// probabilities at 1/inverse_temperature, or the logits as they are where inverse_temperature is 0.
// A width of `columns` keeps all, in the order of classes.
void ck_tokens_likeliest(const float *logits, long stride, long width, float inverse_temperature, int32_t *classes,
                         float *values, long rows, long columns);
// Replaces a row of logits by scale * (hard * d(-log p(target)) + soft * d(soft loss)) and gives both losses without
// weights; what the soft loss is, Backend.blend says.
void ck_tokens_blend(float *row, int32_t target, float hard, float soft, float temperature, const int32_t *classes,
                     const float *values, long width, float scale, float *loss, float *soft_loss, long columns);

// MARK: vector.c

typedef struct {
  const float *curvature;  // null stands for ones
  const float *anchor;
  float strength;
  int proximal;
} ck_pull;

typedef struct {
  float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale;
  float inverse_correction1, inverse_correction2;  // 1/(1 - beta^t)
} ck_adamw_step;

// bfloat16 by rounding to nearest, ties to even; not-a-number stays one.
void ck_vector_round(const float *x, uint16_t *rounded, long count);
void ck_vector_fill(float *x, float value, long count);
void ck_vector_add(const float *x, float scale, float *y, long count);
void ck_vector_scale(float *x, float factor, long count);
// y = a - b; y may be one of them.
void ck_vector_subtract(const float *a, const float *b, float *y, long count);
// y = factor·x and y = a·b; y is none of the others.
void ck_vector_scaled(const float *x, float factor, float *y, long count);
void ck_vector_product(const float *a, const float *b, float *y, long count);
void ck_vector_add_squares(const float *x, float scale, float *y, long count);
void ck_vector_add_magnitudes(const float *x, float scale, float *y, long count);
void ck_vector_square(const float *x, float *y, long count);
void ck_vector_square_rounded(const float *x, uint16_t *rounded, long count);
// y [rows, columns] without gaps
void ck_vector_square_tile(const float *x, long stride, float *y, long rows, long columns);
void ck_vector_square_tile_rounded(const uint16_t *x, long stride, uint16_t *y, long rows, long columns);
void ck_vector_add_product(const float *a, const float *b, float scale, float *y, long count);
void ck_vector_divide(const float *numerator, const float *denominator, const float *fallback, float *q, long count);
double ck_vector_dot(const float *x, const float *y, long count);
// Without an anchor it is 0, without a curvature 1.
double ck_vector_quadratic(const float *x, const float *anchor, const float *curvature, long count);
// path -= gradient * (values - previous), then previous <- values.
void ck_vector_add_path(const float *gradient, const float *values, float *previous, float *path, long count);
// parameters -= rate * (force + bound * (parameters - previous)) / (metric + rate * bound), metric sqrt(v * correction)
// + epsilon, or 1 without v.
void ck_vector_damped_step(float *parameters, const float *previous, const float *force, const float *bound,
                           const float *second_moment, float inverse_correction2, float epsilon, float rate,
                           uint16_t *rounded, long count);
// With `rounded` the new parameters are also left there in bfloat16.
double ck_vector_adamw(float *parameters, const float *gradient, float *first_moment, float *second_moment,
                       uint16_t *rounded, const ck_pull *pulls, int pull_count, const ck_adamw_step *step, long count);
double ck_vector_sgd(float *parameters, const float *gradient, float *momentum_buffer, float momentum,
                     float learning_rate, float weight_decay, float gradient_scale, uint16_t *rounded,
                     const ck_pull *pulls, int pull_count, long count);

// MARK: machine.c

enum { CK_PROCESSOR_OTHER, CK_PROCESSOR_AVX2, CK_PROCESSOR_AVX512, CK_PROCESSOR_AVX512_BF16 };
int ck_processor_level(void);
// Free pages of the heap go back to the kernel.
void ck_memory_trim(void);
// Keeps what products free between steps in the heap, and large blocks out of it.
void ck_memory_keep(void);

// MARK: bench.c

// Runs `rounds` rounds of chains x <- x * factor + term in registers and returns the floating-point operations done.
double ck_peak_fma(long rounds, float factor, float term, float *result);
