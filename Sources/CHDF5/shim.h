// What Swift cannot import from hdf5.h: identifiers that are macros with a side effect, and the error stack.
// Each is one static inline function; everything else is called under its own name.
#pragma once
#include <hdf5.h>
#include <string.h>

static inline hid_t chdf5_default(void) { return H5P_DEFAULT; }
static inline hid_t chdf5_file_creation(void) { return H5Pcreate(H5P_FILE_CREATE); }
static inline hid_t chdf5_file_access(void) { return H5Pcreate(H5P_FILE_ACCESS); }
static inline hid_t chdf5_group_creation(void) { return H5Pcreate(H5P_GROUP_CREATE); }
static inline hid_t chdf5_dataset_creation(void) { return H5Pcreate(H5P_DATASET_CREATE); }
static inline hid_t chdf5_link_creation(void) { return H5Pcreate(H5P_LINK_CREATE); }
static inline unsigned chdf5_truncate(void) { return H5F_ACC_TRUNC; }
static inline haddr_t chdf5_no_address(void) { return HADDR_UNDEF; }

static inline hid_t chdf5_float32(void) { return H5Tcopy(H5T_IEEE_F32LE); }
static inline hid_t chdf5_float64(void) { return H5Tcopy(H5T_IEEE_F64LE); }
static inline hid_t chdf5_int8(void) { return H5Tcopy(H5T_STD_I8LE); }
static inline hid_t chdf5_int32(void) { return H5Tcopy(H5T_STD_I32LE); }
static inline hid_t chdf5_int64(void) { return H5Tcopy(H5T_STD_I64LE); }
static inline hid_t chdf5_uint8(void) { return H5Tcopy(H5T_STD_U8LE); }
static inline hid_t chdf5_uint16(void) { return H5Tcopy(H5T_STD_U16LE); }
static inline hid_t chdf5_uint64(void) { return H5Tcopy(H5T_STD_U64LE); }
static inline hid_t chdf5_character(void) { return H5Tcopy(H5T_C_S1); }

/// The library prints its error stack to standard error unless told otherwise.
static inline herr_t chdf5_be_quiet(void) { return H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

struct chdf5_text { char *bytes; size_t capacity; };
static inline herr_t chdf5_keep_innermost(unsigned depth, const H5E_error2_t *error, void *into) {
  struct chdf5_text *text = (struct chdf5_text *)into;
  if (depth == 0 && error->desc) {
    strncpy(text->bytes, error->desc, text->capacity - 1);
    text->bytes[text->capacity - 1] = 0;
  }
  return 0;
}
/// Copies the innermost message of the error stack, or an empty string.
static inline void chdf5_reason(char *bytes, size_t capacity) {
  struct chdf5_text text = {bytes, capacity};
  bytes[0] = 0;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, chdf5_keep_innermost, &text);
}
