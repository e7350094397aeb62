// oneDNN behind four functions. Every product runs on the thread that asks for it: Retain's own pool cuts the work.
#define _GNU_SOURCE
#include "conednn.h"

#if defined(RETAIN_HAS_ONEDNN)
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct codnn_product {
  dnnl_primitive_t primitive;
  dnnl_primitive_desc_t description;
  size_t scratchpad;
};

// What a thread needs to run products, from its first product to its end.
typedef struct {
  dnnl_stream_t stream;
  void *scratchpad;
  size_t scratchpad_size;
} workplace;

static _Thread_local workplace *own;
static pthread_key_t ending;
static dnnl_engine_t engine;

static void leave(void *place) {
  workplace *w = place;
  dnnl_stream_destroy(w->stream);
  free(w->scratchpad);
  free(w);
}

// Made once, before main and before any thread.
__attribute__((constructor)) static void make_engine(void) {
  if (pthread_key_create(&ending, leave) != 0 || dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
}

// A product must stay on its thread. oneDNN's OpenMP team size is a setting of each thread; other builds of the
// library have no such symbol and need none.
static void stay_on_this_thread(void) {
  static _Thread_local int done;
  if (done) return;
  done = 1;
  void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (set_threads) set_threads(1);
}

const char *codnn_version(void) {
  static char text[32];
  const dnnl_version_t *version = dnnl_version();
  snprintf(text, sizeof text, "%d.%d.%d", version->major, version->minor, version->patch);
  return text;
}

static dnnl_data_type_t data_type(int element) { return element == CODNN_BF16 ? dnnl_bf16 : dnnl_f32; }

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t description_t;
static void forget(description_t *d) { dnnl_memory_desc_destroy(*d); }
static dnnl_status_t describe(description_t *d, long rows, long columns, dnnl_data_type_t type, long row_stride,
                              long column_stride) {
  dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
  return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides);
}
#else
typedef dnnl_memory_desc_t description_t;
static void forget(description_t *d) { (void)d; }
static dnnl_status_t describe(description_t *d, long rows, long columns, dnnl_data_type_t type, long row_stride,
                              long column_stride) {
  dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
  return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides);
}
#endif

// The description of a product by either interface; null on failure.
static dnnl_primitive_desc_t describe_product(const codnn_shape *s, description_t *a, description_t *b,
                                              description_t *c) {
  dnnl_primitive_desc_t result = NULL;
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t after = NULL;
  if (dnnl_primitive_attr_create(&attributes) != dnnl_success) return NULL;
  dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
  if (s->accumulate && dnnl_post_ops_create(&after) == dnnl_success) {
#if DNNL_VERSION_MAJOR >= 3
    dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_f32);
#else
    dnnl_post_ops_append_sum(after, 1.0f);
#endif
    dnnl_primitive_attr_set_post_ops(attributes, after);
    dnnl_post_ops_destroy(after);
  }
#if DNNL_VERSION_MAJOR >= 3
  dnnl_status_t status = dnnl_matmul_primitive_desc_create(&result, engine, *a, *b, NULL, *c, attributes);
#else
  dnnl_matmul_desc_t matmul;
  dnnl_status_t status = dnnl_matmul_desc_init(&matmul, a, b, NULL, c);
  if (status == dnnl_success) status = dnnl_primitive_desc_create(&result, &matmul, attributes, engine, NULL);
#endif
  dnnl_primitive_attr_destroy(attributes);
  return status == dnnl_success ? result : NULL;
}

codnn_product *codnn_product_create(const codnn_shape *s) {
  if (!engine) return NULL;
  stay_on_this_thread();
  dnnl_data_type_t type = data_type(s->element);
  description_t a, b, c;
  if (describe(&a, s->m, s->k, type, s->transpose_a ? 1 : s->stride_a, s->transpose_a ? s->stride_a : 1) !=
      dnnl_success)
    return NULL;
  if (describe(&b, s->k, s->n, type, s->transpose_b ? 1 : s->stride_b, s->transpose_b ? s->stride_b : 1) !=
      dnnl_success) {
    forget(&a);
    return NULL;
  }
  if (describe(&c, s->m, s->n, dnnl_f32, s->stride_c, 1) != dnnl_success) {
    forget(&a);
    forget(&b);
    return NULL;
  }
  dnnl_primitive_desc_t description = describe_product(s, &a, &b, &c);
  forget(&a);
  forget(&b);
  forget(&c);
  if (!description) return NULL;
  // "ref" implementations are for correctness only, hundreds of times slower.
  const char *name = "";
  dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name);
  dnnl_primitive_t primitive = NULL;
  codnn_product *product = strncmp(name, "ref", 3) == 0 ? NULL : calloc(1, sizeof *product);
  if (!product || dnnl_primitive_create(&primitive, description) != dnnl_success) {
    dnnl_primitive_desc_destroy(description);
    free(product);
    return NULL;
  }
  product->primitive = primitive;
  product->description = description;
  product->scratchpad =
      dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0));
  return product;
}

void codnn_product_destroy(codnn_product *product) {
  if (!product) return;
  dnnl_primitive_destroy(product->primitive);
  dnnl_primitive_desc_destroy(product->description);
  free(product);
}

int codnn_supports(int element) {
  if (!engine) return 0;
  if (element != CODNN_BF16) return 1;
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
#endif
  codnn_shape probe = {.m = 64, .n = 64, .k = 64, .stride_a = 64, .stride_b = 64, .stride_c = 64, .element = element};
  codnn_product *product = codnn_product_create(&probe);
  codnn_product_destroy(product);
  return product != NULL;
}

static void fail(const char *what) {
  // A shape that could be prepared must run; without a result nothing that follows would be right.
  fprintf(stderr, "oneDNN: %s\n", what);
  abort();
}

// The calling thread's workplace, with room for a product's intermediate values.
static workplace *enter(size_t scratchpad) {
  if (!own) {
    stay_on_this_thread();
    own = calloc(1, sizeof *own);
    if (!own) fail("out of memory");
    if (dnnl_stream_create(&own->stream, engine, dnnl_stream_default_flags) != dnnl_success)
      fail("cannot make a stream");
    pthread_setspecific(ending, own);
  }
  if (scratchpad > own->scratchpad_size) {
    free(own->scratchpad);
    own->scratchpad_size = (scratchpad + 4095) / 4096 * 4096;
    own->scratchpad = aligned_alloc(4096, own->scratchpad_size);
    if (!own->scratchpad) fail("out of memory");
  }
  return own;
}

void codnn_product_run(const codnn_product *product, const void *a, const void *b, float *c) {
  workplace *place = enter(product->scratchpad);
  static const dnnl_query_t kinds[4] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md,
                                        dnnl_query_scratchpad_md};
  static const int places[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
  void *pointers[4] = {(void *)a, (void *)b, c, place->scratchpad};
  dnnl_exec_arg_t arguments[4];
  for (int i = 0; i < 4; i++) {
    arguments[i].arg = places[i];
    if (dnnl_memory_create(&arguments[i].memory, dnnl_primitive_desc_query_md(product->description, kinds[i], 0),
                           engine, pointers[i]) != dnnl_success)
      fail("cannot describe an operand");
  }
  if (dnnl_primitive_execute(product->primitive, place->stream, 4, arguments) != dnnl_success) fail("a product failed");
  dnnl_stream_wait(place->stream);
  for (int i = 0; i < 4; i++) dnnl_memory_destroy(arguments[i].memory);
}

#else

const char *codnn_version(void) { return NULL; }
int codnn_supports(int element) { return 0; }
codnn_product *codnn_product_create(const codnn_shape *shape) { return NULL; }
void codnn_product_destroy(codnn_product *product) {}
void codnn_product_run(const codnn_product *product, const void *a, const void *b, float *c) {}

#endif
