/* Sigma-clipped mean of a stack of exposures; see clip_mean.h for the contract.
 *
 * Compiled once for each instruction set (OFFSKY_ISA names it); dispatch.c chooses
 * between them.  Built without floating-point contraction (-ffp-contract=off): a
 * fused multiply-add would move bounds by a rounding and with them samples that lie
 * on a bound.
 */
#include "clip_mean.h"

#include <float.h>
#include <math.h>
#include <string.h>

#ifndef OFFSKY_ISA
#define OFFSKY_ISA baseline
#endif
#define JOIN(a, b) a##_##b
#define EXPAND_JOIN(a, b) JOIN(a, b)
#define FOR_ISA(name) EXPAND_JOIN(name, OFFSKY_ISA)

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))

/* Doubles in one vector: what a register holds, as gcc spills wider vectors. */
#ifdef __AVX__
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif
typedef double f64_lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t i64_lanes __attribute__((vector_size(LANES * sizeof(int64_t))));

/* Pixels in one tile: a multiple of 32, for loops without a remainder, but no power of
 * two, which would put a whole column into a few sets of the first-level cache. */
enum { WIDTH = 160 };

/* Pixels sorted side by side. */
enum { BATCH = 16 };

/* Arrays whose size depends on n, carved out of the caller's scratch. */
struct scratch {
    void *samples, *errors; /* (n, WIDTH), NaN where missing */
    void *sorted;           /* (n, BATCH) */
    double *column;         /* (n,) */
};

/* One tile's sums over the kept samples. */
struct sums {
    double sci[WIDTH], variance[WIDTH];
    int64_t n_kept[WIDTH], n_err[WIDTH]; /* as wide as doubles: masks count in them */
};

/* v where the mask is set, +0.0 elsewhere. */
ALWAYS_INLINE f64_lanes
where(i64_lanes mask, f64_lanes v)
{
    return (f64_lanes)((i64_lanes)v & mask);
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

/* The DQ of all exposures combined. */
ALWAYS_INLINE void
store_flags(const struct offsky_stack *stack, size_t start, size_t count, uint32_t *restrict dq)
{
    memset(dq, 0, count * sizeof *dq);
    for (size_t r = 0; stack->dq && r < stack->n_exposures; r++) {
        if (!stack->dq[r].pixels)
            continue;
        const uint32_t *restrict in = (const uint32_t *)stack->dq[r].pixels + start;
        const uint32_t flip = stack->dq[r].flip;
        if (stack->dq[r].swap)
            for (size_t p = 0; p < count; p++)
                dq[p] |= __builtin_bswap32(in[p]) ^ flip;
        else
            for (size_t p = 0; p < count; p++)
                dq[p] |= in[p] ^ flip;
    }
}

ALWAYS_INLINE void
store_reals(void *out, int wide, size_t start, size_t count, const double *values)
{
    float *restrict narrow = (float *)out + start;
    if (wide)
        memcpy((double *)out + start, values, count * sizeof *values);
    else
        for (size_t p = 0; p < count; p++)
            narrow[p] = (float)values[p];
}

/* Means from sums.  ERR of the mean is sqrt(sum of err^2) / n; a kept sample whose
 * ERR is not finite takes the mean variance of the others, which makes the sum
 * n / known times that of those known.  0 / 0 makes the NaN of a pixel without samples. */
ALWAYS_INLINE void
store_tile(const struct offsky_result *result, size_t start, size_t count, struct sums *sums)
{
    uint16_t *restrict n_kept = result->n_kept + start;
    for (size_t p = 0; p < count; p++)
        n_kept[p] = (uint16_t)sums->n_kept[p];
    for (size_t p = 0; p < WIDTH; p++)
        sums->sci[p] /= (double)(int32_t)sums->n_kept[p];
    store_reals(result->sci, result->wide, start, count, sums->sci);
    if (!result->err)
        return;
    int32_t estimated = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        const double n = (int32_t)sums->n_kept[p], known = (int32_t)sums->n_err[p];
        sums->variance[p] = sqrt(sums->variance[p] / (n * known));
        estimated += (known != n) & (known > 0.0);
    }
    store_reals(result->err, result->wide, start, count, sums->variance);
    *result->n_err_estimated += estimated;
}

#include "clip_column.h"

/* Floats are always plain: no square of a difference of floats leaves the range
 * of doubles.  Doubles are where neither squares nor sums of them can. */
#define f32_plain(x_min, x_max) ((x_min) <= (x_max))
#define f64_plain(x_min, x_max) \
    (((x_max) - (x_min) > 1e-140) & ((x_min) > -1e150) & ((x_max) < 1e150))

#define SAMPLE float
#define SAMPLE_BITS int32_t
#define NAME(name) f32_##name
#include "clip_tile.h"
#undef SAMPLE
#undef SAMPLE_BITS
#undef NAME

#define SAMPLE double
#define SAMPLE_BITS int64_t
#define NAME(name) f64_##name
#include "clip_tile.h"

/* How far, in standard deviations, one of n >= 2 samples can be from their median; see
 * largest_deviation() in clip.py. */
static double
largest_deviation(size_t n)
{
    const double together = (double)(n / 2 + 1);
    return n == 2 ? 1.0 : sqrt((double)n * (together + 1.0) / together);
}

/* Whether tiles are to be of doubles: the widest of SCI and ERR decides. */
static int
any_wide(const struct offsky_stack *stack)
{
    for (size_t r = 0; r < stack->n_exposures; r++)
        if (stack->sci[r].kind == OFFSKY_F64 || (stack->err && stack->err[r].kind == OFFSKY_F64))
            return 1;
    return 0;
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
lay_out(struct scratch *s, char *memory, const struct offsky_stack *stack)
{
    const size_t n = stack->n_exposures;
    const size_t real = any_wide(stack) ? sizeof(double) : sizeof(float);
    size_t used = 0;
#define TAKE(member, bytes)                                                         \
    do {                                                                            \
        s->member = memory ? (void *)(memory + used) : NULL;                        \
        used += ((bytes) + 63) / 64 * 64;                                           \
    } while (0)
    TAKE(samples, n * WIDTH * real);
    TAKE(errors, stack->err ? n * WIDTH * real : 0);
    TAKE(sorted, n * BATCH * real);
    TAKE(column, n * sizeof(double));
#undef TAKE
    return used;
}

size_t
FOR_ISA(offsky_scratch_bytes)(const struct offsky_stack *stack)
{
    struct scratch s;
    return lay_out(&s, NULL, stack);
}

void
FOR_ISA(offsky_clip_mean)(const struct offsky_stack *stack,
                          const struct offsky_clip *clip,
                          size_t first,
                          size_t last,
                          const struct offsky_result *result,
                          void *memory)
{
    struct scratch s;
    lay_out(&s, memory, stack);
    const int wide = any_wide(stack);
    /* Where none of so many samples, and so none of fewer, can be as far as sigma from
     * the median, nothing is ever rejected.  The margin is for rounding; doubles may
     * under- or overflow. */
    const int clips =
        clip->maxiters != 0 && stack->n_exposures > 1 &&
        (wide || largest_deviation(stack->n_exposures) * (1.0 + 1e-9) >= clip->sigma);
    for (size_t start = first; start < last; start += WIDTH) {
        const size_t count = last - start < WIDTH ? last - start : WIDTH;
        if (wide)
            f64_average_tile(stack, clips ? clip : NULL, start, count, result, &s);
        else
            f32_average_tile(stack, clips ? clip : NULL, start, count, result, &s);
    }
}
