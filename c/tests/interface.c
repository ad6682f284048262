/* What the interface promises, asked by a program in C: results, errors with their texts, and no allocation in runs. */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netc.h"

/* Counts what is allocated while `counting` is set. */
static int counting = 0;
static size_t allocations = 0;
extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_calloc(size_t, size_t);
void *malloc(size_t size) {
    allocations += counting;
    return __libc_malloc(size);
}
void *realloc(void *memory, size_t size) {
    allocations += counting;
    return __libc_realloc(memory, size);
}
void *calloc(size_t count, size_t size) {
    allocations += counting;
    return __libc_calloc(count, size);
}

#define EXPECT(condition)                                                                        \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, netc_last_error());       \
            exit(1);                                                                             \
        }                                                                                        \
    } while (0)
#define FAILS(status, call, text)                                                                \
    do {                                                                                         \
        EXPECT((call) == (status));                                                              \
        EXPECT(strstr(netc_last_error(), text) != NULL);                                         \
    } while (0)

static const char *const SPEC =
    "netc 1\n"
    "model two {\n"
    "    input left: f32[N, 3, 8, 8]\n"
    "    input right: f32[N, 3, 8, 8]\n"
    "    labels [\"a\", \"b\"]\n"
    "    add(left)\n"
    "    conv(2, 3, pad = 1)\n"
    "    relu\n"
    "    output sum\n"
    "    global_avg_pool\n"
    "    flatten\n"
    "    output mean\n"
    "}\n";

static const char *const PICTURES =
    "netc 1\n"
    "model pictures {\n"
    "    input image: f32[N, 3, 8, 8]\n"
    "    conv(4, 3, pad = 1)\n"
    "    relu\n"
    "    global_avg_pool\n"
    "    flatten\n"
    "    output mean\n"
    "}\n";

/* What a file has, in memory. */
static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    EXPECT(file != NULL && fseek(file, 0, SEEK_END) == 0);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    EXPECT(bytes != NULL && fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

/* Several sizes in one model, one that is compiled for when it is asked for, and a cache. */
static void sizes(const char *saved) {
    static float image[6 * 3 * 12 * 16], mean[6 * 4], again[6 * 4];
    for (int i = 0; i < 6 * 3 * 12 * 16; i++) {
        image[i] = (float)(i % 13) / 6.0f - 1.0f;
    }
    const netc_picture_size pictures[] = {{8, 8}, {12, 16}};
    const size_t batches[] = {1, 4};
    netc_compile_options options = {0};
    options.run.threads = 1;
    options.strict = 1;
    options.pictures = pictures;
    options.picture_count = 2;
    options.batches = batches;
    options.batch_count = 2;
    netc_model *model = NULL, *other = NULL;
    EXPECT(netc_model_compile_text(PICTURES, &options, &model) == NETC_OK);
    EXPECT(netc_model_size_count(model) == 2 && netc_model_size_count(NULL) == 0);
    netc_port port;
    EXPECT(netc_model_size_input(model, 1, 0, &port) == NETC_OK && port.shape[2] == 12 && port.shape[3] == 16);
    EXPECT(netc_model_size_output(model, 1, 0, &port) == NETC_OK && port.rank == 2 && port.shape[1] == 4);
    FAILS(NETC_INVALID_ARGUMENT, netc_model_size_input(model, 2, 0, &port), "there is no size 2");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_size_output(model, 0, 1, &port), "there is no output 1");
    size_t shape[] = {6, 3, 12, 16}, mean_shape[] = {6, 4};
    netc_tensor in = {image, shape, 4, NETC_F32}, out = {mean, mean_shape, 2, NETC_F32};
    EXPECT(netc_model_run(model, &in, 1, &out, 1) == NETC_OK);
    /* Nothing is allocated once both programs have run. */
    counting = 1;
    for (int i = 0; i < 100; i++) {
        EXPECT(netc_model_run(model, &in, 1, &out, 1) == NETC_OK);
    }
    counting = 0;
    EXPECT(allocations == 0);
    shape[2] = 10;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, &in, 1, &out, 1), "image [N,3,8,8]; image [N,3,12,16]");
    in.shape = NULL;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, &in, 1, &out, 1), "null pointer");
    in.shape = shape;
    in.rank = 3;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, &in, 1, &out, 1), "3 axes, the model 4");
    in.rank = 4;
    EXPECT(netc_model_save(model, saved) == NETC_OK);

    /* Another size, from what was compiled here. */
    const size_t wanted[] = {1, 3, 10, 16};
    const netc_shape asked = {"image", wanted, 4}, unknown = {"picture", wanted, 4}, nameless = {NULL, wanted, 4};
    EXPECT(netc_model_compile_for(model, &asked, 1, &other) == NETC_OK);
    EXPECT(netc_model_run(other, &in, 1, &out, 1) == NETC_OK);
    /* Also of bytes, which have the text. */
    size_t size;
    char *kept = contents(saved, &size);
    netc_model *of_bytes = NULL, *of_bytes_for = NULL;
    EXPECT(netc_model_open_bytes(kept, size, NULL, &of_bytes) == NETC_OK);
    free(kept);
    EXPECT(netc_model_compile_for(of_bytes, &asked, 1, &of_bytes_for) == NETC_OK);
    netc_model_free(of_bytes);
    EXPECT(netc_model_run(of_bytes_for, &in, 1, &out, 1) == NETC_OK);
    netc_model_free(of_bytes_for);
    netc_model *none = model;
    FAILS(NETC_BAD_NETWORK, netc_model_compile_for(model, &unknown, 1, &none), "the inputs are image");
    EXPECT(none == NULL);
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_for(model, &nameless, 1, &none), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_for(model, NULL, 1, &none), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_for(NULL, &asked, 1, &none), "null pointer");
    netc_model_free(model);
    netc_model_free(other);

    /* The same options by shapes, and the cache. */
    static char folder[4096];
    EXPECT(snprintf(folder, sizeof(folder), "%s.cache", saved) > 0);
    netc_compile_options cached = {0};
    cached.run.threads = 1;
    cached.strict = 1;
    cached.shapes = &asked;
    cached.shape_count = 1;
    cached.cache = folder;
    for (int i = 0; i < 2; i++) {
        EXPECT(netc_model_compile_text(PICTURES, &cached, &model) == NETC_OK);
        netc_tensor result = {again, mean_shape, 2, NETC_F32};
        EXPECT(netc_model_run(model, &in, 1, &result, 1) == NETC_OK);
        EXPECT(memcmp(mean, again, sizeof(mean)) == 0);
        netc_model_free(model);
    }
    cached.cache = saved; /* a file */
    FAILS(NETC_IO, netc_model_compile_text(PICTURES, &cached, &model), "the cache");
    netc_compile_options wrong = options;
    wrong.batch_count = 1000000;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "1000000");
    const double rate[] = {16000};
    const netc_constant fixed = {"rate", rate, 1};
    wrong = options;
    wrong.fixed = &fixed;
    wrong.fixed_count = 1;
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(PICTURES, &wrong, &model), "cannot be fixed in a text");
    wrong.fixed = NULL;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "null pointer");
    const size_t zero[] = {0};
    wrong = options;
    wrong.batches = zero;
    wrong.batch_count = 1;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "not 0");
    const netc_picture_size twice[] = {{8, 8}, {8, 9}, {8, 8}}, flat = {8, 0};
    wrong = options;
    wrong.pictures = twice;
    wrong.picture_count = 3;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "8x8 is listed twice");
    wrong.pictures = &flat;
    wrong.picture_count = 1;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "not 8x0");
    wrong = options;
    wrong.pictures = NULL;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &wrong, &model), "null pointer");

    /* A file of several sizes; what is not in it is compiled again from the texts within. */
    EXPECT(netc_model_open(saved, NULL, &model) == NETC_OK);
    EXPECT(netc_model_size_count(model) == 2);
    EXPECT(netc_model_compile_for(model, &asked, 1, &other) == NETC_OK);
    EXPECT(netc_model_run(other, &in, 1, &out, 1) == NETC_OK);
    netc_model_free(other);
    netc_model_free(model);
}

/* Bytes, halves, truth values and whole numbers, as inputs and as outputs. */
static const char *const ELEMENTS =
    "netc 1\n"
    "model elements {\n"
    "    input level: u8[N, 3]\n"
    "    input half: f16[N, 3]\n"
    "    input flag: bool[N, 3]\n"
    "    input whole: i64[N, 3]\n"
    "    from(level)  number: cast\n"
    "    from(half)   fraction: cast\n"
    "    from(flag)   truth: cast\n"
    "    from(whole)  count: cast\n"
    "    add(number)  add(fraction)  add(truth)\n"
    "    sum: cast(\"i64\")\n"
    "    output sums\n"
    "    from(fraction)\n"
    "    cast(\"f16\")\n"
    "    output halves\n"
    "    from(number)\n"
    "    greater_than(7)\n"
    "    cast(\"bool\")\n"
    "    output large\n"
    "}\n";

static void elements(void) {
    netc_model *model = NULL;
    netc_compile_options options = {0};
    options.run.threads = 1; /* Others may still begin while it counts. */
    EXPECT(netc_model_compile_text(ELEMENTS, &options, &model) == NETC_OK);
    static const netc_element INPUTS[] = {NETC_U8, NETC_F16, NETC_BOOL, NETC_I64};
    netc_port port;
    for (size_t i = 0; i < 4; i++) {
        EXPECT(netc_model_input(model, i, &port) == NETC_OK && port.element == INPUTS[i]);
    }
    const size_t shape[] = {2, 3};
    uint8_t levels[] = {0, 7, 8, 255, 1, 2}, flags[] = {0, 1, 1, 0, 0, 1}, large[6];
    uint16_t halves[] = {0x3c00, 0xc000, 0, 0x4900, 0, 0x3c00}, same[6]; /* 1, -2, 0, 10, 0, 1 */
    int64_t wholes[] = {1, -5, 100000, -16777216, 16000000, 3}, sums[6];
    netc_tensor in[] = {{levels, shape, 2, NETC_U8}, {halves, shape, 2, NETC_F16}, {flags, shape, 2, NETC_BOOL},
                        {wholes, shape, 2, NETC_I64}};
    netc_tensor out[] = {{sums, shape, 2, NETC_I64}, {same, shape, 2, NETC_F16}, {large, shape, 2, NETC_BOOL}};
    EXPECT(netc_model_run(model, in, 4, out, 3) == NETC_OK);
    const int64_t expected[] = {2, 1, 100009, -16776951, 16000001, 7};
    const uint8_t is_large[] = {0, 0, 1, 1, 0, 0};
    EXPECT(memcmp(sums, expected, sizeof(sums)) == 0);
    EXPECT(memcmp(same, halves, sizeof(same)) == 0);
    EXPECT(memcmp(large, is_large, sizeof(large)) == 0);
    counting = 1;
    for (int i = 0; i < 1000; i++) {
        EXPECT(netc_model_run(model, in, 4, out, 3) == NETC_OK);
    }
    counting = 0;
    EXPECT(allocations == 0);
    wholes[2] = 16777217;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 4, out, 3), "whole has the number 16777217");
    /* What the others do not have as many images of is not read, and no room is made for it. */
    const size_t many[] = {(size_t)1 << 40, 3};
    in[0].shape = many;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 4, out, 3), "images");
    in[0].shape = shape;
    out[0].shape = many;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 4, out, 3), "images");
    out[0].shape = shape;
    in[1].element = NETC_BF16;
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 4, out, 3), "half: the tensor is of bf16, the model takes f16");
    netc_model_free(model);
}

/* Outputs of which as many rows exist as the data say. */
static const char *const FOUND =
    "netc 1\n"
    "model found {\n"
    "    input rows: f32[4, 2]\n"
    "    input kept: f32[4]\n"
    "    from(rows)\n"
    "    compact(kept)\n"
    "    output found\n"
    "    from(kept)\n"
    "    output mask\n"
    "}\n";

static void rows(void) {
    netc_model *model = NULL;
    EXPECT(netc_model_compile_text(FOUND, NULL, &model) == NETC_OK);
    EXPECT(netc_model_output_count(model) == 3);
    netc_port port;
    EXPECT(netc_model_output(model, 2, &port) == NETC_OK && strcmp(port.name, "found.count") == 0);
    const size_t rows_shape[] = {4, 2}, mask_shape[] = {4};
    float given[] = {1, 2, 3, 4, 5, 6, 7, 8}, kept[] = {0, 1, 0, 1}, found[8], mask[4];
    int64_t count[1];
    netc_tensor in[] = {{given, rows_shape, 2, NETC_F32}, {kept, mask_shape, 1, NETC_F32}};
    netc_tensor out[] = {{found, rows_shape, 2, NETC_F32}, {mask, mask_shape, 1, NETC_F32},
                         {count, port.shape, port.rank, NETC_I64}};
    netc_rows told = {9, 9};
    EXPECT(netc_model_run(model, in, 2, out, 3) == NETC_OK);
    EXPECT(netc_model_output_rows(model, 0, out, 3, &told) == NETC_OK);
    EXPECT(told.axis == 0 && told.count == 2 && count[0] == 2);
    EXPECT(found[0] == 3 && found[1] == 4 && found[2] == 7 && found[3] == 8);
    EXPECT(netc_model_output_rows(model, 1, out, 3, &told) == NETC_OK && told.axis == 0 && told.count == 4);
    memset(kept, 0, sizeof(kept));
    EXPECT(netc_model_run(model, in, 2, out, 3) == NETC_OK);
    EXPECT(netc_model_output_rows(model, 0, out, 3, &told) == NETC_OK && told.count == 0);
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(model, 3, out, 3, &told), "no output 3");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(model, 0, out, 2, &told), "3 outputs");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(model, 0, NULL, 3, &told), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(model, 0, out, 3, NULL), "no place");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(NULL, 0, out, 3, &told), "null pointer");
    out[2].data = NULL;
    FAILS(NETC_BAD_TENSOR, netc_model_output_rows(model, 0, out, 3, &told), "null pointer");
    netc_model_free(model);
}

/* Networks of bytes: the same model as of the file; and bytes that are none. */
static void bytes(void) {
    static const char *const ONNX = "tests/import/small.onnx";
    netc_compile_options options = {0};
    options.run.threads = 1;
    size_t size;
    char *bytes = contents(ONNX, &size);
    netc_model *of_file = NULL, *of_bytes = NULL, *model = NULL;
    EXPECT(netc_model_compile(ONNX, &options, &of_file) == NETC_OK);
    EXPECT(netc_model_compile_bytes(bytes, size, &options, &of_bytes) == NETC_OK);
    EXPECT(netc_model_has_random_weights(of_bytes) == 0);
    EXPECT(netc_model_input_count(of_bytes) == 1 && netc_model_output_count(of_bytes) == 1);
    netc_port input, output;
    EXPECT(netc_model_input(of_bytes, 0, &input) == NETC_OK && netc_model_output(of_bytes, 0, &output) == NETC_OK);
    size_t inputs = 1, outputs = 1;
    for (size_t i = 0; i < input.rank; i++) {
        inputs *= input.shape[i];
    }
    for (size_t i = 0; i < output.rank; i++) {
        outputs *= output.shape[i];
    }
    float *x = malloc(inputs * sizeof(float)), *results = calloc(2 * outputs, sizeof(float));
    EXPECT(x != NULL && results != NULL);
    for (size_t i = 0; i < inputs; i++) {
        x[i] = (float)(i % 13) / 6.0f - 1.0f;
    }
    netc_tensor in = {x, input.shape, input.rank, NETC_F32};
    netc_tensor first = {results, output.shape, output.rank, NETC_F32};
    netc_tensor second = {results + outputs, output.shape, output.rank, NETC_F32};
    EXPECT(netc_model_run(of_file, &in, 1, &first, 1) == NETC_OK);
    EXPECT(netc_model_run(of_bytes, &in, 1, &second, 1) == NETC_OK);
    EXPECT(memcmp(results, results + outputs, outputs * sizeof(float)) == 0);
    netc_model_free(of_file);
    netc_model_free(of_bytes);

    FAILS(NETC_BAD_NETWORK, netc_model_compile_bytes(bytes, size / 2, &options, &model), "<bytes>");
    FAILS(NETC_BAD_NETWORK, netc_model_compile_bytes("GIF89a", 6, &options, &model), "<bytes>");
    FAILS(NETC_BAD_NETWORK, netc_model_compile_bytes("", 0, &options, &model), "<bytes>");
    FAILS(NETC_BAD_NETWORK, netc_model_compile_bytes("hello there", 11, &options, &model), "no network");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_bytes(NULL, 0, &options, &model), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_bytes(bytes, (size_t)-1, &options, &model), "more than memory");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_open_bytes(bytes, (size_t)-1, NULL, &model), "more than memory");
    free(bytes);
    free(x);
    free(results);
    /* The text needs no zero behind it. */
    EXPECT(netc_model_compile_bytes(SPEC, strlen(SPEC) - 1, &options, &model) == NETC_OK);
    EXPECT(netc_model_has_random_weights(model) == 1);
    netc_model_free(model);
    /* What is likely not meant is told, once for all sizes, and advice is in the words of C. */
    static const char *const SPARE =
        "netc 1\nmodel m(spare = 1) {\n    input image: f32[N, 3, 8, 8]\n    conv(4, 3)\n    output y\n}\n";
    const size_t batches[] = {1, 2};
    options.batches = batches;
    options.batch_count = 2;
    EXPECT(netc_model_compile_text(SPARE, &options, &model) == NETC_OK);
    EXPECT(netc_model_warning_count(model) == 1 && netc_model_warning_count(NULL) == 0);
    EXPECT(strstr(netc_model_warning(model, 0), "warning[unused-name]: nothing uses the parameter `spare`") != NULL);
    EXPECT(strstr(netc_model_warning(model, 0), " --> <text>:2:9") != NULL);
    EXPECT(netc_model_warning(model, 1) == NULL && netc_model_warning(NULL, 0) == NULL);
    netc_model_free(model);
    options.batch_count = 0;
    const size_t four[] = {4, 3, 8, 8};
    const netc_shape of_four = {"image", four, 4};
    options.shapes = &of_four;
    options.shape_count = 1;
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(SPARE, &options, &model), "which `options.batch` sets, not 4");
    options.shape_count = 0;
    /* Tensors beside an ONNX model are looked for in the current folder, in which they are not, or beside what is named. */
    bytes = contents("tests/import/external.onnx", &size);
    FAILS(NETC_BAD_NETWORK, netc_model_compile_bytes(bytes, size, &options, &model), "<bytes>");
    options.name = "tests/import/in memory.onnx";
    EXPECT(netc_model_compile_bytes(bytes, size, &options, &model) == NETC_OK);
    netc_model_free(model);
    free(bytes);
}

/* Parameters, weights under other names, precisions, and parts: what the command has as flags. */
static const char *const WITH_PARAMETERS =
    "netc 1\n"
    "model m(width, act = \"relu\", deep = false) {\n"
    "    input image: f32[N, 3, 8, 8]\n"
    "    first: conv(width, 3, pad = 1)\n"
    "    if deep {\n"
    "        second: conv(width, 3, pad = 1)\n"
    "    }\n"
    "    if act == \"relu\" {\n"
    "        end: relu\n"
    "    } else {\n"
    "        end: sigmoid\n"
    "    }\n"
    "    global_avg_pool\n"
    "    flatten\n"
    "    output mean\n"
    "}\n";

static size_t channels(const char *text, const netc_compile_options *options, size_t index) {
    netc_model *model = NULL;
    netc_port port;
    EXPECT(netc_model_compile_text(text, options, &model) == NETC_OK);
    EXPECT(netc_model_output(model, index, &port) == NETC_OK);
    const size_t found = port.shape[1];
    netc_model_free(model);
    return found;
}

/* What a network says of one image of the digits. */
static void digit(const char *path, const netc_compile_options *options, float scores[10]) {
    static float image[28 * 28];
    for (int i = 0; i < 28 * 28; i++) {
        image[i] = (float)(i % 29) / 14.0f - 1.0f;
    }
    const size_t shape[] = {1, 1, 28, 28}, of_scores[] = {1, 10};
    const netc_tensor in = {image, shape, 4, NETC_F32}, out = {scores, of_scores, 2, NETC_F32};
    netc_model *model = NULL;
    EXPECT(netc_model_compile(path, options, &model) == NETC_OK);
    EXPECT(netc_model_run(model, &in, 1, &out, 1) == NETC_OK);
    netc_model_free(model);
}

static void settings(const char *saved) {
    netc_model *model = NULL;
    netc_compile_options options = {0};
    options.run.threads = 1;
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(WITH_PARAMETERS, &options, &model),
          "set it: `options.settings = {\"width\", \"\xe2\x80\xa6\"}`");
    netc_setting given[] = {{"width", "6"}, {"act", "sigmoid"}, {"deep", " true "}};
    options.settings = given;
    options.setting_count = 3;
    EXPECT(channels(WITH_PARAMETERS, &options, 0) == 6);
    /* A model for another size has them, too. */
    const size_t larger[] = {1, 3, 12, 12};
    const netc_shape asked = {"image", larger, 4};
    netc_model *other = NULL;
    netc_port port;
    EXPECT(netc_model_compile_text(WITH_PARAMETERS, &options, &model) == NETC_OK);
    EXPECT(netc_model_save(model, saved) == NETC_OK);
    EXPECT(netc_model_compile_for(model, &asked, 1, &other) == NETC_OK);
    EXPECT(netc_model_output(other, 0, &port) == NETC_OK && port.shape[1] == 6);
    netc_model_free(other);
    netc_model_free(model);
    EXPECT(netc_model_open(saved, NULL, &model) == NETC_OK);
    EXPECT(netc_model_compile_for(model, &asked, 1, &other) == NETC_OK);
    EXPECT(netc_model_output(other, 0, &port) == NETC_OK && port.shape[1] == 6);
    netc_model_free(other);
    netc_model_free(model);

    const struct {
        netc_setting last;
        netc_status status;
        const char *text;
    } cases[] = {
        {{"depth", "true"}, NETC_BAD_NETWORK, "no parameter `depth`"},
        {{"", "true"}, NETC_BAD_NETWORK, "no parameter ``"},
        {{"deep", "yes"}, NETC_BAD_NETWORK, "`deep` is a truth value, it cannot be set to yes"},
        {{"deep", "1"}, NETC_BAD_NETWORK, "`deep` is a truth value, it cannot be set to 1"},
        {{"deep", "\xff"}, NETC_INVALID_ARGUMENT, "a setting's value is no UTF-8"},
        {{"deep", NULL}, NETC_INVALID_ARGUMENT, "a setting's value is a null pointer"},
        {{NULL, "true"}, NETC_INVALID_ARGUMENT, "a setting's name is a null pointer"},
        {{"width", "7"}, NETC_INVALID_ARGUMENT, "the settings have `width` twice"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        given[2] = cases[i].last;
        FAILS(cases[i].status, netc_model_compile_text(WITH_PARAMETERS, &options, &model), cases[i].text);
    }
    given[2] = (netc_setting){"deep", "yes"};
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(WITH_PARAMETERS, &options, &model), "write `options.settings = {\"deep\", \"true\"}`");
    given[0].value = "0";
    given[2].value = "false";
    options.name = "my network";
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(WITH_PARAMETERS, &options, &model), "my network:4:");
    options = (netc_compile_options){0};
    options.setting_count = 1;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(SPEC, &options, &model), "null pointer");

    /* Shapes and constants are named once, too. */
    const netc_shape shapes[] = {asked, asked};
    options = (netc_compile_options){0};
    options.shapes = shapes;
    options.shape_count = 2;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &options, &model), "the shapes have `image` twice");
    const double rate[] = {16000};
    const netc_constant constants[] = {{"rate", rate, 1}, {"rate", rate, 1}};
    options = (netc_compile_options){0};
    options.fixed = constants;
    options.fixed_count = 2;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(PICTURES, &options, &model), "the constants have `rate` twice");

    /* A part. */
    const char *const until[] = {"first", "end"}, *const from[] = {"first"}, *const none[] = {"firsd"}, *const null[] = {NULL};
    given[0].value = "5";
    options = (netc_compile_options){0};
    options.settings = given;
    options.setting_count = 1;
    options.until = until;
    options.until_count = 2;
    EXPECT(netc_model_compile_text(WITH_PARAMETERS, &options, &model) == NETC_OK);
    EXPECT(netc_model_output_count(model) == 2);
    EXPECT(netc_model_output(model, 1, &port) == NETC_OK && strcmp(port.name, "end") == 0 && port.shape[2] == 8);
    netc_model_free(model);
    options.until_count = 0;
    options.from = from;
    options.from_count = 1;
    EXPECT(netc_model_compile_text(WITH_PARAMETERS, &options, &model) == NETC_OK);
    EXPECT(netc_model_input(model, 0, &port) == NETC_OK && strcmp(port.name, "first") == 0 && port.shape[1] == 5);
    netc_model_free(model);
    options.from = none;
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text(WITH_PARAMETERS, &options, &model), "did you mean `first`?");
    options.from = null;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(WITH_PARAMETERS, &options, &model),
          "one of the labels of `from` is a null pointer");
    options.from = NULL;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(WITH_PARAMETERS, &options, &model), "are a null pointer");
}

static void weights_and_precisions(void) {
    static const char *const DIGITS = "models/digits/digits.net", *const WEIGHTS = "models/digits/digits.safetensors";
    netc_model *model = NULL;
    float plain[10], again[10];
    netc_compile_options options = {0};
    options.run.threads = 1;
    digit(DIGITS, &options, plain);

    /* Names there and back. */
    const netc_rename renames[] = {{"^layer(\\d)\\.", "stage$1."}, {"^stage", "layer"}};
    options.weights = WEIGHTS;
    options.renames = renames;
    options.rename_count = 2;
    digit(DIGITS, &options, again);
    EXPECT(memcmp(plain, again, sizeof(plain)) == 0);
    options.rename_count = 1;
    FAILS(NETC_BAD_WEIGHTS, netc_model_compile(DIGITS, &options, &model), "stage1.0.conv1.weight");
    options.allow_missing = 1;
    options.allow_extra = 1;
    digit(DIGITS, &options, again);
    EXPECT(memcmp(plain, again, sizeof(plain)) != 0);
    options.allow_extra = 0;
    FAILS(NETC_BAD_WEIGHTS, netc_model_compile(DIGITS, &options, &model), "stage1.0.conv1.weight");
    options.allow_missing = 0;
    const struct {
        netc_rename rename;
        netc_status status;
        const char *text;
    } cases[] = {
        {{"(", ""}, NETC_INVALID_ARGUMENT, "the renames: `(` has no valid regular expression"},
        {{"a=b", ""}, NETC_INVALID_ARGUMENT, "has an `=`"},
        {{NULL, ""}, NETC_INVALID_ARGUMENT, "a rename's pattern is a null pointer"},
        {{"a", NULL}, NETC_INVALID_ARGUMENT, "a rename's replacement is a null pointer"},
        {{"a", "\xff"}, NETC_INVALID_ARGUMENT, "a rename's replacement is no UTF-8"},
        {{"conv[12]", "conv"}, NETC_BAD_WEIGHTS, "would both be named"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        options.renames = &cases[i].rename;
        FAILS(cases[i].status, netc_model_compile(DIGITS, &options, &model), cases[i].text);
    }
    options.renames = NULL;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile(DIGITS, &options, &model), "the renames are a null pointer");
    options.rename_count = 0;

    /* Several files, and a seed in place of files. */
    const char *const more[] = {WEIGHTS};
    options.more_weights = more;
    options.more_weight_count = 1;
    FAILS(NETC_BAD_WEIGHTS, netc_model_compile(DIGITS, &options, &model), "the file is given twice");
    options.weights = NULL;
    digit(DIGITS, &options, again);
    EXPECT(memcmp(plain, again, sizeof(plain)) == 0);
    const uint64_t seeds[] = {7, 8};
    options.seed = &seeds[0];
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile(DIGITS, &options, &model), "of files or of a seed");
    options.more_weight_count = 0;
    EXPECT(netc_model_compile(DIGITS, &options, &model) == NETC_OK && netc_model_has_random_weights(model) == 1);
    netc_model_free(model);
    float other[10];
    digit(DIGITS, &options, again);
    digit(DIGITS, &options, other);
    EXPECT(memcmp(other, again, sizeof(again)) == 0 && memcmp(plain, again, sizeof(plain)) != 0);
    options.seed = &seeds[1];
    digit(DIGITS, &options, other);
    EXPECT(memcmp(other, again, sizeof(again)) != 0);
    options.seed = NULL;

    /* A tolerance that nothing but f32 keeps, and none that it is. */
    options.precision = "fastest-within=1e-12";
    digit(DIGITS, &options, again);
    EXPECT(memcmp(plain, again, sizeof(plain)) == 0);
    options.precision = "int8";
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile(DIGITS, &options, &model), "the precision: there is no precision `int8`");
    options.precision = "fastest-within=2";
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile(DIGITS, &options, &model), "no tolerance");
    options.precision = "f32";
    options.target = "host";
    digit(DIGITS, &options, again);
    EXPECT(memcmp(plain, again, sizeof(plain)) == 0);
    options.target = "z80";
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile(DIGITS, &options, &model), "the target: ");
}

/* Pictures by the steps of the text, and by the usual ones. */
static const char *const GRAY =
    "netc 1\n"
    "model gray {\n"
    "    input image: f32[N, 1, 4, 6]\n"
    "    preprocess image { color gray  scale 1/255  mean [0.5]  std [0.25] }\n"
    "    relu\n"
    "    output y\n"
    "}\n";
static const char *const LEVELS =
    "netc 1\n"
    "model levels {\n"
    "    input image: u8[N, 3, 2, 2]\n"
    "    cast\n"
    "    output y\n"
    "}\n";

static void preprocessing(void) {
    netc_model *model = NULL;
    netc_compile_options options = {0};
    options.run.threads = 1;
    EXPECT(netc_model_compile_text(GRAY, &options, &model) == NETC_OK);
    uint8_t levels[4 * 8];
    for (int i = 0; i < 4 * 8; i++) {
        levels[i] = (uint8_t)(i * 7);
    }
    /* Rows of six levels that lie eight apart. */
    netc_picture picture = {levels, 4, 6, 1, 8};
    float x[2 * 24] = {0};
    size_t shape[] = {1, 1, 4, 6};
    netc_tensor out = {x + 24, shape, 4, NETC_F32};
    EXPECT(netc_model_preprocess(model, 0, &picture, &out) == NETC_OK);
    for (int i = 0; i < 24; i++) {
        const float expected = ((float)levels[i / 6 * 8 + i % 6] / 255.0f - 0.5f) / 0.25f;
        EXPECT(x[24 + i] - expected < 1e-5f && expected - x[24 + i] < 1e-5f && x[i] == 0);
    }
    FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(model, 1, &picture, &out), "there is no input 1");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(model, 0, NULL, &out), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(model, 0, &picture, NULL), "no place");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(NULL, 0, &picture, &out), "null pointer");
    const netc_picture wrong[] = {{NULL, 4, 6, 1, 0}, {levels, 4, 6, 2, 0}, {levels, 0, 6, 1, 0},
                                  {levels, 4, 40000, 1, 0}, {levels, 4, 6, 1, 5}, {levels, 4, 6, 1, (size_t)-1}};
    const char *const texts[] = {"null pointer", "1 or 3 channels", "not 1 and 0 by 6", "4 by 40000", "5 bytes apart", "apart"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(model, 0, &wrong[i], &out), texts[i]);
    }
    shape[0] = 2;
    FAILS(NETC_BAD_TENSOR, netc_model_preprocess(model, 0, &picture, &out), "several images");
    shape[0] = 1;
    out.element = NETC_U8;
    FAILS(NETC_BAD_TENSOR, netc_model_preprocess(model, 0, &picture, &out), "of u8");
    netc_model_free(model);

    EXPECT(netc_model_compile_text(LEVELS, &options, &model) == NETC_OK);
    /* Whole numbers are levels as they are; colours become planes. A picture of another size is resized. */
    const uint8_t pixels[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, even[5 * 3 * 3] = {0};
    const uint8_t planes[] = {1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12};
    uint8_t found[12];
    const size_t of_levels[] = {1, 3, 2, 2};
    const netc_tensor bytes = {found, of_levels, 4, NETC_U8};
    picture = (netc_picture){pixels, 2, 2, 3, 0};
    EXPECT(netc_model_preprocess(model, 0, &picture, &bytes) == NETC_OK && memcmp(found, planes, 12) == 0);
    picture = (netc_picture){even, 5, 3, 3, 0};
    EXPECT(netc_model_preprocess(model, 0, &picture, &bytes) == NETC_OK && found[0] == 0 && found[11] == 0);
    netc_model_free(model);
}

/* Freed models, and what never was one: every function refuses them, however many models there are. */
static void freed(const char *path) {
    enum { MODELS = 300 };
    static netc_model *models[MODELS];
    static const char *const SMALL = "netc 1\nmodel m { input x: f32[N, 2] relu output y }";
    netc_compile_options options = {0};
    options.run.threads = 1;
    EXPECT(netc_model_compile_text(SMALL, &options, &models[0]) == NETC_OK);
    EXPECT(netc_model_save(models[0], path) == NETC_OK);
    for (int i = 1; i < MODELS; i++) {
        EXPECT(netc_model_open(path, &options.run, &models[i]) == NETC_OK);
    }
    float x[] = {1, -2}, y[] = {0, 0};
    const size_t sizes[] = {1, 2};
    const netc_tensor in = {x, sizes, 2, NETC_F32}, out = {y, sizes, 2, NETC_F32};
    for (int i = 0; i < MODELS; i += 2) {
        netc_model_free(models[i]);
    }
    for (int i = 0; i < MODELS; i++) {
        EXPECT(netc_model_run(models[i], &in, 1, &out, 1) == (i % 2 ? NETC_OK : NETC_INVALID_ARGUMENT));
    }
    int number = 7;
    netc_model *const none[] = {models[0], (netc_model *)(void *)&number, (netc_model *)(size_t)48,
                                (netc_model *)(size_t)-1};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        netc_model *const m = none[i], *other = m;
        netc_port port;
        netc_rows rows;
        size_t place;
        const char *const text = "the model was freed";
        FAILS(NETC_INVALID_ARGUMENT, netc_model_run(m, &in, 1, &out, 1), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_input(m, 0, &port), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_size_output(m, 0, 0, &port), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_output_index(m, "y", &place), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_output_rows(m, 0, &out, 1, &rows), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_save(m, path), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_preprocess(m, 0, NULL, NULL), text);
        FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_for(m, NULL, 0, (netc_model **)&other), text);
        EXPECT(netc_model_name(m) == NULL && netc_model_label(m, 0) == NULL && netc_model_label_count(m) == 0);
        EXPECT(netc_model_input_count(m) == 0 && netc_model_output_count(m) == 0 && netc_model_size_count(m) == 0);
        EXPECT(netc_model_batch(m) == 0 && netc_model_threads(m) == 0 && netc_model_has_random_weights(m) == 0);
        EXPECT(netc_model_open("none.netc", NULL, (netc_model **)&other) == NETC_IO);
        netc_model_free(m);
        EXPECT(strstr(netc_last_error(), text) != NULL);
    }
    for (int i = 1; i < MODELS; i += 2) {
        netc_model_free(models[i]);
    }
    EXPECT(netc_model_run(models[1], &in, 1, &out, 1) == NETC_INVALID_ARGUMENT);
}

struct task {
    const char *saved;
    int done;
};

static void *in_thread(void *of) {
    struct task *task = of;
    netc_model *model = NULL;
    netc_compile_options options = {0};
    options.run.threads = 1;
    EXPECT(netc_model_compile_text(PICTURES, &options, &model) == NETC_OK);
    EXPECT(netc_model_save(model, task->saved) == NETC_OK);
    netc_model_free(model);
    task->done = 1;
    return NULL;
}

/* A thread with as little stack as some C libraries give compiles, and so does a copy of the process, which has none of the
 * threads of the one before. */
static void threads_and_copies(const char *saved) {
    struct task task = {saved, 0};
    pthread_attr_t attributes;
    pthread_t thread;
    EXPECT(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 128 << 10) == 0);
    EXPECT(pthread_create(&thread, &attributes, in_thread, &task) == 0 && pthread_join(thread, NULL) == 0);
    EXPECT(task.done == 1);
    pthread_attr_destroy(&attributes);
    const pid_t copy = fork();
    EXPECT(copy >= 0);
    if (copy == 0) {
        alarm(60);
        in_thread(&task);
        _exit(0);
    }
    int status = -1;
    EXPECT(waitpid(copy, &status, 0) == copy && status == 0);
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    EXPECT(netc_abi_version() == NETC_ABI_VERSION);
    EXPECT(strlen(netc_version()) >= 5);
    EXPECT(strcmp(netc_status_name(NETC_OK), "NETC_OK") == 0 && strcmp(netc_status_name(77), "unknown") == 0);
    EXPECT(strcmp(netc_status_name(NETC_INTERNAL), "NETC_INTERNAL") == 0);

    netc_model *model = (netc_model *)&argc;
    FAILS(NETC_IO, netc_model_compile("none.net", NULL, &model), "none.net");
    EXPECT(model == NULL);
    FAILS(NETC_BAD_NETWORK, netc_model_compile_text("netc 1\nmodel m { conv2d(3) }", NULL, &model), "did you mean `conv`");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(NULL, NULL, &model), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(SPEC, NULL, NULL), "no place");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text("\xff", NULL, &model), "UTF-8");
    FAILS(NETC_IO, netc_model_open("none.netc", NULL, &model), "none.netc");
    FAILS(NETC_BAD_MODEL, netc_model_open_bytes("not a model", 11, NULL, &model), "memory");
    netc_compile_options wrong = {0};
    wrong.run.threads = 1000;
    FAILS(NETC_INVALID_ARGUMENT, netc_model_compile_text(SPEC, &wrong, &model), "threads");
    wrong = (netc_compile_options){0};
    wrong.weights = "none.safetensors";
    EXPECT(netc_model_compile_text(SPEC, &wrong, &model) != NETC_OK);
    EXPECT(strstr(netc_last_error(), "none.safetensors") != NULL);

    netc_compile_options options = {0};
    options.run.threads = 1;
    EXPECT(netc_model_compile_text(SPEC, &options, &model) == NETC_OK);
    EXPECT(strcmp(netc_model_name(model), "two") == 0);
    EXPECT(netc_model_input_count(model) == 2 && netc_model_output_count(model) == 2);
    EXPECT(netc_model_label_count(model) == 2 && strcmp(netc_model_label(model, 1), "b") == 0);
    EXPECT(netc_model_label(model, 2) == NULL && netc_model_batch(model) == 1);
    netc_port port;
    EXPECT(netc_model_input(model, 1, &port) == NETC_OK);
    EXPECT(strcmp(port.name, "right") == 0 && port.rank == 4 && port.shape[1] == 3 && port.element == NETC_F32);
    FAILS(NETC_INVALID_ARGUMENT, netc_model_input(model, 2, &port), "there is no input 2");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output(model, 0, NULL), "no place");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output(NULL, 0, &port), "null pointer");
    size_t place = 9;
    EXPECT(netc_model_input_index(model, "right", &place) == NETC_OK && place == 1);
    EXPECT(netc_model_output_index(model, "sum", &place) == NETC_OK && place == 0);
    FAILS(NETC_INVALID_ARGUMENT, netc_model_input_index(model, "sum", &place), "the inputs are left, right");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_index(model, "", &place), "the outputs are sum, mean");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_index(model, NULL, &place), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_index(model, "sum", NULL), "no place");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_output_index(NULL, "sum", &place), "null pointer");
    EXPECT(netc_model_threads(model) == 1 && netc_model_threads(NULL) == 0);
    EXPECT(netc_model_has_random_weights(model) == 1 && netc_model_has_random_weights(NULL) == 0);
    EXPECT(netc_element_size(NETC_F32) == 4 && netc_element_size(NETC_I64) == 8 && netc_element_size(NETC_BF16) == 2);
    EXPECT(netc_element_size(NETC_BOOL) == 1 && netc_element_size(77) == 0);

    enum { IMAGES = 3, IMAGE = 3 * 8 * 8, SUM = 2 * 8 * 8 };
    static float left[IMAGES * IMAGE], right[IMAGES * IMAGE], sum[IMAGES * SUM], mean[IMAGES * 2], again[IMAGES * SUM];
    for (int i = 0; i < IMAGES * IMAGE; i++) {
        left[i] = (float)(i % 17) / 8.0f - 1.0f;
        right[i] = (float)(i % 11) / 5.0f - 1.0f;
    }
    const size_t image_shape[] = {IMAGES, 3, 8, 8}, sum_shape[] = {IMAGES, 2, 8, 8}, mean_shape[] = {IMAGES, 2};
    netc_tensor in[] = {{left, image_shape, 4, NETC_F32}, {right, image_shape, 4, NETC_F32}};
    netc_tensor out[] = {{sum, sum_shape, 4, NETC_F32}, {mean, mean_shape, 2, NETC_F32}};
    EXPECT(netc_model_run(model, in, 2, out, 2) == NETC_OK);
    for (int i = 0; i < IMAGES * 2; i++) {
        float total = 0;
        for (int k = 0; k < 64; k++) {
            total += sum[i * 64 + k];
        }
        EXPECT(total / 64 - mean[i] < 1e-4f && mean[i] - total / 64 < 1e-4f);
    }

    /* After the first run, nothing is allocated. */
    counting = 1;
    for (int i = 0; i < 10000; i++) {
        EXPECT(netc_model_run(model, in, 2, out, 2) == NETC_OK);
    }
    counting = 0;
    EXPECT(allocations == 0);

    /* Everything that is wrong with tensors. */
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 1, out, 2), "2 inputs, 1");
    FAILS(NETC_BAD_TENSOR, netc_model_run(model, in, 2, out, 3), "2 outputs, 3");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_run(model, NULL, 2, out, 2), "null pointer");
    FAILS(NETC_INVALID_ARGUMENT, netc_model_run(NULL, in, 2, out, 2), "null pointer");
    const size_t other_shape[] = {IMAGES, 3, 8, 9}, huge[] = {(size_t)-1, 3, 8, 8}, none[] = {0, 3, 8, 8};
    const size_t two_images[] = {2, 3, 8, 8};
    const struct {
        netc_tensor tensor;
        const char *text;
    } cases[] = {
        {{left, other_shape, 4, NETC_F32}, "left: the tensor's sizes"},
        {{left, huge, 4, NETC_F32}, "too large"},
        {{left, none, 4, NETC_F32}, "sizes"},
        {{left, two_images, 4, NETC_F32}, "images"},
        {{left, image_shape, 3, NETC_F32}, "3 axes, the model 4"},
        {{left, image_shape, 4, NETC_U8}, "the tensor is of u8, the model takes f32"},
        {{left, image_shape, 4, 77}, "another element"},
        {{NULL, image_shape, 4, NETC_F32}, "null pointer"},
        {{left, NULL, 4, NETC_F32}, "null pointer"},
        {{(char *)left + 1, image_shape, 4, NETC_F32}, "aligned"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        netc_tensor broken[] = {cases[i].tensor, in[1]};
        FAILS(NETC_BAD_TENSOR, netc_model_run(model, broken, 2, out, 2), cases[i].text);
    }

    /* The file, and its bytes, are the same model. */
    EXPECT(netc_model_save(model, argv[1]) == NETC_OK);
    FAILS(NETC_IO, netc_model_save(model, "none/none.netc"), "none/none.netc");
    netc_model_free(model);
    EXPECT(netc_model_open(argv[1], NULL, &model) == NETC_OK);
    netc_tensor repeated[] = {{again, sum_shape, 4, NETC_F32}, out[1]};
    EXPECT(netc_model_run(model, in, 2, repeated, 2) == NETC_OK);
    EXPECT(memcmp(sum, again, sizeof(sum)) == 0);
    netc_model_free(model);
    netc_model_free(NULL);

    size_t size;
    char *saved = contents(argv[1], &size);
    EXPECT(netc_model_open_bytes(saved, size, NULL, &model) == NETC_OK);
    memset(again, 0, sizeof(again));
    EXPECT(netc_model_run(model, in, 2, repeated, 2) == NETC_OK);
    EXPECT(memcmp(sum, again, sizeof(sum)) == 0);
    netc_model_free(model);
    FAILS(NETC_BAD_MODEL, netc_model_open_bytes(saved, size / 2, NULL, &model), "memory");
    free(saved);
    bytes();
    settings(argv[1]);
    weights_and_precisions();
    sizes(argv[1]);
    elements();
    rows();
    preprocessing();
    freed(argv[1]);
    threads_and_copies(argv[1]);
    puts("all good");
    return 0;
}
