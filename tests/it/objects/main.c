/* Runs the network of x.h on the numbers in the file `in` and writes its outputs to the file `out`:
 *     main run | main loop WORKERS | main threads WORKERS
 * PORTS are the arguments, INPUTS and OUTPUTS the numbers of elements. */
#define _GNU_SOURCE
#include "x.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* Memory of so many bytes, full of NaN, that ends where nobody may read or write. */
static void *guarded(size_t bytes) {
    const size_t page = 4096, pages = (bytes + page - 1) / page * page;
    char *map = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + pages, page, PROT_NONE) != 0)
        exit(10);
    memset(map, 0xff, pages);
    return map + pages - bytes;
}

struct work {
    size_t count;
    atomic_size_t next;
    void (*body)(void *argument, size_t index, size_t worker);
    void *argument;
};

struct worker {
    struct work *work;
    size_t number;
};

static void *join(void *given) {
    struct worker *worker = given;
    size_t index;
    while ((index = atomic_fetch_add(&worker->work->next, 1)) < worker->work->count)
        worker->work->body(worker->work->argument, index, worker->number);
    return NULL;
}

static void by_threads(void *context, size_t count, void (*body)(void *, size_t, size_t), void *argument) {
    const size_t workers = *(size_t *)context;
    struct work work = {count, 0, body, argument};
    struct worker each[64];
    pthread_t threads[64];
    for (size_t i = 0; i < workers; i++) {
        each[i] = (struct worker){&work, i};
        if (pthread_create(&threads[i], NULL, join, &each[i]) != 0)
            exit(11);
    }
    for (size_t i = 0; i < workers; i++)
        pthread_join(threads[i], NULL);
}

/* The last first, each as another worker. */
static void by_loop(void *context, size_t count, void (*body)(void *, size_t, size_t), void *argument) {
    const size_t workers = *(size_t *)context;
    if (count > workers)
        exit(12);
    for (size_t i = count; i-- > 0;)
        body(argument, i, workers - 1 - i);
}

static float *port[64];
static void *arena;
#ifdef APART
static const void *weights;
#define MEMORY arena, weights
#else
#define MEMORY arena
#endif

static unsigned char stack[1 << 16];
static ucontext_t caller, callee;
static int status;

static void run(void) {
    status = net_run(PORTS MEMORY);
}

/* Bytes that a run takes of a stack. */
static size_t stack_taken(void) {
    memset(stack, 0xa5, sizeof stack);
    if (getcontext(&callee) != 0)
        exit(19);
    callee.uc_stack.ss_sp = stack;
    callee.uc_stack.ss_size = sizeof stack;
    callee.uc_link = &caller;
    makecontext(&callee, run, 0);
    if (swapcontext(&caller, &callee) != 0)
        exit(19);
    size_t left = 0;
    while (left < sizeof stack && stack[left] == 0xa5)
        left++;
    return sizeof stack - left;
}

int main(int argc, char **argv) {
    static const size_t inputs[] = {INPUTS}, outputs[] = {OUTPUTS};
    const size_t ins = sizeof inputs / sizeof *inputs, outs = sizeof outputs / sizeof *outputs;
    FILE *in = fopen("in", "rb"), *out = fopen("out", "wb");
    if (argc < 2 || in == NULL || out == NULL)
        return 13;
    for (size_t i = 0; i < ins; i++) {
        port[i] = guarded(4 * inputs[i]);
        if (fread(port[i], 4, inputs[i], in) != inputs[i])
            return 14;
    }
    for (size_t i = 0; i < outs; i++)
        port[ins + i] = guarded(4 * outputs[i]);

#ifdef APART
    const int file = open("x.bin", O_RDONLY);
    weights = mmap(NULL, NET_WEIGHTS_SIZE, PROT_READ, MAP_PRIVATE, file, 0);
    if (weights == MAP_FAILED || lseek(file, 0, SEEK_END) != NET_WEIGHTS_SIZE)
        return 15;
#endif

#ifdef __x86_64__
    const unsigned control = __builtin_ia32_stmxcsr();
#endif
    if (net_supported() != 1) {
        fprintf(stderr, "the CPU lacks one of %s\n", NET_CPU_FEATURES);
        return 1;
    }
    size_t workers = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    arena = guarded(NET_ARENA_SIZE_FOR(workers));
    /* Twice: nothing of a run is left for the next. */
    for (int i = 0; i < 2; i++) {
        if (strcmp(argv[1], "run") == 0)
            run();
        else
            status = net_run_parallel(PORTS MEMORY, strcmp(argv[1], "loop") == 0 ? by_loop : by_threads, &workers, workers);
        if (status != NET_OK) {
            fprintf(stderr, "status %d\n", status);
            return 1;
        }
    }
    /* As docs/OBJECTS.md promises. A first call through a shared library has the dynamic linker on the stack, too. */
    stack_taken();
    const size_t taken = stack_taken();
    if (status != NET_OK || taken > 1024) {
        fprintf(stderr, "a run takes %zu bytes of the stack\n", taken);
        return 1;
    }
#ifdef __x86_64__
    if (__builtin_ia32_stmxcsr() != control)
        return 16;
#endif
    for (size_t i = 0; i < outs; i++)
        if (fwrite(port[ins + i], 4, outputs[i], out) != outputs[i])
            return 17;
    return fclose(out) == 0 ? 0 : 18;
}
