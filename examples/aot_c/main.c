/* Reads handwritten digits with a classifier that was trained in Python and compiled ahead of time
 * (make_digits.py): no interpreter, no stepforge, nothing but libc and libm. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 64 };

static void *allocated(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) {
        fputs("no memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void read_all(void *into, size_t size, FILE *file)
{
    if (fread(into, 1, size, file) != size) {
        fputs("the file is too short\n", stderr);
        exit(1);
    }
}

int main(int count, char **arguments)
{
    FILE *file = fopen(count > 1 ? arguments[1] : "held_out.bin", "rb");
    if (file == NULL) {
        perror("cannot read the images");
        return 1;
    }
    int64_t images = 0;
    read_all(&images, sizeof images, file);
    float *pixels = allocated((size_t)images * PIXELS * sizeof *pixels);
    int64_t *labels = allocated((size_t)images * sizeof *labels);
    int64_t *guessed = allocated((size_t)images * sizeof *guessed);
    read_all(pixels, (size_t)images * PIXELS * sizeof *pixels, file);
    read_all(labels, (size_t)images * sizeof *labels, file);
    fclose(file);

    void *workspace = allocated((size_t)predict_workspace(images));
    int32_t status = predict(pixels, images, guessed, workspace);
    if (status != 0) {
        fprintf(stderr, "%s\n", predict_message(status, workspace));
        return 1;
    }
    int64_t right = 0;
    for (int64_t i = 0; i < images; i++)
        right += guessed[i] == labels[i];
    printf("in C: %.2f%% of %lld images\n", 100.0 * (double)right / (double)images,
           (long long)images);
    free(workspace);
    free(guessed);
    free(labels);
    free(pixels);
    return 0;
}
