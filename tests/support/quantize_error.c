/* The error of each quantisation type beside llama.cpp's quantiser, as a table in Markdown.
 *
 *     quantize_error LIBGGML_BASE [FOLDER ...]
 *
 * LIBGGML_BASE is the path of libggml-base.so of a llama.cpp build (bench/llama_cpp makes one). Rows: seeded normal
 * ones, heavy-tailed ones (Student's t, 3 degrees), and up to 2^21 values of the matrices of each folder of safetensors, taken
 * evenly from all of them. Error: rms of what is lost over rms of the values. Exits with 1 if ours is larger anywhere.
 */
#include "quantize.h"
#include "rng.h"
#include "safetensors.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef size_t chunk_fn(int type, const float *src, void *dst, int64_t start, int64_t rows,
                        int64_t k, const float *importance);

enum { K = 256, SEEDED = 4096, REAL = 1 << 13 }; /* rows of K values */

static const uint32_t types[] = {QUANT_Q8_0,  QUANT_Q6_K,   QUANT_Q5_K,   QUANT_Q5_1, QUANT_Q5_0,
                                 QUANT_Q4_K,  QUANT_IQ4_XS, QUANT_IQ4_NL, QUANT_Q4_1, QUANT_Q4_0,
                                 QUANT_MXFP4, QUANT_Q3_K,   QUANT_Q2_K};

struct rows {
    const char *name;
    float *x;
    size_t n;
};

static struct rows seeded(const char *name, bool heavy)
{
    struct rows r = {name, malloc(SEEDED * K * sizeof(float)), SEEDED};
    struct rng g;
    rng_init(&g, 1);
    for (size_t i = 0; r.x && i < SEEDED * K; i++) {
        double v = rng_normal(&g), s = 0;
        for (int k = 0; heavy && k < 3; k++) {
            double u = rng_normal(&g);
            s += u * u / 3;
        }
        r.x[i] = (float)(0.02 * (heavy ? v / sqrt(s) : v));
    }
    return r;
}

/* Stretches of K values, whole ones only, at equal distances over all matrices. */
static struct rows real(const char *folder)
{
    struct rows r = {folder, malloc(REAL * K * sizeof(float)), 0};
    struct safetensors *s;
    struct err e;
    size_t total = 0, seen = 0;
    if (!r.x || safetensors_open(&s, folder, &e)) {
        fprintf(stderr, "quantize_error: %s\n", r.x ? e.msg : "out of memory");
        exit(2);
    }
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < safetensors_count(s); i++) {
            const struct safetensors_tensor *t = safetensors_at(s, i);
            if (t->n_dims != 2 || t->type == QUANT_TYPE_END) continue;
            size_t size = quant_bytes(t->type), n = t->bytes / size / K;
            if (!pass) total += n;
            for (size_t k = 0; pass && k < n; k++, seen++)
                if (seen * REAL / total != (seen + 1) * REAL / total || total <= REAL)
                    if (r.n < REAL)
                        quant_row_to_f32(t->type, t->data + k * K * size, r.x + K * r.n++, K);
        }
    safetensors_close(s);
    return r;
}

static double error(const struct rows *r, uint32_t type, chunk_fn *theirs)
{
    uint8_t out[K * 4];
    float back[K];
    double lost = 0, power = 0;
    for (size_t i = 0; i < r->n; i++) {
        const float *x = r->x + i * K;
        if (theirs)
            theirs((int)type, x, out, 0, 1, K, NULL);
        else
            quantize_row(type, x, out, K);
        quant_row_to_f32(type, out, back, K);
        for (int k = 0; k < K; k++) {
            double d = (double)back[k] - (double)x[k];
            lost += d * d;
            power += (double)x[k] * (double)x[k];
        }
    }
    return sqrt(lost / power);
}

int main(int argc, char **argv)
{
    struct rows rows[16];
    int n = 0, worse = 0;
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    chunk_fn *theirs = NULL;
    if (lib) *(void **)&theirs = dlsym(lib, "ggml_quantize_chunk");
    if (!theirs || argc > 15) {
        fprintf(stderr, "usage: quantize_error LIBGGML_BASE [FOLDER ...]\n%s\n",
                lib ? "" : dlerror());
        return 2;
    }
    rows[n++] = seeded("normal", false);
    rows[n++] = seeded("heavy", true);
    for (int i = 2; i < argc; i++) rows[n++] = real(argv[i]);
    printf("| Type |");
    for (int i = 0; i < n; i++) printf(" %s | llama.cpp |", rows[i].name);
    printf("\n| --- |");
    for (int i = 0; i < 2 * n; i++) printf(" ---: |");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        printf("\n| %s |", quant_name(types[t]));
        for (int i = 0; i < n; i++) {
            double ours = error(&rows[i], types[t], NULL),
                   other = error(&rows[i], types[t], theirs);
            worse += ours > other;
            printf(" %.5f | %.5f |", ours, other);
        }
    }
    printf("\n");
    for (int i = 0; i < n; i++) free(rows[i].x);
    return worse > 0;
}
