/* What one would write in C, for gcc -O3 -march=native -ffast-math, which finds the vectors.

   noipa keeps loops from merging calls that give the same result. */
#include <math.h>
#include <stdint.h>
#include <time.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define KERNEL __attribute__((noipa))
#define IN const float *restrict
#define OUT float *restrict

KERNEL void fused(float a, float b, IN x, IN y, OUT out, long n) {
    for (long i = 0; i < n; i++)
        out[i] = tanhf(a * x[i] + b) * expf(-x[i] * x[i]) + sqrtf(fabsf(y[i]));
}

/* ---- over rows ------------------------------------------------------------------------------ */
static inline float largest(IN x, long columns) {
    float top = x[0];
    for (long i = 1; i < columns; i++) top = x[i] > top ? x[i] : top;
    return top;
}

/* The exponentials of a row, and their sum. */
static inline float powers(IN x, float top, OUT out, long columns) {
    float sum = 0;
    for (long i = 0; i < columns; i++) { out[i] = expf(x[i] - top); sum += out[i]; }
    return sum;
}

KERNEL void softmax(IN x, OUT out, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns, out += columns) {
        float scale = 1 / powers(x, largest(x, columns), out, columns);
        for (long i = 0; i < columns; i++) out[i] *= scale;
    }
}

KERNEL void softmax_gradient(IN x, IN dy, OUT dx, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns, dy += columns, dx += columns) {
        float scale = 1 / powers(x, largest(x, columns), dx, columns), dot = 0;
        for (long i = 0; i < columns; i++) dot += dx[i] * dy[i];
        dot *= scale;
        for (long i = 0; i < columns; i++) dx[i] *= scale * (dy[i] - dot);
    }
}

KERNEL void logsumexp(IN x, OUT out, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns) {
        float top = largest(x, columns), sum = 0;
        for (long i = 0; i < columns; i++) sum += expf(x[i] - top);
        out[r] = top + logf(sum);
    }
}

KERNEL void logsumexp_gradient(IN x, IN dy, OUT dx, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns, dx += columns) {
        float scale = dy[r] / powers(x, largest(x, columns), dx, columns);
        for (long i = 0; i < columns; i++) dx[i] *= scale;
    }
}

static inline float mean_of(IN x, long columns) {
    float sum = 0;
    for (long i = 0; i < columns; i++) sum += x[i];
    return sum / columns;
}

static inline float inverse_deviation(IN x, float mean, long columns) {
    float sum = 0;
    for (long i = 0; i < columns; i++) sum += (x[i] - mean) * (x[i] - mean);
    return 1 / sqrtf(sum / columns + 1e-5f);
}

KERNEL void layer_norm(IN x, IN scale, IN shift, OUT out, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns, out += columns) {
        float mean = mean_of(x, columns), inverse = inverse_deviation(x, mean, columns);
        for (long i = 0; i < columns; i++)
            out[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
    }
}

KERNEL void layer_norm_gradient(IN x, IN scale, IN dy, OUT dx, OUT dscale, OUT dshift, long rows,
                                long columns) {
    for (long i = 0; i < columns; i++) dscale[i] = dshift[i] = 0;
    for (long r = 0; r < rows; r++, x += columns, dy += columns, dx += columns) {
        float mean = mean_of(x, columns), inverse = inverse_deviation(x, mean, columns);
        float sum = 0, dot = 0;
        for (long i = 0; i < columns; i++) {
            float normal = (x[i] - mean) * inverse, force = dy[i] * scale[i];
            sum += force;
            dot += force * normal;
            dscale[i] += dy[i] * normal;
            dshift[i] += dy[i];
        }
        sum /= columns;
        dot /= columns;
        for (long i = 0; i < columns; i++)
            dx[i] = inverse * (dy[i] * scale[i] - sum - (x[i] - mean) * inverse * dot);
    }
}

/* ---- large vectors -------------------------------------------------------------------------- */
#if defined(__AVX512F__)
#define LANES 16
#define STREAM(to, from) _mm512_stream_ps(to, from)
typedef __m512 Lanes;
#define LOAD _mm512_loadu_ps
#define SAXPY(a, x, y) _mm512_fmadd_ps(_mm512_set1_ps(a), x, y)
#elif defined(__AVX__) && defined(__FMA__)
#define LANES 8
#define STREAM(to, from) _mm256_stream_ps(to, from)
typedef __m256 Lanes;
#define LOAD _mm256_loadu_ps
#define SAXPY(a, x, y) _mm256_fmadd_ps(_mm256_set1_ps(a), x, y)
#elif defined(__SSE2__)
#define LANES 4
#define STREAM(to, from) _mm_stream_ps(to, from)
typedef __m128 Lanes;
#define LOAD _mm_loadu_ps
#define SAXPY(a, x, y) _mm_add_ps(_mm_mul_ps(_mm_set1_ps(a), x), y)
#endif

/* Stores go past the caches: nothing reads the result soon. */
KERNEL void saxpy(float a, IN x, IN y, OUT out, long n) {
    long i = 0;
#if defined(LANES)
    for (; i < n && (uintptr_t)(out + i) % (4 * LANES); i++) out[i] = a * x[i] + y[i];
    for (; i + LANES <= n; i += LANES) STREAM(out + i, SAXPY(a, LOAD(x + i), LOAD(y + i)));
    _mm_sfence();
#endif
    for (; i < n; i++) out[i] = a * x[i] + y[i];
}

/* In blocks, whose sums are added in float64: one float32 sum of so many would be far off. */
KERNEL double dot(IN x, IN y, long n) {
    double total = 0;
    for (long start = 0; start < n; start += 4096) {
        long stop = start + 4096 < n ? start + 4096 : n;
        float sum = 0;
        for (long i = start; i < stop; i++) sum += x[i] * y[i];
        total += sum;
    }
    return total;
}

/* ---- layouts -------------------------------------------------------------------------------- */
static inline __attribute__((always_inline)) void rows_of(IN x, IN row, OUT out, long n, long m) {
    for (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++) out[i * m + j] = x[i * m + j] + row[j];
}

KERNEL void add_row(IN x, IN row, OUT out, long n, long m) { rows_of(x, row, out, n, m); }
KERNEL void add_row_3(IN x, IN row, OUT out, long n, long m) { rows_of(x, row, out, n, 3); }
KERNEL void add_row_8(IN x, IN row, OUT out, long n, long m) { rows_of(x, row, out, n, 8); }
KERNEL void add_row_32(IN x, IN row, OUT out, long n, long m) { rows_of(x, row, out, n, 32); }

KERNEL void outer(IN x, IN y, OUT out, long n, long m) {
    for (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++) out[i * m + j] = x[i] * y[j];
}

KERNEL void add(IN x, IN y, OUT out, long n) {
    for (long i = 0; i < n; i++) out[i] = x[i] + y[i];
}

KERNEL void add_nest(IN x, IN y, OUT out, long a, long b, long c, long d) {
    for (long i = 0; i < a; i++)
        for (long j = 0; j < b; j++)
            for (long k = 0; k < c; k++)
                for (long l = 0; l < d; l++) {
                    long at = ((i * b + j) * c + k) * d + l;
                    out[at] = x[at] + y[at];
                }
}

static inline __attribute__((always_inline)) void strided(IN x, IN y, OUT out, long n, long by) {
    for (long i = 0; i < n; i++) out[i] = x[i * by] + y[i];
}

KERNEL void add_strided(IN x, IN y, OUT out, long n, long stride) { strided(x, y, out, n, stride); }
KERNEL void add_strided_2(IN x, IN y, OUT out, long n, long stride) { strided(x, y, out, n, 2); }
KERNEL void add_strided_5(IN x, IN y, OUT out, long n, long stride) { strided(x, y, out, n, 5); }
KERNEL void add_strided_reverse(IN x, IN y, OUT out, long n, long stride) {
    strided(x + n - 1, y, out, n, -1);
}

/* out (n, m) is the transposed x (m, n) plus y. */
KERNEL void add_transposed(IN x, IN y, OUT out, long n, long m) {
    for (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++) out[i * m + j] = x[j * n + i] + y[i * m + j];
}

/* The same by tiles of 16 by 16, which gcc keeps in registers, in blocks of 64 by 64. */
static inline __attribute__((always_inline)) void tile(IN x, IN y, OUT out, long n, long m) {
    float turned[16][16];
    for (long j = 0; j < 16; j++)
        for (long i = 0; i < 16; i++) turned[i][j] = x[j * n + i];
    for (long i = 0; i < 16; i++)
        for (long j = 0; j < 16; j++) out[i * m + j] = turned[i][j] + y[i * m + j];
}

KERNEL void add_transposed_tiles(IN x, IN y, OUT out, long n, long m) {
    for (long top = 0; top < n; top += 64)
        for (long left = 0; left < m; left += 64)
            for (long i = top; i < top + 64; i += 16)
                for (long j = left; j < left + 64; j += 16)
                    tile(x + j * n + i, y + i * m + j, out + i * m + j, n, m);
}

/* ---- clocks --------------------------------------------------------------------------------- */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

double fused_loop(float a, float b, IN x, IN y, OUT out, long n, long count) {
    double began = now();
    for (long i = 0; i < count; i++) fused(a, b, x, y, out, n);
    return (now() - began) / count;
}

/* a*x+b on vectors of 8, for what a call costs. */
KERNEL int axb(const double *restrict a, const double *restrict x, const double *restrict b,
               double *restrict out, void *workspace) {
    for (long i = 0; i < 8; i++) out[i] = a[i] * x[i] + b[i];
    return workspace != 0;
}

typedef int (*axb_step)(const double *, const double *, const double *, double *, void *);

/* step is the address of such a function, or 0 for the one above. */
double axb_loop(uintptr_t step, const double *a, const double *x, const double *b, double *out,
                long count) {
    axb_step called = step ? (axb_step)step : axb;
    int status = 0;
    double began = now();
    for (long i = 0; i < count; i++) status |= called(a, x, b, out, 0);
    return status ? -1 : (now() - began) / count;
}
