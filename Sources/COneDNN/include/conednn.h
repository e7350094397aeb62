// Matrix products through oneDNN, by either of its C interfaces (2.x and 3.x, chosen when this is compiled).
// Without RETAIN_HAS_ONEDNN, which the manifest defines where it links the library, every function is still here and
// says that there is nothing.
#pragma once
#include <stddef.h>

enum { CODNN_F32 = 0, CODNN_BF16 = 1 };

/// C <- op(A) op(B), or C += op(A) op(B): op(A) is [m, k], op(B) [k, n], C [m, n] in fp32, all row-major with a stride.
typedef struct {
  long m, n, k;
  long stride_a, stride_b, stride_c;
  int transpose_a, transpose_b, accumulate;
  int element;  // of A and B
} codnn_shape;

/// One product of a fixed shape; may run on several threads at once.
typedef struct codnn_product codnn_product;

/// The version of the library, or null where Retain was built without it.
const char *codnn_version(void);
/// Whether products of that element run on instructions made for them, not on a slow substitute.
int codnn_supports(int element);
/// Prepares a product; null where the library has no fast implementation of it.
codnn_product *codnn_product_create(const codnn_shape *shape);
void codnn_product_destroy(codnn_product *product);
/// Computes the product on the calling thread alone.
void codnn_product_run(const codnn_product *product, const void *a, const void *b, float *c);
