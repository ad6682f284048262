/* A board for trying sketch.c at a desk: the camera is standard input, the serial line standard output. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <unistd.h>

int camera_read(unsigned char *pixels);
void serial_print(const char *text);
void setup(void);
int loop(void);

int camera_read(unsigned char *pixels) {
    size_t have = 0;
    while (have < 28 * 28) {
        const ssize_t got = read(0, pixels + have, 28 * 28 - have);
        if (got <= 0)
            return 0;
        have += (size_t)got;
    }
    return 1;
}

void serial_print(const char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        const ssize_t sent = write(1, text, left);
        if (sent <= 0)
            return;
        text += sent;
        left -= (size_t)sent;
    }
}

int main(void) {
    setup();
    while (loop()) {
    }
    return 0;
}
