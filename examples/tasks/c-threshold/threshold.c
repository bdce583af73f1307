// Bytes in, bytes out: an image in black and white. Bytes are base64 in JSON.
//
//     fastworker build examples/tasks/c-threshold/threshold.c
//     fastworker dev examples/tasks/c-threshold/threshold.wasm threshold "$(base64 -w0 image.pgm)"
#include <ctype.h>
#include <fastworker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A grey image in the format PGM (P5): https://netpbm.sourceforge.net/doc/pgm.html
typedef struct {
    size_t width, height;
    const uint8_t *pixels;
} image;

enum { SIDE_MAX = 10000, GREYS = 256 };

// Reads a number after spaces and comments. Returns false if there is none.
static bool read_number(const uint8_t **at, const uint8_t *end, size_t *number) {
    while (*at < end && (isspace(**at) || **at == '#')) {
        if (**at == '#')
            while (*at < end && **at != '\n') (*at)++;
        else
            (*at)++;
    }
    const uint8_t *first = *at;
    for (*number = 0; *at < end && isdigit(**at) && *number <= SIDE_MAX; (*at)++) *number = *number * 10 + (**at - '0');
    return *at > first;
}

// Returns what is wrong with the image, or NULL.
static const char *read_image(const uint8_t *bytes, size_t length, image *image) {
    const uint8_t *at = bytes + 2, *end = bytes + length;
    size_t white;
    if (length < 2 || memcmp(bytes, "P5", 2)) return "is no PGM image of bytes (P5)";
    if (!read_number(&at, end, &image->width) || !read_number(&at, end, &image->height) || !read_number(&at, end, &white))
        return "has no width, height and white value";
    if (white != GREYS - 1) return "has not 256 greys";
    if (!image->width || !image->height || image->width > SIDE_MAX || image->height > SIDE_MAX)
        return "has a side that is not from 1 to 10000";
    // One space is between the header and the pixels.
    if (at == end || (size_t)(end - at - 1) < image->width * image->height) return "ends before its last pixel";
    image->pixels = at + 1;
    return NULL;
}

// Returns the level that separates two groups of greys best (Otsu's method).
static int64_t best_level(const image *image) {
    size_t count = image->width * image->height, counts[GREYS] = {0}, dark = 0;
    double sum = 0, dark_sum = 0, best = -1;
    int64_t level = 0;
    for (size_t i = 0; i < count; i++) counts[image->pixels[i]]++;
    for (int grey = 0; grey < GREYS; grey++) sum += (double)grey * (double)counts[grey];
    for (int grey = 0; grey < GREYS; grey++) {
        dark += counts[grey];
        if (!dark || dark == count) continue;
        dark_sum += (double)grey * (double)counts[grey];
        double difference = dark_sum / (double)dark - (sum - dark_sum) / (double)(count - dark);
        double variance = (double)dark * (double)(count - dark) * difference * difference;
        if (variance > best) best = variance, level = grey + 1;
    }
    return level;
}

static void threshold(fw_call *call) {
    size_t length;
    const uint8_t *bytes = fw_bytes(call, "image", &length);
    image image;
    const char *problem = read_image(bytes, length, &image);
    if (problem) {
        fw_bad_arguments(call, "argument 'image': it %s", problem);
        return;
    }
    int64_t level = fw_given(call, "level") ? fw_int(call, "level") : best_level(&image);
    size_t header = (size_t)(image.pixels - bytes), count = image.width * image.height;
    uint8_t *result = malloc(header + count);
    if (!result) abort();
    memcpy(result, bytes, header);
    for (size_t i = 0; i < count; i++) result[header + i] = image.pixels[i] < level ? 0 : GREYS - 1;
    printf("%zu x %zu pixels, white from grey %lld on\n", image.width, image.height, (long long)level);
    fw_return_bytes(call, result, header + count);
}

FW_TASKS({
    .name = "threshold",
    .run = threshold,
    .doc = "Makes a grey PGM image black and white. Without a level, one is chosen that separates its greys best.",
    .params =
        {
            {"image", FW_BYTES},
            {"level", FW_INT, .optional = true, .schema = "{\"type\": \"integer\", \"minimum\": 0, \"maximum\": 256}"},
        },
    .result = FW_BYTES,
    .policy = {.timeout = 60},
})
