/* Sigma-clipped mean of a stack of exposures; see clip_mean.h for the contract.
 *
 * Built without floating-point contraction (-ffp-contract=off): a fused
 * multiply-add would move bounds by a rounding and with them samples that lie on
 * a bound.
 */
#include "clip_mean.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))

/* Pixels in one vector, and in one tile: a tile row is a few cache lines, enough
 * for the memory system to fetch ahead, and with 10 exposures a tile's arrays fit
 * the first-level cache. */
enum { LANES = 4, WIDTH = 64 };

typedef float f32_lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double f64_lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t i64_lanes __attribute__((vector_size(LANES * sizeof(int64_t))));

/* A sorting network: the compare-exchanges to make, in order. */
struct pair {
    uint16_t low, high;
};
struct network {
    size_t count;
    struct pair *pairs;
};

/* CLIP_NONE: nothing is to be clipped.  CLIP_UNREACHABLE: it is, but n samples
 * cannot be farther than sigma from each other's median.  CLIP_SORTED: the rest. */
struct plan {
    enum { CLIP_NONE, CLIP_UNREACHABLE, CLIP_SORTED } how;
    enum { ERR_NONE, ERR_F32, ERR_F64 } err;
    struct network network;
};

/* Arrays whose size depends on n, carved out of the caller's scratch. */
struct scratch {
    void *samples, *sorted; /* (n, WIDTH) SCI */
    void *err;              /* (n, WIDTH) ERR, float or double */
    double *column;         /* (n,) */
    struct pair *pairs;
};

/* One tile's sums over the kept samples. */
struct sums {
    double sci[WIDTH], variance[WIDTH];
    double n_kept[WIDTH], n_err[WIDTH]; /* doubles: vectors of them convert cheaply */
    uint32_t dq[WIDTH];
};

ALWAYS_INLINE uint32_t
swap32(uint32_t v)
{
    return __builtin_bswap32(v);
}

ALWAYS_INLINE uint64_t
swap64(uint64_t v)
{
    return __builtin_bswap64(v);
}

ALWAYS_INLINE float
as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

ALWAYS_INLINE double
as_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

ALWAYS_INLINE f64_lanes
splat(double value)
{
    return (f64_lanes){value, value, value, value};
}

/* v where the mask is set, +0.0 elsewhere. */
ALWAYS_INLINE f64_lanes
where(i64_lanes mask, f64_lanes v)
{
    return (f64_lanes)((i64_lanes)v & mask);
}

ALWAYS_INLINE f64_lanes
f32_read(const float *from)
{
    f32_lanes v;
    memcpy(&v, from, sizeof v);
    return __builtin_convertvector(v, f64_lanes);
}

ALWAYS_INLINE f64_lanes
f64_read(const double *from)
{
    f64_lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

ALWAYS_INLINE f64_lanes
read_err_f32(const void *from)
{
    return f32_read(from);
}

ALWAYS_INLINE f64_lanes
read_err_f64(const void *from)
{
    return f64_read(from);
}

/* Read planes into tile rows, in the machine's byte order.  What is not there (the
 * rest of a row after `count` pixels, a plane without pixels) is infinite, which
 * counts as missing like any sample that is not finite. */
#define DEFINE_LOAD_ROWS(NAME, REAL)                                                \
    ALWAYS_INLINE void NAME(const struct offsky_plane *planes, size_t n,            \
                            size_t start, size_t count, REAL *rows)                 \
    {                                                                               \
        for (size_t r = 0; r < n; r++) {                                            \
            const struct offsky_plane *plane = &planes[r];                          \
            REAL *restrict row = rows + r * WIDTH;                                  \
            size_t p = 0;                                                           \
            if (plane->pixels && plane->kind == OFFSKY_F32) {                       \
                const uint32_t *restrict in = (const uint32_t *)plane->pixels + start; \
                if (plane->swap)                                                    \
                    for (; p < count; p++)                                          \
                        row[p] = (REAL)as_float(swap32(in[p]));                     \
                else                                                                \
                    for (; p < count; p++)                                          \
                        row[p] = (REAL)as_float(in[p]);                             \
            } else if (plane->pixels) {                                             \
                const uint64_t *restrict in = (const uint64_t *)plane->pixels + start; \
                if (plane->swap)                                                    \
                    for (; p < count; p++)                                          \
                        row[p] = (REAL)as_double(swap64(in[p]));                    \
                else                                                                \
                    for (; p < count; p++)                                          \
                        row[p] = (REAL)as_double(in[p]);                            \
            }                                                                       \
            for (; p < WIDTH; p++)                                                  \
                row[p] = (REAL)HUGE_VAL;                                            \
        }                                                                           \
    }
DEFINE_LOAD_ROWS(f32_load_rows, float)
DEFINE_LOAD_ROWS(f64_load_rows, double)

ALWAYS_INLINE void
add_flags(const struct offsky_stack *stack, size_t start, size_t count, uint32_t *restrict dq)
{
    memset(dq, 0, WIDTH * sizeof *dq);
    if (!stack->dq)
        return;
    for (size_t r = 0; r < stack->n_exposures; r++) {
        if (!stack->dq[r].pixels)
            continue;
        const uint32_t *restrict in = (const uint32_t *)stack->dq[r].pixels + start;
        const uint32_t flip = stack->dq[r].flip;
        if (stack->dq[r].swap)
            for (size_t p = 0; p < count; p++)
                dq[p] |= swap32(in[p]) ^ flip;
        else
            for (size_t p = 0; p < count; p++)
                dq[p] |= in[p] ^ flip;
    }
}

/* Means from sums.  ERR of the mean is sqrt(sum of err^2) / n; a kept sample whose
 * ERR is not finite takes the mean variance of the others.  0 / 0 makes the NaN of
 * a pixel without samples. */
#define DEFINE_STORE(NAME, REAL)                                                    \
    ALWAYS_INLINE void NAME(const struct offsky_result *result, size_t start,       \
                            size_t count, const struct sums *sums)                  \
    {                                                                               \
        REAL *restrict sci = (REAL *)result->sci + start;                           \
        REAL *restrict err = (REAL *)result->err + start;                           \
        int32_t estimated = 0;                                                      \
        for (size_t p = 0; p < count; p++)                                          \
            sci[p] = (REAL)(sums->sci[p] / sums->n_kept[p]);                        \
        if (!result->err)                                                           \
            return;                                                                 \
        for (size_t p = 0; p < count; p++) {                                        \
            const double n = sums->n_kept[p], known = sums->n_err[p];               \
            err[p] = (REAL)(sqrt(sums->variance[p] * (n / known)) / n);             \
            estimated += (known != n) & (known > 0.0);                               \
        }                                                                           \
        *result->n_err_estimated += estimated;                                      \
    }
DEFINE_STORE(f32_store, float)
DEFINE_STORE(f64_store, double)

ALWAYS_INLINE void
store_tile(const struct offsky_result *result, size_t start, size_t count, const struct sums *sums)
{
    if (result->wide)
        f64_store(result, start, count, sums);
    else
        f32_store(result, start, count, sums);
    uint16_t *restrict n_kept = result->n_kept + start;
    for (size_t p = 0; p < count; p++)
        n_kept[p] = (uint16_t)(int32_t)sums->n_kept[p];
    if (result->dq)
        memcpy(result->dq + start, sums->dq, count * sizeof *sums->dq);
}

#include "clip_column.h"

/* Floats are always plain: no square of a difference of floats leaves the range
 * of doubles.  Doubles are where neither squares nor sums of them can. */
#define f32_plain(x_min, x_max) ((x_min) <= (x_max))
#define f64_plain(x_min, x_max) (((x_max) - (x_min) > 1e-140) & ((x_min) > -1e150) & ((x_max) < 1e150))

#define SAMPLE float
#define SAMPLE_MAX FLT_MAX
#define NAME(name) f32_##name
#include "clip_tile.h"
#undef SAMPLE
#undef SAMPLE_MAX
#undef NAME

#define SAMPLE double
#define SAMPLE_MAX DBL_MAX
#define NAME(name) f64_##name
#include "clip_tile.h"

static int
any_wide(const struct offsky_plane *planes, size_t n)
{
    for (size_t r = 0; r < n; r++)
        if (planes[r].pixels && planes[r].kind == OFFSKY_F64)
            return 1;
    return 0;
}

/* Batcher's odd-even merge sort of n (Knuth, The Art of Computer Programming 3,
 * 5.2.2, algorithm M); `pairs` NULL to count only. */
static size_t
make_network(size_t n, struct pair *pairs)
{
    size_t count = 0;
    for (size_t merge = 1; merge < n; merge *= 2)
        for (size_t apart = merge; apart >= 1; apart /= 2)
            for (size_t block = apart % merge; block + apart < n; block += 2 * apart)
                for (size_t i = block; i < block + apart && i + apart < n; i++)
                    if (i / (2 * merge) == (i + apart) / (2 * merge)) {
                        if (pairs)
                            pairs[count] = (struct pair){(uint16_t)i, (uint16_t)(i + apart)};
                        count++;
                    }
    return count;
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
carve(struct scratch *s, char *memory, size_t n, size_t sci_bytes, size_t err_bytes, size_t n_pairs)
{
    size_t used = 0;
#define TAKE(member, bytes)                                                         \
    do {                                                                            \
        s->member = memory ? (void *)(memory + used) : NULL;                        \
        used += ((bytes) + 63) / 64 * 64;                                           \
    } while (0)
    TAKE(samples, n * WIDTH * sci_bytes);
    TAKE(sorted, n * WIDTH * sci_bytes);
    TAKE(err, n * WIDTH * err_bytes);
    TAKE(column, n * sizeof(double));
    TAKE(pairs, n_pairs * sizeof(struct pair));
#undef TAKE
    return used;
}

static struct plan
make_plan(const struct offsky_stack *stack, const struct offsky_clip *clip)
{
    const size_t n = stack->n_exposures;
    struct plan plan = {CLIP_NONE, ERR_NONE, {0, NULL}};
    if (stack->err)
        plan.err = any_wide(stack->err, n) ? ERR_F64 : ERR_F32;
    if (clip->maxiters == 0 || n == 1)
        return plan;
    /* One of n samples is at most n / sqrt(n - 1) standard deviations from their
     * median, and from that of fewer samples less.  The margin is for rounding. */
    const double farthest = (double)n / sqrt((double)n - 1.0);
    plan.how = farthest * (1.0 + 1e-9) < clip->sigma ? CLIP_UNREACHABLE : CLIP_SORTED;
    return plan;
}

static size_t
lay_out(struct scratch *s, void *memory, const struct offsky_stack *stack)
{
    const size_t n = stack->n_exposures;
    return carve(s, memory, n,
                 any_wide(stack->sci, n) ? sizeof(double) : sizeof(float),
                 !stack->err                ? 0
                 : any_wide(stack->err, n) ? sizeof(double)
                                           : sizeof(float),
                 make_network(n, NULL));
}

size_t
offsky_scratch_bytes(const struct offsky_stack *stack)
{
    struct scratch s;
    return lay_out(&s, NULL, stack);
}

#define DEFINE_AVERAGE(NAME, TILE)                                                  \
    static void NAME(const struct offsky_stack *stack,                    \
                               const struct offsky_clip *clip,                      \
                               const struct plan *plan, size_t first, size_t last,  \
                               const struct offsky_result *result,                  \
                               const struct scratch *s)                             \
    {                                                                               \
        size_t start = first;                                                       \
        for (; start + WIDTH <= last; start += WIDTH)                               \
            TILE(stack, clip, plan, start, WIDTH, result, s);                       \
        if (start < last)                                                           \
            TILE(stack, clip, plan, start, last - start, result, s);                \
    }
DEFINE_AVERAGE(f32_average, f32_average_tile)
DEFINE_AVERAGE(f64_average, f64_average_tile)

void
offsky_clip_mean(const struct offsky_stack *stack, const struct offsky_clip *clip,
                 size_t first, size_t last, const struct offsky_result *result,
                 void *memory)
{
    struct scratch s;
    lay_out(&s, memory, stack);
    struct plan plan = make_plan(stack, clip);
    if (plan.how == CLIP_SORTED) {
        plan.network.pairs = s.pairs;
        plan.network.count = make_network(stack->n_exposures, s.pairs);
    }
    if (any_wide(stack->sci, stack->n_exposures))
        f64_average(stack, clip, &plan, first, last, result, &s);
    else
        f32_average(stack, clip, &plan, first, last, result, &s);
}
