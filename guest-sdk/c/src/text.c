// Text, memory and base64.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void *fw_allocate(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) fw_panic("out of memory");
    return memory;
}

char *fw_copy(const char *text, size_t length) {
    char *copy = fw_allocate(length + 1);
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

void fw_panic(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("fastworker: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

char *fw_json_text(const yyjson_mut_val *value) {
    char *text = yyjson_mut_val_write(value, YYJSON_WRITE_NOFLAG, NULL);
    return text ? text : fw_copy("null", 4);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *fw_encode(const void *from, size_t count, size_t *length) {
    const uint8_t *bytes = from;
    char *text = fw_allocate((count + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; i < count; i += 3, to += 4) {
        size_t rest = count - i;
        uint32_t second = rest > 1 ? bytes[i + 1] : 0, third = rest > 2 ? bytes[i + 2] : 0;
        uint32_t group = (uint32_t)bytes[i] << 16 | second << 8 | third;
        to[0] = base64_digits[group >> 18];
        to[1] = base64_digits[group >> 12 & 63];
        to[2] = rest > 1 ? base64_digits[group >> 6 & 63] : '=';
        to[3] = rest > 2 ? base64_digits[group & 63] : '=';
    }
    *to = 0;
    if (length) *length = (size_t)(to - text);
    return text;
}

static int base64_value(char digit) {
    if (digit >= 'A' && digit <= 'Z') return digit - 'A';
    if (digit >= 'a' && digit <= 'z') return digit - 'a' + 26;
    if (digit >= '0' && digit <= '9') return digit - '0' + 52;
    return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

bool fw_decode(const char *text, size_t length, uint8_t **bytes, size_t *count) {
    // Padding may be left out.
    for (int i = 0; i < 2 && length && text[length - 1] == '='; i++) length--;
    uint8_t *decoded = fw_allocate(length / 4 * 3 + 3);
    size_t done = 0;
    uint32_t group = 0;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value(text[i]);
        if (value < 0 || (i + 1 == length && length % 4 == 1)) {
            free(decoded);
            return false;
        }
        group = group << 6 | (uint32_t)value;
        if (i % 4) decoded[done++] = (uint8_t)(group >> (6 - i % 4 * 2));
    }
    *bytes = decoded;
    *count = done;
    return true;
}
