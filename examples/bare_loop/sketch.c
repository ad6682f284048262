/* A network on a machine without an operating system: two functions, as a board's framework calls them, static memory and
 * no library. README.md tells how it is built.
 *
 * All memory is known when the program is linked: the weights are constants within digits.o, and `arena` is what a run
 * needs. */
#include "digits.h"

/* What the board gives. */

/* Waits for a picture of 28 x 28 levels of gray; 0 where there will be none any more. */
int camera_read(unsigned char *pixels);
/* Sends a text. */
void serial_print(const char *text);

static _Alignas(DIGITS_ARENA_ALIGN) unsigned char arena[DIGITS_ARENA_SIZE];
static unsigned char pixels[DIGITS_IMAGE_ELEMENTS];
static float image[DIGITS_IMAGE_ELEMENTS];
static float logits[DIGITS_LOGITS_ELEMENTS];
static const char *const labels[] = DIGITS_LABELS;

void setup(void);
int loop(void);

void setup(void) {}

/* Names one picture; 0 where there is none. */
int loop(void) {
    if (!camera_read(pixels))
        return 0;
    /* What digits.h says of `image`: scale 1/255, mean 0.1307, std 0.3081. */
    for (int i = 0; i < DIGITS_IMAGE_ELEMENTS; i++)
        image[i] = ((float)pixels[i] * (1.0f / 255.0f) - 0.1307f) / 0.3081f;
    if (digits_run(image, logits, arena) != DIGITS_OK)
        return 0;
    int best = 0;
    for (int i = 1; i < DIGITS_LABEL_COUNT; i++)
        if (logits[i] > logits[best])
            best = i;
    serial_print(labels[best]);
    serial_print("\n");
    return 1;
}
