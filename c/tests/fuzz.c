/* Wrong tensors, at random: each is refused with a text, or is right and computed. Built with the sanitizers of addresses
 * and undefined behaviour, so that nothing beyond what is given is read or written here. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netc.h"

static unsigned long long state = 0x9e3779b97f4a7c15ULL;

static unsigned long long draw(unsigned long long below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static const char *const SPEC =
    "netc 1\n"
    "model m {\n"
    "    input image: f32[N, 2, 5, 6]\n"
    "    conv(3, 3, pad = 1)\n"
    "    output map\n"
    "    global_avg_pool\n"
    "    flatten\n"
    "    output mean\n"
    "}\n";

/* Sizes as the port has them, with some of them changed. */
static size_t sizes(const netc_port *port, size_t images, size_t *shape) {
    static const size_t ODD[] = {0, 1, 2, 3, 4, 7, 1000, (size_t)1 << 40, (size_t)-1};
    memcpy(shape, port->shape, port->rank * sizeof(size_t));
    shape[0] = images;
    size_t rank = port->rank;
    for (size_t changes = draw(3); changes > 0; changes--) {
        shape[draw(6)] = ODD[draw(sizeof(ODD) / sizeof(ODD[0]))];
        rank = draw(4) == 0 ? draw(7) : rank;
    }
    return rank;
}

static int fits(const netc_port *port, size_t rank, const size_t *shape, size_t images) {
    int same = rank == port->rank && shape[0] == images;
    for (size_t i = 1; same && i < rank; i++) {
        same = shape[i] == port->shape[i];
    }
    return same;
}

int main(void) {
    netc_model *model = NULL;
    netc_compile_options options = {0};
    options.run.threads = 1;
    /* Programs for two sizes of pictures and two numbers of images: the sizes of the tensors choose. */
    const netc_picture_size pictures[] = {{5, 6}, {9, 4}};
    const size_t batches[] = {1, 2};
    options.pictures = pictures;
    options.picture_count = 2;
    options.batches = batches;
    options.batch_count = 2;
    if (netc_model_compile_text(SPEC, &options, &model) != NETC_OK) {
        fprintf(stderr, "%s\n", netc_last_error());
        return 1;
    }
    netc_port of_size[2][3];
    for (size_t size = 0; size < 2; size++) {
        netc_model_size_input(model, size, 0, &of_size[size][0]);
        netc_model_size_output(model, size, 0, &of_size[size][1]);
        netc_model_size_output(model, size, 1, &of_size[size][2]);
    }
    int computed = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        size_t images = 1 + draw(3), shapes[3][8] = {{0}}, counts[3];
        const netc_port *ports = of_size[draw(2)];
        netc_tensor tensors[3];
        int right = 1;
        for (int i = 0; i < 3; i++) {
            size_t rank = sizes(&ports[i], images, shapes[i]);
            right = right && fits(&ports[i], rank, shapes[i], images);
            /* As much memory as right sizes take, to the byte. */
            counts[i] = images;
            for (size_t axis = 1; axis < ports[i].rank; axis++) {
                counts[i] *= ports[i].shape[axis];
            }
            tensors[i] = (netc_tensor){calloc(counts[i], sizeof(float)), shapes[i], rank, NETC_F32};
            if (draw(10) == 0) {
                tensors[i].element = (netc_element)draw(300);
                right = right && tensors[i].element == NETC_F32;
            }
        }
        size_t inputs = draw(20) == 0 ? draw(3) : 1, outputs = draw(20) == 0 ? draw(4) : 2;
        right = right && inputs == 1 && outputs == 2;
        netc_status status = netc_model_run(model, &tensors[0], inputs, &tensors[1], outputs);
        if ((status == NETC_OK) != right || (status != NETC_OK && strlen(netc_last_error()) == 0)) {
            fprintf(stderr, "round %d: status %d, which should be %s: %s\n", round, (int)status, right ? "0" : "another",
                    netc_last_error());
            return 1;
        }
        computed += right;
        refused += !right;
        for (int i = 0; i < 3; i++) {
            free(tensors[i].data);
        }
    }
    netc_model_free(model);
    if (computed < 1000 || refused < 1000) {
        fprintf(stderr, "%d computed, %d refused\n", computed, refused);
        return 1;
    }
    puts("all good");
    return 0;
}
