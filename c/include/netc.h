/* netc: convolutional networks as machine code. docs/C.md tells how it is used.
 *
 * Made of c/src by `cargo test -p netc-c`; do not edit. Functions that can fail give a status; netc_last_error() says
 * why, for the thread that called. Texts are UTF-8. Sizes are in elements, tensors are row by row (C order). */


#ifndef NETC_H
#define NETC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The number of this interface. It changes when programs have to be built anew.
#define NETC_ABI_VERSION 3

// What came of a call. Of all but `NETC_OK`, `netc_last_error` tells more.
typedef enum netc_status {
  // All went well.
  NETC_OK = 0,
  // A null pointer, a number out of range, a text that is no UTF-8.
  NETC_INVALID_ARGUMENT = 1,
  // A file that is not there or cannot be read or written.
  NETC_IO = 2,
  // A compiled model that is damaged, of another version, or for another CPU.
  NETC_BAD_MODEL = 3,
  // A tensor of another shape or element than the model takes.
  NETC_BAD_TENSOR = 4,
  // A text with mistakes, or an ONNX model that takes what netc does not have.
  NETC_BAD_NETWORK = 5,
  // Weights that cannot be read or do not fit the network.
  NETC_BAD_WEIGHTS = 6,
  // No memory, or more than may be taken.
  NETC_OUT_OF_MEMORY = 7,
  // A mistake in netc; please report it.
  NETC_INTERNAL = 8,
} netc_status;

// A compiled network.
typedef struct netc_model netc_model;

// The type of a tensor's numbers: one of the constants below. A number, since C may put any into its enumerations.
typedef uint32_t netc_element;

// How a model runs. All zeros are the defaults.
typedef struct netc_options {
  // Threads of a run; 0 is one for each CPU.
  uint32_t threads;
  // 1 to read the weights into memory, so that the file may be changed or cut while the model is open.
  uint32_t copy_weights;
  // Bytes that a run may take; 0 is three quarters of the machine's.
  uint64_t memory;
} netc_options;

// An input or output of a model. All pointers are borrowed from the model.
typedef struct netc_port {
  // Its name, UTF-8.
  const char *name;
  // Its sizes; the first is the number of images that the code computes at once.
  const size_t *shape;
  // How many sizes there are.
  size_t rank;
  // The type of its numbers.
  netc_element element;
} netc_port;

// Numbers, row by row. The caller owns them and the sizes.
typedef struct netc_tensor {
  // As many numbers as the sizes say; aligned as their type is.
  void *data;
  // The sizes.
  const size_t *shape;
  // How many sizes there are.
  size_t rank;
  // The type of the numbers.
  netc_element element;
} netc_tensor;

// What exists of an output after a run: the first entries of an axis.
typedef struct netc_rows {
  // The axis, from 0.
  size_t axis;
  // How many of its entries exist.
  size_t count;
} netc_rows;

// A picture in memory, which the caller owns.
typedef struct netc_picture {
  // Levels from 0 to 255, row by row: of each pixel red, green and blue in this order (OpenCV has them the other way round), or its
  // gray alone; no alpha.
  const uint8_t *levels;
  // Rows, at most 32768, as columns.
  size_t height;
  // Pixels in a row.
  size_t width;
  // 3 for red, green and blue, 1 for gray.
  size_t channels;
  // Bytes from where a row begins to where the next does; 0 where they follow each other without gaps.
  size_t stride;
} netc_picture;

// The shape of an input; or, with a rank of 1, a size that an ONNX model names and leaves open.
typedef struct netc_shape {
  // Of the input or the size, UTF-8.
  const char *name;
  // The sizes.
  const size_t *sizes;
  // How many sizes there are.
  size_t rank;
} netc_shape;

// Height and width of pictures, in pixels.
typedef struct netc_picture_size {
  // Rows.
  size_t height;
  // Columns.
  size_t width;
} netc_picture_size;

// Numbers that an input of an ONNX model always has.
typedef struct netc_constant {
  // Of the input, UTF-8.
  const char *name;
  // One number for each of its elements, or one for all.
  const double *values;
  // How many numbers there are.
  size_t count;
} netc_constant;

// The value of a parameter of a network's text.
typedef struct netc_setting {
  // Of the parameter, UTF-8.
  const char *name;
  // The value as a text has it: "10", "0.5", "true", "[1, 2]". What is no such constant is a string.
  const char *value;
} netc_setting;

// What names of weights in their file become, to be those of the network.
typedef struct netc_rename {
  // A regular expression, UTF-8, that matches any part of a name, such as "^module\\.".
  const char *pattern;
  // What stands in place of the match; "$1" and "${name}" are groups of the expression.
  const char *replacement;
} netc_rename;

// How a network is compiled. All zeros are the defaults.
typedef struct netc_compile_options {
  // How the model runs.
  struct netc_options run;
  // A file of weights (safetensors, .pth, .npz); null for those beside the network, else random ones.
  const char *weights;
  // Which model of a text that holds several; null for the only one.
  const char *model;
  // Images that are computed at once; 0 is 1.
  size_t batch;
  // 1 for the same bits on every CPU, in every batch.
  uint32_t strict;
  // Shapes of inputs in place of those that the network states or leaves open; null for none.
  const struct netc_shape *shapes;
  // How many shapes there are.
  size_t shape_count;
  // Sizes of pictures that one model is compiled for, with the weights once; null for what the network states.
  const struct netc_picture_size *pictures;
  // How many sizes there are.
  size_t picture_count;
  // Numbers of images that one model computes at once, in place of `batch`; a run chooses among them. Null for one.
  const size_t *batches;
  // How many numbers there are.
  size_t batch_count;
  // A folder in which compiled models are kept and looked for, of this user alone; null for none.
  const char *cache;
  // Bytes that the folder may take; 0 is 4 GiB.
  uint64_t cache_size;
  // Inputs of an ONNX model that are constants of the network and no inputs, such as a sample rate; null for none.
  const struct netc_constant *fixed;
  // How many there are.
  size_t fixed_count;
  // Values of parameters of the model, each named once; null for those that the text states.
  const struct netc_setting *settings;
  // How many there are.
  size_t setting_count;
  // Renames weights of the files, in this order; null for names as they are.
  const struct netc_rename *renames;
  // How many there are.
  size_t rename_count;
  // More files of weights, which hold them together with `weights`; null for none.
  const char *const *more_weights;
  // How many there are.
  size_t more_weight_count;
  // 1 if weights that the files lack may keep their initial values.
  uint32_t allow_missing;
  // 1 if the files may have tensors that the network does not have.
  uint32_t allow_extra;
  // A number by which weights are initialised, whatever files there are; null for the files.
  const uint64_t *seed;
  // In what layers store and multiply: "f32", "bf16", or such as "fastest-within=1e-2", whatever is the fastest as long as
  // outputs keep so near to those of f32, as a share of an output's largest value; null for f32.
  const char *precision;
  // The CPU that code is made for, such as "avx2", which this one must have; null for this one.
  const char *target;
  // Labels of values that are the outputs, in place of the network's own; what comes after them is left out. Null for none.
  const char *const *until;
  // How many there are.
  size_t until_count;
  // Labels of values that become inputs; what comes before them is left out. Null for none.
  const char *const *from;
  // How many there are.
  size_t from_count;
  // What messages call a network that is in memory: a path, beside which files that it names are looked for; null for
  // "<text>" or "<bytes>" in the current folder.
  const char *name;
} netc_compile_options;

// 32-bit floating point.
#define NETC_F32 0

// 8-bit unsigned.
#define NETC_U8 1

// 8-bit signed.
#define NETC_I8 2

// 16-bit signed.
#define NETC_I16 3

// 32-bit signed.
#define NETC_I32 4

// 64-bit signed.
#define NETC_I64 5

// One byte, 0 or 1.
#define NETC_BOOL 6

// 16-bit floating point, IEEE 754.
#define NETC_F16 7

// The upper 16 bits of 32-bit floating point.
#define NETC_BF16 8

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The interface that the library has, to be compared with `NETC_ABI_VERSION` of the header. Thread-safe.
uint32_t netc_abi_version(void);

// The version of the library, such as "0.1.0". Thread-safe; never freed.
const char *netc_version(void);

// The name of a status, such as "NETC_BAD_TENSOR", for messages; "unknown" of what is none. Thread-safe; never freed.
const char *netc_status_name(int32_t status);

// Why the last call on this thread that failed did so: UTF-8, without a line end. It holds until the next call on this
// thread that fails. Thread-safe.
const char *netc_last_error(void);

// Bytes that a number of this type takes; 0 of what is no type. Thread-safe.
size_t netc_element_size(netc_element element);

// Opens a compiled model (`netc compile`).
//
// A compiled model is a program: open only those that you would run. The file is replaced by renaming another over it,
// never written to, unless its weights are copied. `options` may be null. On success `*out` is a model that
// `netc_model_free` frees, else null. Thread-safe.
//
// # Safety
// `path` is a text that ends in a zero; `options` is null or leads to options; `out` leads to a place for a model.
enum netc_status netc_model_open(const char *path, const struct netc_options *options, struct netc_model **out);

// Opens a compiled model from the bytes of its file, which are copied. Otherwise as `netc_model_open`. Thread-safe.
//
// # Safety
// `bytes` leads to `size` bytes; the rest as for `netc_model_open`.
enum netc_status netc_model_open_bytes(const void *bytes,
                                       size_t size,
                                       const struct netc_options *options,
                                       struct netc_model **out);

// Frees a model; null is nothing. No run of it may go on, and nothing that was borrowed from it is used any more. A second
// call for a freed model changes nothing and leaves a text for `netc_last_error`, unless a new model has come to lie at the same
// address: that one is freed then. Thread-safe.
//
// # Safety
// No other thread uses the model.
void netc_model_free(struct netc_model *model);

// The network's name, borrowed from the model; null if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
const char *netc_model_name(const struct netc_model *model);

// How many warnings there are of a model that was compiled here: what in the network or its weights is likely not meant, such as
// a parameter that nothing uses. 0 of a model that was opened or came from the cache, and if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_warning_count(const struct netc_model *model);

// A warning: several lines that begin with its kind and show the lines of the text that it is about. It is borrowed from the
// model; null where there is no such warning, and if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
const char *netc_model_warning(const struct netc_model *model,
                               size_t index);

// How many inputs the model has; 0 if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_input_count(const struct netc_model *model);

// How many outputs the model has; 0 if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_output_count(const struct netc_model *model);

// Tells of an input, of the first size that the model is compiled for. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile, `out` is null or leads to a place for a port.
enum netc_status netc_model_input(const struct netc_model *model, size_t index, struct netc_port *out);

// Tells of an output, of the first size that the model is compiled for. Thread-safe.
//
// # Safety
// As for `netc_model_input`.
enum netc_status netc_model_output(const struct netc_model *model, size_t index, struct netc_port *out);

// How many sizes the model is compiled for (`netc compile --shapes`); 0 if `model` is no model. Sizes that differ in the number of
// images alone are one. `netc_model_input` and `netc_model_output` tell of the first. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_size_count(const struct netc_model *model);

// Tells of an input of one of the sizes. Thread-safe.
//
// # Safety
// As for `netc_model_input`.
enum netc_status netc_model_size_input(const struct netc_model *model,
                                       size_t size,
                                       size_t index,
                                       struct netc_port *out);

// Tells of an output of one of the sizes. Thread-safe.
//
// # Safety
// As for `netc_model_input`.
enum netc_status netc_model_size_output(const struct netc_model *model,
                                        size_t size,
                                        size_t index,
                                        struct netc_port *out);

// Which input has this name: `*out` is its place among the inputs. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile, `name` is null or a text that ends in a zero, `out` is null or leads to a place
// for a number.
enum netc_status netc_model_input_index(const struct netc_model *model,
                                        const char *name,
                                        size_t *out);

// Which output has this name: `*out` is its place among the outputs. Thread-safe.
//
// # Safety
// As for `netc_model_input_index`.
enum netc_status netc_model_output_index(const struct netc_model *model, const char *name, size_t *out);

// How many names of classes the model has; 0 where they are not known, and if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_label_count(const struct netc_model *model);

// The name of a class, UTF-8, borrowed from the model; null where there is none. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
const char *netc_model_label(const struct netc_model *model, size_t index);

// Images that the code computes at once; 0 of a network that takes one number of images only, and of
// what is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_batch(const struct netc_model *model);

// Threads that a run has, the caller's among them; 0 if `model` is no model. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
size_t netc_model_threads(const struct netc_model *model);

// 1 where the model's weights are random, since neither its options nor a file beside the network gave any; else 0. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile.
uint32_t netc_model_has_random_weights(const struct netc_model *model);

// Runs the model: one tensor for each input and output, in their order, of their elements and sizes. The first size may be
// any number of images, the same in all of them, where `netc_model_batch` is not 0. Of a model that is compiled for several
// sizes, the inputs' sizes choose one.
//
// Inputs are read and outputs written where they are. After the first run on a thread, nothing is allocated. Thread-safe:
// several threads may run one model at once; each of them then computes on its own, but for one that has the model's
// threads to help.
//
// # Safety
// No other thread frees the model meanwhile; `inputs` and `outputs` lead to so many tensors, whose sizes are there and whose data
// are as many numbers as the sizes say; nobody writes to inputs meanwhile, and outputs lie apart from all else.
enum netc_status netc_model_run(const struct netc_model *model,
                                const struct netc_tensor *inputs,
                                size_t input_count,
                                const struct netc_tensor *outputs,
                                size_t output_count);

// Tells which entries of an output exist after a run, where the data say how many: boxes that were found, for example. The
// port's sizes are what there is room for; what lies behind the entries that exist means nothing. Of other outputs all entries
// of the first axis exist. `outputs` are those of the run. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile; `outputs` lead to so many tensors as `netc_model_run` has written them, `out`
// is null or leads to a place for rows.
enum netc_status netc_model_output_rows(const struct netc_model *model,
                                        size_t index,
                                        const struct netc_tensor *outputs,
                                        size_t output_count,
                                        struct netc_rows *out);

// Makes an input of a picture, by the steps that the network's text states (`preprocess`), else resized to the input's size, with
// numbers from 0 to 1, or levels as they are where the input has whole numbers. Orientation in EXIF is not read: turn the picture
// first.
//
// `out` is a tensor for one image, of the input's element and of one of the sizes that the model is compiled for; of a batch, its
// data lead to where one image lies. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile; `picture` is null or leads to a picture of as many levels as its sizes say, `out` is
// null or leads to a tensor with as much room as its sizes say.
enum netc_status netc_model_preprocess(const struct netc_model *model,
                                       size_t index,
                                       const struct netc_picture *picture,
                                       const struct netc_tensor *out);

// Compiles a network for this CPU: a text (.net), an ONNX model (.onnx) or a portable model. `options` may be null. On
// success `*out` is a model that `netc_model_free` frees, else null. Thread-safe.
//
// # Safety
// `path` is a text that ends in a zero; `options` is null or leads to options; `out` leads to a place for a model.
enum netc_status netc_model_compile(const char *path,
                                    const struct netc_compile_options *options,
                                    struct netc_model **out);

// Compiles a network of a text in netc's language. Otherwise as `netc_model_compile`. Thread-safe.
//
// # Safety
// `source` is a text that ends in a zero; the rest as for `netc_model_compile`.
enum netc_status netc_model_compile_text(const char *source,
                                         const struct netc_compile_options *options,
                                         struct netc_model **out);

// Compiles a network of the bytes of its file: an ONNX model, a portable model or a text, which needs no zero at its end. They
// are copied; data beside an ONNX model are looked for in the current folder, or beside the `name` of the options. Otherwise as `netc_model_compile`. Thread-safe.
//
// # Safety
// `bytes` leads to `size` bytes; the rest as for `netc_model_compile`.
enum netc_status netc_model_compile_bytes(const void *bytes,
                                          size_t size,
                                          const struct netc_compile_options *options,
                                          struct netc_model **out);

// Compiles the network of a model for inputs of other shapes, with its other settings: of a model that was compiled
// here, and of one that was opened, whose texts are in it and whose weights still are where they were. The first
// size of an input whose images are free is the model's batch, whatever is given. The new model is a model of its own; it has
// the cache's options of the old one. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile; `shapes` leads to so many shapes, of which names end in zeros and sizes are as many as
// the rank says; `out` leads to a place for a model.
enum netc_status netc_model_compile_for(const struct netc_model *model,
                                        const struct netc_shape *shapes,
                                        size_t shape_count,
                                        struct netc_model **out);

// Writes the compiled file, which appears when it is whole. Thread-safe.
//
// # Safety
// No other thread frees the model meanwhile, `path` a text that ends in a zero.
enum netc_status netc_model_save(const struct netc_model *model, const char *path);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NETC_H */
