void fused(float a, float b, const float *x, const float *y, float *out, long n);
double fused_loop(float a, float b, const float *x, const float *y, float *out, long n, long count);
void softmax(const float *x, float *out, long rows, long columns);

void softmax_gradient(const float *x, const float *dy, float *dx, long rows, long columns);
void logsumexp(const float *x, float *out, long rows, long columns);
void logsumexp_gradient(const float *x, const float *dy, float *dx, long rows, long columns);
void layer_norm(const float *x, const float *scale, const float *shift, float *out, long rows,
                long columns);
void layer_norm_gradient(const float *x, const float *scale, const float *dy, float *dx,
                         float *dscale, float *dshift, long rows, long columns);

void saxpy(float a, const float *x, const float *y, float *out, long n);
double dot(const float *x, const float *y, long n);

void add_row(const float *x, const float *row, float *out, long n, long m);
void add_row_3(const float *x, const float *row, float *out, long n, long m);
void add_row_8(const float *x, const float *row, float *out, long n, long m);
void add_row_32(const float *x, const float *row, float *out, long n, long m);
void outer(const float *x, const float *y, float *out, long n, long m);
void add(const float *x, const float *y, float *out, long n);
void add_nest(const float *x, const float *y, float *out, long a, long b, long c, long d);
void add_strided(const float *x, const float *y, float *out, long n, long stride);
void add_strided_2(const float *x, const float *y, float *out, long n, long stride);
void add_strided_5(const float *x, const float *y, float *out, long n, long stride);
void add_strided_reverse(const float *x, const float *y, float *out, long n, long stride);
void add_transposed(const float *x, const float *y, float *out, long n, long m);
void add_transposed_tiles(const float *x, const float *y, float *out, long n, long m);
double axb_loop(uintptr_t step, const double *a, const double *x, const double *b, double *out,
                long count);
