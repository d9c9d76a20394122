/* Loads f.dll, for x86-64 Windows, into a Linux process and calls it with that system's calling
 * convention: what little of a loader and of the C library such code needs. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WINDOWS __attribute__((ms_abi))

static WINDOWS void *copy(void *to, const void *from, size_t size) { return memcpy(to, from, size); }
static WINDOWS void *fill(void *to, int byte, size_t size) { return memset(to, byte, size); }
static WINDOWS float sine(float x) { return sinf(x); }

static WINDOWS int print(uint64_t options, char *to, size_t size, const char *form, void *locale,
                         const double *arguments)
{
    return options == 2 && locale == NULL ? snprintf(to, size, form, arguments[0]) : -1;
}

/* rax has the bytes of a frame and keeps them; the stack of Linux grows by itself. */
__attribute__((naked)) static void check_stack(void) { __asm__("ret"); }

static const struct { const char *library, *name; void *address; } PROVIDED[] = {
    {"ucrtbase.dll", "memcpy", (void *)copy}, {"ucrtbase.dll", "memset", (void *)fill},
    {"ucrtbase.dll", "sinf", (void *)sine}, {"ntdll.dll", "__chkstk", (void *)check_stack},
    {"ucrtbase.dll", "__stdio_common_vsprintf", (void *)print},
};

static uint8_t *image;

static uint32_t word(size_t at) { uint32_t value; memcpy(&value, image + at, 4); return value; }
static uint16_t half(size_t at) { uint16_t value; memcpy(&value, image + at, 2); return value; }

static void *provided(const char *library, const char *name)
{
    for (size_t i = 0; i < sizeof PROVIDED / sizeof *PROVIDED; i++)
        if (!strcmp(PROVIDED[i].library, library) && !strcmp(PROVIDED[i].name, name))
            return PROVIDED[i].address;
    fprintf(stderr, "%s of %s is not there\n", name, library);
    exit(1);
}

static void load(const char *path)
{
    static uint8_t file[1 << 20];
    FILE *stream = fopen(path, "rb");
    if (stream == NULL || fread(file, 1, sizeof file, stream) == 0)
        exit(1);
    fclose(stream);
    uint32_t head, size;
    memcpy(&head, file + 0x3c, 4);
    memcpy(&size, file + head + 24 + 56, 4);
    image = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(image, file, 1024); /* headers */
    size_t sections = head + 24 + half(head + 20);
    for (int i = 0; i < half(head + 6); i++) {
        size_t at = sections + 40 * (size_t)i;
        uint32_t room = word(at + 8), stored = word(at + 16);
        memcpy(image + word(at + 12), file + word(at + 20), stored < room ? stored : room);
    }
    uint64_t base;
    memcpy(&base, image + head + 24 + 24, 8);
    for (size_t at = word(head + 24 + 152), end = at + word(head + 24 + 156); at < end;) {
        for (size_t i = at + 8; i < at + word(at + 4); i += 2)
            if (half(i) >> 12 == 10) {
                uint8_t *place = image + word(at) + (half(i) & 0xfff);
                uint64_t value;
                memcpy(&value, place, 8);
                value += (uint64_t)image - base;
                memcpy(place, &value, 8);
            }
        at += word(at + 4);
    }
    for (size_t at = word(head + 24 + 120); at != 0 && word(at + 12) != 0; at += 20)
        for (size_t i = word(at + 16); word(i) != 0; i += 8) {
            void *address = provided((char *)image + word(at + 12), (char *)image + word(i) + 2);
            memcpy(image + i, &address, 8);
        }
}

static void *exported(const char *name)
{
    uint32_t head = word(0x3c), at = word(head + 24 + 112);
    for (uint32_t i = 0; i < word(at + 24); i++)
        if (!strcmp((char *)image + word(word(at + 32) + 4 * i), name))
            return image + word(word(at + 28) + 4 * half(word(at + 36) + 2 * i));
    exit(1);
}

int main(void)
{
    load("f.dll");
    int32_t (*WINDOWS f)(const float *, const float *, float, int64_t, float *, void *) =
        exported("f");
    int64_t (*WINDOWS size)(int64_t) = exported("f_workspace");
    const char *(*WINDOWS message)(int32_t, void *) = exported("f_message");
    enum { ROWS = 100, COLUMNS = 10 };
    static float x[ROWS * COLUMNS], w[COLUMNS * COLUMNS], y[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++)
        x[i] = (float)i;
    for (int i = 0; i < COLUMNS * COLUMNS; i++)
        w[i] = (float)i / 100;
    void *workspace = malloc((size_t)size(ROWS));
    for (float sign = 0.25f; sign >= -0.25f; sign -= 0.5f) {
        int32_t status = f(x, w, sign, ROWS, y, workspace);
        printf("%s\n", message(status, workspace));
    }
    for (int i = 0; i < ROWS * COLUMNS; i++)
        printf("%.9g\n", y[i]);
    free(workspace);
    return 0;
}
