/* The part of check_kern behind --bench, which has the tables k and ref and the random rows: each figure
 * is the median of several timings, limits are probed before. */
#ifndef KERN_BENCH_H
#define KERN_BENCH_H

static struct nn_peaks peak;

enum { ROUNDS = 9 };

/* Median nanoseconds of f. */
static double median_ns(void (*f)(void *), void *arg)
{
    int64_t ns[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        int64_t start = clock_ns();
        f(arg);
        ns[r] = clock_ns() - start;
        for (int j = r; j > 0 && ns[j] < ns[j - 1]; j--) {
            int64_t tmp = ns[j];
            ns[j] = ns[j - 1], ns[j - 1] = tmp;
        }
    }
    return (double)ns[ROUNDS / 2];
}

static void print_rates(const char *what, double macs, double of, const char *of_what, double bytes,
                        double ns)
{
    printf("%-7s %-18s", k->name, what);
    if (of > 0)
        printf(" %8.1f GMAC/s (%3.0f %% of %s)", macs / ns, 100e9 * macs / ns / of, of_what);
    printf(" %7.2f GB/s (%3.0f %% of reading)\n", bytes / ns,
           100e9 * bytes / ns / peak.read_bytes_per_s);
}

/* Products with copies of one matrix in turn, together larger than any cache. */
enum { SIDE = 2048, COPIES_MAX = 200, COPIES_BYTES = 192 << 20, TOKENS_MAX = 192 };
struct product {
    struct nn *nn;
    struct nn_mat m[COPIES_MAX];
    float *x, *y;
    int n, copies, per, at; /* tokens, matrices, those of one timing, the next */
};

static void product_open(struct product *p, struct nn *nn, uint32_t type)
{
    struct err e;
    uint8_t *src = malloc((size_t)SIDE * SIDE / quant_block(type) * quant_bytes(type));
    *p = (struct product){.nn = nn, .x = malloc(TOKENS_MAX * SIDE * 4)};
    p->y = malloc(TOKENS_MAX * SIDE * 4);
    if (!src || !p->x || !p->y || nn_reserve(nn, TOKENS_MAX, SIDE, &e)) abort();
    random_rows(src, type, (size_t)SIDE * SIDE);
    for (int i = 0; i < TOKENS_MAX * SIDE; i++) p->x[i] = uniform(1);
    if (!nn_mat_shape(&p->m[0], type, SIDE, SIDE)) abort();
    size_t bytes = nn_mat_bytes(&p->m[0]);
    while (p->copies < COPIES_MAX && (size_t)p->copies * bytes < COPIES_BYTES) {
        struct nn_mat *m = &p->m[p->copies];
        *m = p->m[0];
        m->data = aligned_alloc(64, bytes);
        if (!m->data) abort();
        if (p->copies++)
            memcpy(m->data, p->m[0].data, bytes);
        else
            nn_mat_pack(nn, m, src);
    }
    free(src);
}

static void product_close(struct product *p)
{
    for (int i = 0; i < p->copies; i++) free(p->m[i].data);
    free(p->x), free(p->y);
}

static void product_run(void *arg)
{
    struct product *p = arg;
    for (int i = 0; i < p->per; i++)
        nn_matmul(p->nn, &(struct nn_mm){.out = p->y, .w = &p->m[p->at++ % p->copies]}, 1, p->x,
                  p->n);
}

static double product_ns(struct product *p, int n)
{
    p->n = n;
    p->per = n > 64 ? 1 : 16;
    return median_ns(product_run, p) / p->per;
}

static void bench_types(struct nn *nn)
{
    struct product p;
    char what[32];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        product_open(&p, nn, types[t]);
        for (int n = 1; n <= TOKENS_MAX; n = n == 1 ? 6 : n == 6 ? 16 : n * 12) {
            const struct kern_fmt *f = p.m[0].fmt;
            double macs = (double)n * SIDE * SIDE, bytes = (double)nn_mat_bytes(&p.m[0]);
            double ns = product_ns(&p, n);
            snprintf(what, sizeof what, "gemm %s n=%d", quant_name(types[t]), n);
            if (f->bits)
                print_rates(what, macs, peak.int8_macs_per_s, "int8", bytes, ns);
            else if (f->f == KERN_BF16 && peak.bf16_macs_per_s > 0)
                print_rates(what, macs, peak.bf16_macs_per_s, "BF16", bytes, ns);
            else
                print_rates(what, macs, peak.f32_macs_per_s, "FP32", bytes, ns);
        }
        product_close(&p);
    }
}

/* The cost of a step by its tokens; the share is of what reading or int8 allow, whichever binds. */
static void bench_curve(struct nn *nn)
{
    static const uint32_t of[] = {QUANT_Q4_K, QUANT_Q6_K, QUANT_Q8_0};
    static double ns[3][65], share[3][65];
    for (int t = 0; t < 3; t++) {
        struct product p;
        product_open(&p, nn, of[t]);
        double reading = 1e9 * (double)nn_mat_bytes(&p.m[0]) / peak.read_bytes_per_s;
        for (int n = 1; n <= 64; n++) {
            double macs = 1e9 * n * SIDE * SIDE / peak.int8_macs_per_s;
            ns[t][n] = product_ns(&p, n);
            share[t][n] = (macs > reading ? macs : reading) / ns[t][n];
        }
        product_close(&p);
    }
    printf("%-7s tokens", k->name);
    for (int t = 0; t < 3; t++) printf(" %10s ns share", quant_name(of[t]));
    for (int n = 1; n <= 64; n++) {
        printf("\n%-7s %6d", k->name, n);
        for (int t = 0; t < 3; t++) printf(" %13.0f %3.0f %%", ns[t][n], 100 * share[t][n]);
    }
    printf("\n");
}

/* One thread's queries over a context of pages too long for the cache. */
enum { PAGES = 2048 };
struct attention {
    struct kern_attn a;
    uint8_t *kv;
};

static void attention_run(void *arg)
{
    struct attention *t = arg;
    size_t page = kern_page_bytes(t->a.d, KERN_KV_I16);
    for (int r = 0; r < t->a.m; r++) t->a.max[r] = -INFINITY, t->a.sum[r] = 0;
    for (int i = 0; i < PAGES; i++) {
        t->a.page = t->kv + (size_t)i * page;
        t->a.next = i + 1 < PAGES ? t->kv + (size_t)(i + 1) * page : NULL;
        k->attn(&t->a);
    }
}

static void bench_attn(int m, int d)
{
    size_t page = kern_page_bytes(d, KERN_KV_I16), n = (size_t)(m * d);
    float *out = calloc(n, 4), x[KERN_D_MAX], max[KERN_ATTN_ROWS], sum[KERN_ATTN_ROWS];
    float scale[KERN_ATTN_ROWS];
    int16_t *q = malloc((size_t)d * KERN_ATTN_ROWS * sizeof *q);
    int lo[KERN_ATTN_ROWS] = {0}, hi[KERN_ATTN_ROWS];
    struct attention t = {.kv = aligned_alloc(64, PAGES * page)};
    char what[32];
    if (!q || !out || !t.kv) abort();
    for (int i = 0; i < d; i++) x[i] = uniform(1);
    for (int i = 0; i < d * KERN_ATTN_ROWS; i += d) scale[i / d] = 0.2f * ref->to_i16(q + i, x, d);
    for (size_t i = 0; i < PAGES * KERN_PAGE; i++)
        put_key(t.kv + i / KERN_PAGE * page, d, false, (int)(i % KERN_PAGE), x, x);
    for (int r = 0; r < m; r++) hi[r] = KERN_PAGE;
    t.a = (struct kern_attn){.m = m, .d = d, .q = q, .q_scale = scale, .lo = lo, .hi = hi};
    t.a.max = max, t.a.sum = sum, t.a.out = out;
    double ns = median_ns(attention_run, &t), macs = 2.0 * m * d * KERN_PAGE * PAGES;
    snprintf(what, sizeof what, "attn m=%d d=%d", m, d);
    print_rates(what, macs, peak.int8_macs_per_s / 2, "i16", (double)page * PAGES, ns);
    free(q), free(out), free(t.kv);
}

/* Rows of activations; bytes are those of the floats, from the cache faster than reading allows. */
struct rounding {
    struct kern_act a;
    const float *x;
    int64_t cols;
};

static void rounding_run(void *arg)
{
    struct rounding *r = arg;
    for (int t = 0; t < r->a.m; t++) k->act(&r->a, t, r->x + (int64_t)t * r->cols, r->cols);
}

static void bench_act(int m, int64_t cols)
{
    size_t n = (size_t)m * (size_t)cols;
    float *x = malloc(n * 4);
    void *mem = aligned_alloc(64, (kern_act_bytes(m, cols) + 63) / 64 * 64);
    struct rounding r = {.x = x, .cols = cols};
    char what[32];
    if (!x || !mem) abort();
    for (size_t i = 0; i < n; i++) x[i] = uniform(1);
    kern_act_bind(&r.a, mem, m, cols);
    snprintf(what, sizeof what, "act %d x %ld", m, (long)cols);
    print_rates(what, 0, 0, "", 4.0 * (double)n, median_ns(rounding_run, &r));
    free(x), free(mem);
}

static int bench(const char *level, int threads, const char *only)
{
    struct nn *nn;
    struct err e;
    if (nn_open(&nn, threads, level, false, &e) || nn_probe(nn, &peak, &e)) {
        fprintf(stderr, "check_kern: %s\n", e.msg);
        return 1;
    }
    k = nn_kern(nn);
    printf("%-7s %d threads: int8 %.0f, BF16 %.0f, FP32 %.0f GMAC/s, reading %.1f GB/s\n", k->name,
           threads, peak.int8_macs_per_s * 1e-9, peak.bf16_macs_per_s * 1e-9,
           peak.f32_macs_per_s * 1e-9, peak.read_bytes_per_s * 1e-9);
    if (threads > 1 && chosen(only, "gemm")) bench_types(nn);
    if (threads > 1 && chosen(only, "curve")) bench_curve(nn);
    static const int heads[] = {1, 3, 4, 8, KERN_ATTN_ROWS}; /* of a group, decode; and a prompt */
    for (int i = 0; threads == 1 && i < 5 && chosen(only, "attn"); i++)
        for (int d = 64; d <= 256; d *= 2) bench_attn(heads[i], d);
    for (int m = 1; threads == 1 && m <= 1024 && chosen(only, "act"); m *= 32)
        bench_act(m, 2048), bench_act(m, 8192);
    nn_close(nn);
    return 0;
}

#endif
