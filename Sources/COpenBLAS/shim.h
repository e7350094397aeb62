#pragma once
#include <cblas.h>
#include <stddef.h>

// LAPACK inside OpenBLAS has no header in Debian's package. Matrices are column-major; lengths of strings come last.
void sgeqrf_(const blasint *m, const blasint *n, float *a, const blasint *lda, float *tau, float *work,
             const blasint *lwork, blasint *info);
void sorgqr_(const blasint *m, const blasint *n, const blasint *k, float *a, const blasint *lda, const float *tau,
             float *work, const blasint *lwork, blasint *info);
void ssyevd_(const char *jobz, const char *uplo, const blasint *n, float *a, const blasint *lda, float *w, float *work,
             const blasint *lwork, blasint *iwork, const blasint *liwork, blasint *info, size_t, size_t);
