/* Learns from a stream of rows, one batch after the other, and says how well it would have done on
 * each before it saw the answer. The network and its Adam step were compiled by build.py; what they
 * learn is in one block of memory that this program owns. Nothing but libc and libm is needed.
 *
 *     main [STREAM [CHECKPOINT [RATE]]] */
#include <stdio.h>
#include <stdlib.h>

#include "online.h"

enum { PIXELS = 64, BATCH = 32 };

typedef struct {
    float pixels[PIXELS];
    int32_t label;
} Row;

static void *allocated(int64_t size)
{
    void *memory = malloc(size > 0 ? (size_t)size : 1);
    if (memory == NULL) {
        fputs("no memory\n", stderr);
        exit(1);
    }
    return memory;
}

static FILE *opened(const char *path, const char *mode)
{
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

/* The next rows of the stream, split into what a step takes; how many there were. */
static int64_t next_batch(FILE *stream, float *pixels, int32_t *labels)
{
    Row rows[BATCH];
    size_t count = fread(rows, sizeof *rows, BATCH, stream);
    for (size_t i = 0; i < count; i++) {
        for (int j = 0; j < PIXELS; j++)
            pixels[i * PIXELS + (size_t)j] = rows[i].pixels[j];
        labels[i] = rows[i].label;
    }
    return (int64_t)count;
}

int main(int count, char **arguments)
{
    FILE *stream = opened(count > 1 ? arguments[1] : "stream.bin", "rb");
    void *state = allocated(online_state_size());
    void *workspace = allocated(learn_workspace(BATCH));
    online_init(state);
    float rate = count > 3 ? strtof(arguments[3], NULL) : 0;
    if (rate > 0)
        online_set(state, online_variable_rate, &rate);

    float pixels[BATCH * PIXELS], loss;
    int32_t labels[BATCH], correct;
    int64_t n, seen = 0, right = 0;
    for (int turn = 1; (n = next_batch(stream, pixels, labels)) > 0; turn++) {
        int32_t status = learn(pixels, labels, n, state, &loss, &correct, workspace);
        if (status != 0) { /* the state is as it was before this batch */
            fprintf(stderr, "%s\n", learn_message(status, workspace));
            return 1;
        }
        seen += n;
        right += correct;
        if (turn % 20 == 0)
            printf("%5lld rows: loss %.4f, %.2f%% right so far\n", (long long)seen, loss,
                   100.0 * (double)right / (double)seen);
    }
    fclose(stream);
    online_get(state, online_variable_rate, &rate);
    printf("learned with a rate that fell to %.6f\n", rate);

    if (count > 2) { /* the block is all there is to keep: fread it to go on from here */
        FILE *checkpoint = opened(arguments[2], "wb");
        fwrite(state, 1, (size_t)online_state_size(), checkpoint);
        fclose(checkpoint);
    }
    free(workspace);
    free(state);
    return 0;
}
