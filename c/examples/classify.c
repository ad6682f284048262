/* Compiles a network or opens a compiled one, and runs it on an image of zeros.
 *
 *     cc classify.c $(pkg-config --cflags --libs netc) && ./a.out models/digits/digits.net */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netc.h"

static void check(netc_status status) {
    if (status != NETC_OK) {
        fprintf(stderr, "error: %s\n", netc_last_error());
        exit(1);
    }
}

static size_t elements(const netc_port *port) {
    size_t count = 1;
    for (size_t i = 0; i < port->rank; i++) {
        count *= port->shape[i];
    }
    return count;
}

int main(int argc, char **argv) {
    if (argc != 2 || netc_abi_version() != NETC_ABI_VERSION) {
        fprintf(stderr, "usage: %s network.net|network.onnx|network.netc\n", argv[0]);
        return 2;
    }
    netc_model *model = NULL;
    size_t length = strlen(argv[1]);
    if (length > 5 && strcmp(argv[1] + length - 5, ".netc") == 0) {
        check(netc_model_open(argv[1], NULL, &model));
    } else {
#ifdef NETC_WITHOUT_COMPILER
        fprintf(stderr, "this program opens compiled models only\n");
        return 2;
#else
        check(netc_model_compile(argv[1], NULL, &model));
#endif
    }
    printf("%s: %zu inputs, %zu outputs, %zu classes\n", netc_model_name(model), netc_model_input_count(model),
           netc_model_output_count(model), netc_model_label_count(model));

    netc_port input, output;
    check(netc_model_input(model, 0, &input));
    check(netc_model_output(model, 0, &output));
    float *image = calloc(elements(&input), sizeof(float));
    float *scores = calloc(elements(&output), sizeof(float));
    if (image == NULL || scores == NULL) {
        return 1;
    }
    netc_tensor in = {image, input.shape, input.rank, NETC_F32};
    netc_tensor out = {scores, output.shape, output.rank, NETC_F32};
    check(netc_model_run(model, &in, 1, &out, 1));

    size_t best = 0;
    for (size_t i = 1; i < elements(&output); i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    const char *label = netc_model_label(model, best);
    printf("of nothing it says: %s (%f)\n", label ? label : "no label", scores[best]);
    free(image);
    free(scores);
    netc_model_free(model);
    return 0;
}
