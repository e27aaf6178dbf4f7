/* What both averages (clip_mean.c, average.c) share that is of no precision: how wide a
 * tile is, the sums of one, and how results and flags are stored.
 */
#ifndef OFFSKY_TILE_H
#define OFFSKY_TILE_H

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

/* One tile's sums over the kept samples. */
struct sums {
    double sci[WIDTH], variance[WIDTH];
    int64_t n_kept[WIDTH], n_err[WIDTH]; /* as wide as doubles: masks count in them */
};

/* For lay_out(): the next array of a scratch `s`, from `memory` (NULL to count only);
 * `used` grows by its bytes. */
#define TAKE(member, bytes)                                                         \
    do {                                                                            \
        s->member = memory ? (void *)(memory + used) : NULL;                        \
        used += ((bytes) + 63) / 64 * 64;                                           \
    } while (0)

/* Whether any plane of these kinds, each NULL or one plane an exposure, is of doubles. */
ALWAYS_INLINE int
any_f64(const struct offsky_plane *const *kinds, size_t n_kinds, size_t n_exposures)
{
    for (size_t k = 0; k < n_kinds; k++)
        for (size_t r = 0; kinds[k] && r < n_exposures; r++)
            if (kinds[k][r].kind == OFFSKY_F64)
                return 1;
    return 0;
}

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

/* Floats are always plain: no square of a difference of floats leaves the range
 * of doubles.  Doubles are where neither squares nor sums of them can. */
#define f32_plain(x_min, x_max) ((x_min) <= (x_max))
#define f64_plain(x_min, x_max) \
    (((x_max) - (x_min) > 1e-140) & ((x_min) > -1e150) & ((x_max) < 1e150))

#endif
