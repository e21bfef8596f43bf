/* Products and attention against sums written out, for 1 to 4 threads, odd shapes and several sequences in
 * one call; what a row gives must not depend on the rows beside it. */
#include "nn.h"

#include "quant.h"
#include "rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rng rng;

static float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)rng_normal(&rng);
    return x;
}

static struct nn *open_nn(int threads, bool exact)
{
    struct nn *nn;
    struct err e;
    assert_int_equal(nn_open(&nn, threads, NULL, exact, &e), 0);
    assert_int_equal(nn_reserve(nn, 40, 4096, &e), 0);
    return nn;
}

/* Q8_0 rows from floats, and what they then stand for. */
static uint8_t *rows_q8(float *w, int rows, int k)
{
    uint8_t *q = malloc((size_t)(rows * k / 32) * 34), *p = q;
    for (float *x = w; x < w + rows * k; x += 32, p += 34) {
        uint16_t d = quant_f32_to_f16(0.02f);
        memcpy(p, &d, 2);
        for (int i = 0; i < 32; i++) p[2 + i] = (uint8_t)lrintf(fminf(fmaxf(x[i] * 50, -127), 127));
        quant_row_to_f32(QUANT_Q8_0, p, x, 32);
    }
    return q;
}

/* What the product spends remainders on. OUTLIERS: a column of x is far larger than the others. */
enum special { PLAIN, EXACT, OUTLIERS, TOP };

static void product(int threads, enum special special, int rows, int k, int n, bool with_bias,
                    bool add)
{
    struct nn *nn = open_nn(threads, special == EXACT);
    float *w = random_floats((size_t)(rows * k)), *x = random_floats((size_t)(n * k));
    float *bias = random_floats((size_t)rows), *y = random_floats((size_t)(n * rows));
    float *before = malloc((size_t)(n * rows) * 4);
    int wild = special == OUTLIERS ? (int)rng_below(&rng, (uint64_t)k) : -1;
    uint8_t *q = rows_q8(w, rows, k);
    struct nn_mat m;
    memcpy(before, y, (size_t)(n * rows) * 4);
    for (int t = 0; wild >= 0 && t < n; t++) x[t * k + wild] = t % 2 ? 100 : -100;
    assert_true(nn_mat_shape(&m, QUANT_Q8_0, rows, k));
    m.data = aligned_alloc(64, nn_mat_bytes(&m));
    nn_mat_pack(nn, &m, q);
    struct nn_mm mm = {.out = y, .w = &m, .bias = with_bias ? bias : NULL, .add = add};
    if (special == OUTLIERS) mm.rest = NN_REST_OUTLIERS;
    if (special == TOP) mm.rest = NN_REST_TOP;
    nn_matmul(nn, &mm, 1, x, n);
    for (int t = 0; t < n; t++) {
        double most = -INFINITY, most_size = 0;
        int top = 0;
        for (int r = 0; r < rows; r++) {
            double want =
                (with_bias ? (double)bias[r] : 0) + (add ? (double)before[t * rows + r] : 0);
            double size = 1;
            for (int i = 0; i < k; i++) {
                double v = (double)w[r * k + i] * (double)x[t * k + i];
                want += v;
                size += fabs(v) * (i == wild ? 1e-3 : 1);
            }
            double bound = (special == EXACT ? 1e-6 : 0.01) * size;
            assert_true(fabs(want - (double)y[t * rows + r]) < bound);
            if (want > most) most = want, most_size = size, top = r;
        }
        if (special == TOP) assert_true(fabs(most - (double)y[t * rows + top]) < 5e-5 * most_size);
    }
    free(w), free(x), free(bias), free(y), free(before), free(q), free(m.data);
    nn_close(nn);
}

static void products(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++)
        for (int i = 0; i < 80; i++) {
            int k = 32 * (1 + (int)rng_below(&rng, 20));
            enum special special = (enum special)(i % 4);
            int rows = 1 + (int)rng_below(&rng, special == TOP ? 900 : 100);
            product(threads, special, rows, k, 1 + (int)rng_below(&rng, 20), i & 4, i & 8);
        }
}

/* Two matrices of different types whose panels take turns give what they give apart. */
static void matrices_that_take_turns(void **state)
{
    enum { ROWS = 100, K = 288, N = 7 };
    (void)state;
    struct nn *nn = open_nn(2, false);
    float *w = random_floats(ROWS * K), *x = random_floats(N * K), y[2][N * ROWS];
    uint8_t *q = rows_q8(w, ROWS, K);
    struct nn_mat gate, up;
    uint8_t *mem[3];
    for (int turns = 0; turns < 2; turns++) {
        assert_true(nn_mat_shape(&gate, QUANT_Q8_0, ROWS, K));
        assert_true(nn_mat_shape(&up, QUANT_F32, ROWS, K));
        size_t first = nn_mat_bytes(&gate), second = nn_mat_bytes(&up);
        if (turns) {
            gate.data = mem[2] = aligned_alloc(64, first + second);
            nn_mat_take_turns(&gate, &up);
        } else {
            gate.data = mem[0] = aligned_alloc(64, first);
            up.data = mem[1] = aligned_alloc(64, second);
        }
        nn_mat_pack(nn, &gate, q);
        nn_mat_pack(nn, &up, (const uint8_t *)w);
        struct nn_mm mm = {.out = y[turns], .w = &gate, .act = NN_SILU_MUL, .up = &up};
        nn_matmul(nn, &mm, 1, x, N);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    for (int i = 0; i < 3; i++) free(mem[i]);
    free(w), free(x), free(q);
    nn_close(nn);
}

enum { HEADS = 6, KV_HEADS = 2, D = 32, PAGES = 40, SEQS = 3 };

/* One query row by the definition. keys, values: [pos][KV_HEADS][D]. */
static void attend(const float *q, const float *keys, const float *values, int pos, int head,
                   int window, float softcap, float *out)
{
    int kv = head / (HEADS / KV_HEADS), first = window && pos + 1 > window ? pos + 1 - window : 0;
    double sum = 0, acc[D] = {0};
    for (int j = first; j <= pos; j++) {
        double s = 0;
        for (int i = 0; i < D; i++) s += (double)q[i] * (double)keys[(j * KV_HEADS + kv) * D + i];
        s *= 0.25;
        if (softcap != 0) s = softcap * tanh(s / softcap);
        double p = exp(s - 30);
        sum += p;
        for (int i = 0; i < D; i++) acc[i] += p * (double)values[(j * KV_HEADS + kv) * D + i];
    }
    for (int i = 0; i < D; i++) out[i] = (float)(acc[i] / sum);
}

static void attention_of(int threads, enum kern_kv kind, int window, float softcap)
{
    static const float bound[] = {
        [KERN_KV_I16] = 6e-4f, [KERN_KV_I8] = 5e-2f, [KERN_KV_F32] = 1e-5f};
    struct nn *nn = open_nn(threads, false);
    struct nn_kv kv = {.layers = 1, .pages = PAGES, .heads = KV_HEADS, .d_head = D, .kind = kind};
    kv.data = aligned_alloc(64, nn_kv_page_bytes(&kv) * PAGES);
    int old[SEQS] = {0, 45, 90}, fresh[SEQS] = {13, 1, 20}, row = 0;
    int32_t pages[SEQS][8];
    struct nn_span spans[SEQS];
    float *keys[SEQS], *values[SEQS];
    for (int s = 0; s < SEQS; s++) {
        int n = old[s] + fresh[s];
        size_t size = (size_t)(n * KV_HEADS * D);
        keys[s] = random_floats(size), values[s] = random_floats(size);
        for (int p = 0; p < 8; p++) pages[s][p] = p * SEQS + s;
        struct nn_span before = {pages[s], 0, 0, old[s]};
        if (old[s]) nn_kv_put(nn, &kv, 0, &before, 1, keys[s], values[s], (struct nn_turn){0});
        spans[s] = (struct nn_span){pages[s], old[s], row, fresh[s]};
        row += fresh[s];
    }
    float *q = random_floats((size_t)(row * HEADS * D)),
          *out = random_floats((size_t)(row * HEADS * D));
    float *k = malloc((size_t)(row * KV_HEADS * D) * 4),
          *v = malloc((size_t)(row * KV_HEADS * D) * 4);
    for (int s = 0; s < SEQS; s++) {
        size_t at = (size_t)(spans[s].row * KV_HEADS * D), from = (size_t)(old[s] * KV_HEADS * D);
        memcpy(k + at, keys[s] + from, (size_t)(fresh[s] * KV_HEADS * D) * 4);
        memcpy(v + at, values[s] + from, (size_t)(fresh[s] * KV_HEADS * D) * 4);
    }
    nn_kv_put(nn, &kv, 0, spans, SEQS, k, v, (struct nn_turn){0});
    struct nn_attn a = {.heads = HEADS, .scale = 0.25f, .softcap = softcap, .window = window};
    nn_attention(nn, out, q, &a, &kv, 0, spans, SEQS);
    for (int s = 0; s < SEQS; s++)
        for (int i = 0; i < fresh[s]; i++)
            for (int h = 0; h < HEADS; h++) {
                size_t at = (size_t)(((spans[s].row + i) * HEADS + h) * D);
                float want[D];
                attend(q + at, keys[s], values[s], old[s] + i, h, window, softcap, want);
                for (int j = 0; j < D; j++)
                    assert_float_equal(out[at + (size_t)j], want[j], bound[kind]);
            }
    for (int s = 0; s < SEQS; s++) free(keys[s]), free(values[s]);
    free(q), free(out), free(k), free(v), free(kv.data);
    nn_close(nn);
}

/* Each row sees all of its text, also what comes after it; texts do not see each other. */
static void attention_to_the_whole_text(void **state)
{
    static const int lengths[SEQS] = {1, 33, 70};
    enum { ROWS = 1 + 33 + 70 };
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        struct nn *nn = open_nn(threads, false);
        struct nn_kv kv = {
            .layers = 1, .pages = PAGES, .heads = KV_HEADS, .d_head = D, .kind = KERN_KV_F32};
        kv.data = aligned_alloc(64, nn_kv_page_bytes(&kv) * PAGES);
        float *q = random_floats(ROWS * HEADS * D), *out = random_floats(ROWS * HEADS * D);
        float *k = random_floats(ROWS * KV_HEADS * D), *values = random_floats(ROWS * KV_HEADS * D);
        int32_t pages[SEQS][3];
        struct nn_span spans[SEQS];
        for (int s = 0, row = 0; s < SEQS; row += lengths[s++]) {
            for (int p = 0; p < 3; p++) pages[s][p] = p * SEQS + s;
            spans[s] = (struct nn_span){pages[s], 0, row, lengths[s]};
        }
        nn_kv_put(nn, &kv, 0, spans, SEQS, k, values, (struct nn_turn){0});
        struct nn_attn a = {.heads = HEADS, .scale = 0.25f, .whole = true};
        nn_attention(nn, out, q, &a, &kv, 0, spans, SEQS);
        for (int s = 0; s < SEQS; s++)
            for (int i = 0; i < lengths[s] * HEADS; i++) {
                size_t at = (size_t)(spans[s].row * HEADS + i) * D;
                size_t text = (size_t)(spans[s].row * KV_HEADS * D);
                float want[D];
                attend(q + at, k + text, values + text, lengths[s] - 1, i % HEADS, 0, 0, want);
                for (int j = 0; j < D; j++) assert_float_equal(out[at + (size_t)j], want[j], 1e-5f);
            }
        free(q), free(out), free(k), free(values), free(kv.data);
        nn_close(nn);
    }
}

static void attention(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++)
        for (int i = 0; i < 12; i++)
            attention_of(threads, (enum kern_kv)(i % 3), i / 3 & 1 ? 20 : 0, i / 3 & 2 ? 2.0f : 0);
}

/* int8 activations: rows alone and together are the same bits. */
static void rows_do_not_see_each_other(void **state)
{
    enum { ROWS = 70, K = 288, N = 15 };
    struct nn *nn = open_nn(2, false);
    float *w = random_floats(ROWS * K), *x = random_floats(N * K), together[N * ROWS], alone[ROWS];
    uint8_t *q = rows_q8(w, ROWS, K);
    struct nn_mat m;
    (void)state;
    assert_true(nn_mat_shape(&m, QUANT_Q8_0, ROWS, K));
    m.data = aligned_alloc(64, nn_mat_bytes(&m));
    nn_mat_pack(nn, &m, q);
    nn_matmul(nn, &(struct nn_mm){.out = together, .w = &m}, 1, x, N);
    for (int t = 0; t < N; t++) {
        nn_matmul(nn, &(struct nn_mm){.out = alone, .w = &m}, 1, x + t * K, 1);
        assert_memory_equal(alone, together + t * ROWS, sizeof alone);
    }
    free(w), free(x), free(q), free(m.data);
    nn_close(nn);
}

/* A matrix of random weights; with `f16` not of bytes. */
static struct nn_mat random_mat(struct nn *nn, int rows, int k, bool f16)
{
    float *w = random_floats((size_t)(rows * k));
    uint16_t *half = malloc((size_t)(rows * k) * sizeof *half);
    uint8_t *q = rows_q8(w, rows, k);
    struct nn_mat m;
    for (int i = 0; i < rows * k; i++) half[i] = quant_f32_to_f16(w[i]);
    assert_true(nn_mat_shape(&m, f16 ? QUANT_F16 : QUANT_Q8_0, rows, k));
    m.data = aligned_alloc(64, nn_mat_bytes(&m));
    nn_mat_pack(nn, &m, f16 ? (const uint8_t *)half : q);
    free(w), free(half), free(q);
    return m;
}

/* Rows normed on the way into a product, as those of a pass of its own: the same bits. */
static void rows_normed_on_the_way(void **state)
{
    enum { ROWS = 70, K = 288, N = 15 };
    (void)state;
    for (int i = 0; i < 24; i++) {
        int threads = 1 + i % 3, n = i % 8 < 4 ? 1 + i % 4 : N;
        struct nn *nn = open_nn(threads, i >= 12);
        struct nn_mat m = random_mat(nn, ROWS, K, false);
        float *x = random_floats(N * K), *by = random_floats(K), *made = malloc(N * K * sizeof *x);
        float way[N * ROWS], pass[N * ROWS];
        struct nn_in in = {.x = x, .norm = by, .eps = 1e-5f, .made = made};
        nn_matmul_of(nn, &(struct nn_mm){.out = way, .w = &m}, 1, &in, n);
        nn_rms_norm(nn, made, x, by, n, K, 1e-5f);
        nn_matmul(nn, &(struct nn_mm){.out = pass, .w = &m}, 1, made, n);
        assert_memory_equal(way, pass, (size_t)(n * ROWS) * sizeof *way);
        free(x), free(by), free(made), free(m.data);
        nn_close(nn);
    }
}

/* Outputs that are activated and multiplied on their way out, as in passes of their own: the same bits.
 * Where gate and up are not of a kind, float32 is as near as int8 lets it. */
static void outputs_joined_on_the_way(void **state)
{
    enum { ROWS = 70, K = 288, N = 15, KINDS = 4 };
    (void)state;
    for (int i = 0; i < 24 * KINDS; i++) {
        int threads = 1 + i % 3, n = i % 8 < 4 ? 1 + i % 4 : N, kind = i / 24;
        bool exact = i % 24 >= 18, mixed = kind == 3;
        struct nn *nn = open_nn(threads, exact);
        const struct kern *k = nn_kern(nn);
        struct nn_mat gate = random_mat(nn, ROWS, K, false), up = random_mat(nn, ROWS, K, mixed);
        float *x = random_floats(N * K), *bias = random_floats(ROWS);
        float way[N * ROWS], pass[N * ROWS], by[N * ROWS], sums[N * ROWS];
        struct nn_mm mm = {.out = way, .w = &gate, .bias = bias, .rest = NN_REST_OUTLIERS};
        for (int t = 0; !mixed && t < N; t++) x[t * K + 7] = t % 2 ? 100 : -100;
        mm.act = kind == 0 || mixed ? NN_SILU_MUL : kind == 1 ? NN_GELU_MUL : NN_GELU;
        if (kind != 2) mm.up = &up;
        nn_matmul(nn, &mm, 1, x, n);
        struct nn_mm alone = {.out = pass, .w = &gate, .bias = bias, .rest = NN_REST_OUTLIERS};
        nn_matmul(nn, &alone, 1, x, n);
        nn_matmul(nn, &(struct nn_mm){.out = by, .w = &up}, 1, x, n);
        memcpy(sums, pass, sizeof sums);
        if (mm.act == NN_SILU_MUL)
            k->silu_mul(pass, by, n * ROWS);
        else if (mm.up)
            k->gelu_mul(pass, by, n * ROWS);
        else
            k->gelu(pass, n * ROWS);
        for (int j = 0; mixed && !exact && j < n * ROWS; j++)
            assert_true(fabsf(way[j] - pass[j]) < 0.6f * (1 + fabsf(by[j]) + fabsf(sums[j])));
        if (!mixed || exact) assert_memory_equal(way, pass, (size_t)(n * ROWS) * sizeof *way);
        free(x), free(bias), free(gate.data), free(up.data);
        nn_close(nn);
    }
}

/* Queries and keys that are normed and rotated on the way, as those that come so: the same bits. */
static void heads_turned_on_the_way(void **state)
{
    enum { ROWS = 70 };
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        struct nn *nn = open_nn(threads, false);
        struct nn_kv kv = {.layers = 1, .pages = 3, .heads = KV_HEADS, .d_head = D};
        struct nn_span span = {(int32_t[]){2, 0, 1}, 0, 0, ROWS};
        double freq[D / 2];
        for (int i = 0; i < D / 2; i++) freq[i] = 1 / (1.0 + i);
        struct nn_rope rope = {KERN_ROPE_HALVES, D, freq, 1};
        float table[ROWS * D], *norm = random_floats(D), *v = random_floats(ROWS * KV_HEADS * D);
        float *q = random_floats(ROWS * HEADS * D), *k = random_floats(ROWS * KV_HEADS * D);
        float *out[2];
        int pos[ROWS];
        for (int i = 0; i < ROWS; i++) pos[i] = i;
        nn_rope_table(nn, &rope, table, pos, ROWS);
        struct nn_attn a = {.heads = HEADS, .scale = 0.25f, .turn = {norm, 1e-6f, &rope, table}};
        kv.data = aligned_alloc(64, nn_kv_page_bytes(&kv) * 3);
        for (int by_hand = 0; by_hand < 2; by_hand++) {
            float *keys = malloc(ROWS * KV_HEADS * D * sizeof *k);
            memcpy(keys, k, ROWS * KV_HEADS * D * sizeof *k);
            out[by_hand] = malloc(ROWS * HEADS * D * sizeof *q);
            for (int i = 0; by_hand && i < ROWS * (HEADS + KV_HEADS); i++) {
                float *x = i < ROWS * HEADS ? q + i * D : keys + (i - ROWS * HEADS) * D;
                int row = i < ROWS * HEADS ? i / HEADS : (i - ROWS * HEADS) / KV_HEADS;
                nn_kern(nn)->rms_norm(x, x, norm, D, 1e-6f);
                nn_kern(nn)->rope(x, table + row * D, D, KERN_ROPE_HALVES);
            }
            struct nn_turn turn = by_hand ? (struct nn_turn){0} : a.turn;
            nn_kv_put(nn, &kv, 0, &span, 1, keys, v, turn);
            a.turn = turn;
            nn_attention(nn, out[by_hand], q, &a, &kv, 0, &span, 1);
            free(keys);
        }
        assert_memory_equal(out[0], out[1], ROWS * HEADS * D * sizeof *q);
        free(norm), free(v), free(q), free(k), free(out[0]), free(out[1]), free(kv.data);
        nn_close(nn);
    }
}

static void shapes_that_do_not_fit_are_refused(void **state)
{
    struct nn_mat m;
    (void)state;
    assert_false(nn_mat_shape(&m, QUANT_Q4_K, 32, 288));
    assert_false(nn_mat_shape(&m, QUANT_Q8_0, 32, 33));
    assert_false(nn_mat_shape(&m, 17, 32, 256));
    assert_false(nn_mat_shape(&m, QUANT_TYPE_END, 32, 256));
    assert_false(nn_mat_shape(&m, QUANT_F32, 0, 256));
    assert_true(nn_mat_shape(&m, QUANT_F32, 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(matrices_that_take_turns),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_to_the_whole_text),
        cmocka_unit_test(rows_do_not_see_each_other),
        cmocka_unit_test(rows_normed_on_the_way),
        cmocka_unit_test(outputs_joined_on_the_way),
        cmocka_unit_test(heads_turned_on_the_way),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
    };
    rng_init(&rng, 3);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
