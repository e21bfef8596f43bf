/* check_kern's part about attention: pages against ref and against the definition, vectors to integers. */
#ifndef KERN_ATTN_H
#define KERN_ATTN_H

/* Two pages, as their keys [2][32][d] and values say; keys from `seen` on may hold anything. */
struct two_pages {
    int d;
    float *k, *v;
    void *page[2];
    size_t bytes;
};

static void put_key(void *page, int d, bool f32, int slot, const float *key, const float *value)
{
    int16_t q[KERN_D_MAX], *keys = page;
    float *scale = (float *)((char *)page + kern_page_scales(d));
    int16_t *values = (int16_t *)((char *)page + kern_page_values(d));
    for (int i = 0; f32 && i < d; i++) {
        ((float *)page)[i * KERN_PAGE + slot] = key[i];
        ((float *)page)[(KERN_PAGE + slot) * d + i] = value[i];
    }
    if (f32) return;
    scale[slot] = ref->to_i16(q, key, d);
    for (int i = 0; i < d; i++) keys[i / 2 * 2 * KERN_PAGE + 2 * slot + i % 2] = q[i];
    scale[KERN_PAGE + slot] = ref->to_i16(q, value, d);
    for (int i = 0; i < d; i++) values[slot / 2 * 2 * d + 2 * i + slot % 2] = q[i];
}

static struct two_pages two_pages(int d, bool f32, int seen)
{
    struct two_pages p = {.d = d, .bytes = kern_page_bytes(d, f32 ? KERN_KV_F32 : KERN_KV_I16)};
    size_t n = 2 * KERN_PAGE * (size_t)d;
    p.k = malloc(n * 4), p.v = malloc(n * 4);
    for (size_t i = 0; i < n; i++) p.k[i] = uniform(2), p.v[i] = uniform(2);
    for (int i = 0; i < 2; i++) {
        p.page[i] = guarded(p.bytes);
        memset(p.page[i], 0xff, p.bytes); /* NaNs */
        for (int j = 0; j < seen; j++) {
            size_t at = (size_t)(i * KERN_PAGE + j) * (size_t)d;
            put_key(p.page[i], d, f32, j, p.k + at, p.v + at);
        }
    }
    return p;
}

static void two_pages_free(struct two_pages *p)
{
    for (int i = 0; i < 2; i++) unguard(p->page[i], p->bytes);
    free(p->k), free(p->v);
}

/* Two pages in turn, so that the online rescaling is used; divided by the sum. */
static void attend(void (*attn)(const struct kern_attn *a), const struct kern_attn *a,
                   const struct two_pages *p)
{
    struct kern_attn b = *a;
    for (int r = 0; r < a->m; r++) b.max[r] = -INFINITY, b.sum[r] = 0;
    memset(b.out, 0, (size_t)(b.m * b.d) * 4);
    for (int i = 0; i < 2; i++) {
        b.page = p->page[i];
        b.next = i ? NULL : p->page[1];
        attn(&b);
    }
    for (int r = 0; r < b.m; r++)
        for (int j = 0; j < b.d && b.sum[r] > 0; j++) b.out[r * b.d + j] /= b.sum[r];
}

/* One row as it is defined, in double. */
static void attend_as_defined(float *out, const struct kern_attn *a, const struct two_pages *p,
                              int r)
{
    double sum = 0, o[KERN_D_MAX] = {0};
    for (int i = 0; i < 2; i++)
        for (int j = a->lo[r]; j < a->hi[r]; j++) {
            size_t at = (size_t)(i * KERN_PAGE + j) * (size_t)a->d;
            double s = 0;
            for (int c = 0; c < a->d; c++)
                s += (double)a->q_f32[r * a->d + c] * (double)p->k[at + (size_t)c];
            if (a->softcap != 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
            s = exp2(s); /* some sqrt(d) large */
            sum += s;
            for (int c = 0; c < a->d; c++) o[c] += s * (double)p->v[at + (size_t)c];
        }
    for (int c = 0; c < a->d; c++) out[c] = sum > 0 ? (float)(o[c] / sum) : 0;
}

static void test_attn(int m, int d, bool f32, float cap)
{
    size_t on = (size_t)(m * d), qn = (size_t)d * KERN_ATTN_ROWS;
    float *q = guarded(on * 4), *want = malloc(on * 4), *out[2], scale[24], max[24], sum[24];
    int16_t *whole = malloc((size_t)d * 2), *pairs = guarded(qn * 2);
    int lo[24], hi[24], seen = rng_u64(&rng) & 1 ? 32 : 1 + (int)rng_below(&rng, 32);
    struct two_pages p = two_pages(d, f32, seen);
    for (int r = 0; r < m; r++) {
        for (int j = 0; j < d; j++) q[r * d + j] = uniform(2);
        scale[r] = ref->to_i16(whole, q + r * d, d);
        for (int j = 0; j < d; j++) pairs[(j / 2 * KERN_ATTN_ROWS + r) * 2 + j % 2] = whole[j];
        lo[r] = (int)rng_below(&rng, 34) - 1;
        hi[r] = (int)rng_below(&rng, (uint64_t)seen + 1);
        if (lo[r] < 0 || r == 0) lo[r] = 0, hi[r] = seen;
    }
    struct kern_attn a = {.m = m, .d = d, .softcap = cap, .lo = lo, .hi = hi};
    a.q = pairs, a.q_scale = scale, a.q_f32 = q, a.max = max, a.sum = sum;
    for (int r = 0; r < m; r++) attend_as_defined(want + r * d, &a, &p, r);
    for (int i = 0; i < 2; i++) {
        const struct kern *kern = i ? k : ref;
        a.out = out[i] = output(on + 64) + 32;
        attend(f32 ? kern->attn_f32 : kern->attn, &a, &p);
    }
    /* exp2 turns the rounding of a score, some sqrt(d) large, into a relative error; a weight is rounded to
     * a part of 32767, and between levels that may fall to either side */
    double worst = distance(out[0], out[1], on, 1), off = distance(want, out[1], on, 1);
    double by_levels = 3e-7 * d + 1e-6 + (f32 ? 0 : 2e-4), by_format = f32 ? 0 : 4e-4 + 5e-5 * d;
    result(worst < by_levels, "m=%d d=%d %s: %g", m, d, f32 ? "f32" : "i16", worst);
    result(off < by_levels + by_format, "m=%d d=%d %s: off by %g", m, d, f32 ? "f32" : "i16", off);
    result(untouched(out[1] - 32, 32) && untouched(out[1] + on, 32), "writes outside its output");
    for (int r = 0; !f32 && r < m; r++) {
        struct kern_attn b = a;
        b.m = 1, b.q += 2 * r, b.q_scale += r, b.lo += r, b.hi += r, b.out = out[0];
        attend(k->attn, &b, &p);
        result(memcmp(out[0], out[1] + r * d, (size_t)d * 4) == 0, "m=%d d=%d row %d alone", m, d,
               r);
    }
    for (int i = 0; i < 2; i++) unguard(out[i] - 32, (on + 64) * 4);
    two_pages_free(&p);
    unguard(q, on * 4), unguard(pairs, qn * 2);
    free(want), free(whole);
}

/* Integers the same on each level, near their values, and so small that no product overflows. */
static void test_to_i16(int d, int kind)
{
    static const float odd[] = {0, 0x1p-61f, 0x1p-59f, 1e-30f, 1e30f, INFINITY, NAN};
    float *x = guarded((size_t)d * 4);
    int16_t *q[2] = {guarded((size_t)d * 2), guarded((size_t)d * 2)};
    double squares = 0;
    fill(x, (size_t)d);
    for (int i = 0; kind < 7 && i < d; i++) x[i] *= odd[kind];
    if (kind == 7) x[rng_below(&rng, (uint64_t)d)] = 3000;
    float a = ref->to_i16(q[0], x, d), b = k->to_i16(q[1], x, d);
    if (!isfinite(a)) { /* what the integers are then is nobody's concern */
        result(!isfinite(b), "d=%d: %g, not %g", d, (double)b, (double)a);
    } else {
        result(a == b && memcmp(q[0], q[1], (size_t)d * 2) == 0, "d=%d kind %d differs", d, kind);
        for (int i = 0; i < d; i++) {
            double off = fabs((double)q[1][i] * (double)b - (double)x[i]);
            squares += (double)q[1][i] * q[1][i];
            result(off <= 0.505 * (double)b || (b == 0 && fabsf(x[i]) < KERN_VECTOR_LEAST),
                   "d=%d: %g is off by %g", d, (double)x[i], off);
        }
        result(squares < 0x1p31, "d=%d: the product may overflow", d);
    }
    unguard(x, (size_t)d * 4), unguard(q[0], (size_t)d * 2), unguard(q[1], (size_t)d * 2);
}

/* Integers of 8 bits near those of 16, which they may not outgrow, nor a vector by more than kern.h says. */
static void test_to_i8(int d, int kind)
{
    int16_t *q = guarded((size_t)d * 2);
    int8_t *q8 = guarded((size_t)d), *want = guarded((size_t)d);
    int groups = kern_kv_groups(d), wild = (int)rng_below(&rng, (uint64_t)d);
    uint8_t *half = guarded((size_t)groups), *want_half = guarded((size_t)groups);
    double squares = 0, squares8 = 0;
    for (int i = 0; i < d; i++) {
        int most = kind == 0 ? 0 : kind == 1 ? 40 : kind == 2 && i != wild ? 140 : INT16_MAX;
        q[i] = (int16_t)((int)rng_below(&rng, 2 * (uint64_t)most + 1) - most);
        if (kind == 3) q[i] = i % 2 ? INT16_MAX : -INT16_MAX;
    }
    ref->to_i8(want, want_half, q, d);
    k->to_i8(q8, half, q, d);
    result(!memcmp(q8, want, (size_t)d) && !memcmp(half, want_half, (size_t)groups),
           "d=%d kind %d differs", d, kind);
    for (int i = 0; i < d; i++) {
        int by = 2 * half[i / KERN_KV_GROUP], is = q8[i] * by;
        squares += (double)q[i] * q[i];
        squares8 += (double)is * is;
        result(q8[i] >= -INT8_MAX && abs(is) <= INT16_MAX && 2 * abs(is - q[i]) <= by,
               "d=%d kind %d: %d becomes %d x %d", d, kind, q[i], q8[i], by);
    }
    result(sqrt(squares8) <= 1.016 * sqrt(squares) + 23, "d=%d kind %d: grows", d, kind);
    unguard(q, (size_t)d * 2), unguard(q8, (size_t)d), unguard(half, (size_t)groups);
    unguard(want, (size_t)d), unguard(want_half, (size_t)groups);
}

/* A page of any bytes becomes the same on each level. */
static void test_page_i16(int d)
{
    size_t from = kern_page_bytes(d, KERN_KV_I8), bytes = kern_page_bytes(d, KERN_KV_I16);
    uint8_t *page8 = guarded(from), *page[2] = {guarded(bytes), guarded(bytes)};
    for (size_t i = 0; i < from; i++) page8[i] = (uint8_t)rng_u64(&rng);
    ref->page_i16(page[0], page8, NULL, d);
    k->page_i16(page[1], page8, page8, d);
    result(memcmp(page[0], page[1], bytes) == 0, "d=%d: a page of 8 bits differs", d);
    unguard(page8, from), unguard(page[0], bytes), unguard(page[1], bytes);
}

/* Attention over a page of 8 bits is to the bit that over the same in 16. */
static void test_attn_i8(int m, int d)
{
    size_t from = kern_page_bytes(d, KERN_KV_I8), bytes = kern_page_bytes(d, KERN_KV_I16),
           on = (size_t)(m * d), qn = (size_t)d * KERN_ATTN_ROWS;
    uint8_t *page8 = guarded(from), *page = guarded(bytes);
    int16_t *q = guarded(qn * 2);
    float *out[2], scale[24], max[24], sum[24];
    int lo[24], hi[24];
    for (size_t i = 0; i < from; i++) page8[i] = (uint8_t)rng_u64(&rng);
    for (size_t i = 0; i < qn; i++) q[i] = (int16_t)rng_u64(&rng);
    for (int i = 0; i < 2 * KERN_PAGE; i++)
        ((float *)(page8 + kern_page8_scales(d)))[i] = 1e-9f * uniform(1);
    for (int r = 0; r < m; r++) {
        lo[r] = (int)rng_below(&rng, 16);
        hi[r] = 1 + (int)rng_below(&rng, 32);
        scale[r] = 1;
    }
    ref->page_i16(page, page8, NULL, d);
    struct kern_attn a = {.m = m, .d = d, .q = q, .q_scale = scale, .lo = lo, .hi = hi};
    a.max = max, a.sum = sum;
    for (int i = 0; i < 2; i++) {
        for (int r = 0; r < m; r++) max[r] = -INFINITY, sum[r] = 0;
        a.out = out[i] = output(on + 64) + 32;
        memset(a.out, 0, on * sizeof *a.out);
        a.page = i ? (const void *)page8 : page;
        a.next = i ? page8 : NULL;
        (i ? k->attn_i8 : k->attn)(&a);
    }
    result(memcmp(out[0], out[1], on * 4) == 0, "m=%d d=%d differ", m, d);
    result(untouched(out[1] - 32, 32) && untouched(out[1] + on, 32), "writes outside its output");
    for (int i = 0; i < 2; i++) unguard(out[i] - 32, (on + 64) * 4);
    unguard(page8, from), unguard(page, bytes), unguard(q, qn * 2);
}

#endif
