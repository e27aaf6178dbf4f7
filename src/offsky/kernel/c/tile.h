/* What both averages (clip.c, average.c) share that is of no precision: how wide a
 * tile is, the sums of one, and how results and flags are stored.
 */
#ifndef OFFSKY_TILE_H
#define OFFSKY_TILE_H

#include "average.h"
#include "lanes.h"

#include <float.h>
#include <math.h>
#include <string.h>

#ifndef OFFSKY_ISA
#define OFFSKY_ISA baseline
#endif
#define JOIN(a, b) a##_##b
#define EXPAND_JOIN(a, b) JOIN(a, b)
#define FOR_ISA(name) EXPAND_JOIN(name, OFFSKY_ISA)

/* Pixels in one tile: a multiple of 32, for loops without a remainder, but no power of
 * two, which would put a whole column into a few sets of the first-level cache. */
enum { WIDTH = 736 };

/* Pixels sorted side by side. */
enum { BATCH = 16 };

/* One tile's sums over the kept samples. */
struct sums {
    double sci[WIDTH], variance[WIDTH];
    int32_t n_kept[WIDTH], n_err[WIDTH];
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

/* Counts that masks made, which are as wide as doubles. */
ALWAYS_INLINE void
store_counts(i64_lanes counts, int32_t *out)
{
    for (int l = 0; l < LANES; l++)
        out[l] = (int32_t)counts[l];
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

/* Ask for what the next tile will read of a row, while this one is worked on. */
ALWAYS_INLINE void
prefetch(const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)from + i, 0, 2);
}

/* One pixel's flags of an exposure, turned back. */
ALWAYS_INLINE uint32_t
read_flag(const struct offsky_plane *plane, const uint32_t *from)
{
    return (plane->swap ? __builtin_bswap32(*from) : *from) ^ plane->flip;
}

/* A vector of them. */
ALWAYS_INLINE flags_vector
read_flags(const struct offsky_plane *plane, const uint32_t *from)
{
    flags_vector v;
    memcpy(&v, from, sizeof v);
    return (plane->swap ? swapped(v) : v) ^ plane->flip;
}

/* OR the flags of `n` exposures into those of a row; `n` and `swap` are constants. */
ALWAYS_INLINE void
or_flags(const struct offsky_plane *planes,
         size_t n,
         int swap,
         size_t start,
         size_t count,
         uint32_t *restrict dq)
{
    size_t p = 0;
    for (; p + flags_per_vector <= count; p += flags_per_vector) {
        flags_vector all;
        memcpy(&all, dq + p, sizeof all);
        for (size_t r = 0; r < n; r++) {
            flags_vector v;
            memcpy(&v, (const uint32_t *)planes[r].pixels + start + p, sizeof v);
            all |= (swap ? swapped(v) : v) ^ planes[r].flip;
        }
        memcpy(dq + p, &all, sizeof all);
    }
    for (; p < count; p++)
        for (size_t r = 0; r < n; r++)
            dq[p] |= read_flag(&planes[r], (const uint32_t *)planes[r].pixels + start + p);
}

/* The DQ of many exposures combined, a few at a time: hardware reads ahead of as many places
 * as that, not of a hundred. */
static NEVER_INLINE void
store_many_flags(const struct offsky_stack *stack, size_t start, size_t count, uint32_t *dq)
{
    enum { AT_ONCE = 4 };
    const size_t n = stack->n_exposures;
    memset(dq, 0, count * sizeof *dq);
    for (size_t r = 0; r < n;) {
        const struct offsky_plane *planes = stack->dq + r;
        size_t alike = 0; /* exposures of one byte order, all with flags */
        while (alike < AT_ONCE && r + alike < n && planes[alike].pixels &&
               planes[alike].swap == planes->swap) {
            prefetch((const uint32_t *)planes[alike].pixels + start + WIDTH,
                     WIDTH * sizeof(uint32_t));
            alike++;
        }
        if (alike == AT_ONCE && planes->swap)
            or_flags(planes, AT_ONCE, 1, start, count, dq);
        else if (alike == AT_ONCE)
            or_flags(planes, AT_ONCE, 0, start, count, dq);
        else
            for (size_t i = 0; i < alike; i++)
                or_flags(planes + i, 1, planes->swap, start, count, dq);
        r += alike ? alike : 1;
    }
}

/* The DQ of all exposures combined. */
ALWAYS_INLINE void
store_flags(const struct offsky_stack *stack, size_t start, size_t count, uint32_t *dq)
{
    enum { STEP = 2 * flags_per_vector, MANY = 12 };
    size_t p = 0;
    if (stack->n_exposures > MANY) {
        store_many_flags(stack, start, count, dq);
        return;
    }
    for (size_t r = 0; r < stack->n_exposures; r++)
        if (stack->dq[r].pixels)
            prefetch((const uint32_t *)stack->dq[r].pixels + start + WIDTH,
                     WIDTH * sizeof(uint32_t));
    for (; p + STEP <= count; p += STEP) {
        flags_vector low = {0}, high = {0};
        for (size_t r = 0; r < stack->n_exposures; r++) {
            const struct offsky_plane *plane = &stack->dq[r];
            const uint32_t *in = (const uint32_t *)plane->pixels + start + p;
            if (!plane->pixels)
                continue;
            low |= read_flags(plane, in);
            high |= read_flags(plane, in + flags_per_vector);
        }
        memcpy(dq + p, &low, sizeof low);
        memcpy(dq + p + flags_per_vector, &high, sizeof high);
    }
    for (; p < count; p++) {
        dq[p] = 0;
        for (size_t r = 0; r < stack->n_exposures; r++)
            if (stack->dq[r].pixels)
                dq[p] |= read_flag(&stack->dq[r], (const uint32_t *)stack->dq[r].pixels + start + p);
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

/* The samples kept, stored and counted. */
ALWAYS_INLINE void
store_n_kept(const struct offsky_result *result,
             size_t start,
             size_t count,
             const int32_t *n_kept,
             struct offsky_counts *counts)
{
    uint16_t *restrict out = result->n_kept + start;
    int64_t total = 0;
    for (size_t p = 0; p < count; p++) {
        out[p] = (uint16_t)n_kept[p];
        total += n_kept[p];
    }
    counts->n_samples += total;
}

/* Means from sums.  ERR of the mean is sqrt(sum of err^2) / n; a kept sample whose
 * ERR is not finite takes the mean variance of the others, which makes the sum
 * n / known times that of those known.  0 / 0 makes the NaN of a pixel without samples. */
ALWAYS_INLINE void
store_tile(const struct offsky_result *result,
           size_t start,
           size_t count,
           int errors,
           struct sums *sums,
           struct offsky_counts *counts)
{
    store_n_kept(result, start, count, sums->n_kept, counts);
    for (size_t p = 0; p < WIDTH; p++)
        sums->sci[p] /= (double)sums->n_kept[p];
    store_reals(result->sci, result->wide, start, count, sums->sci);
    if (!errors)
        return;
    int32_t estimated = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        const double n = sums->n_kept[p], known = sums->n_err[p];
        sums->variance[p] = sqrt(sums->variance[p] / (n * known));
        estimated += (known != n) & (known > 0.0);
    }
    store_reals(result->err, result->wide, start, count, sums->variance);
    counts->n_err_estimated += estimated;
}

/* The largest and the smallest normal number of either precision, the next number towards
 * another, and how far rounding to it moves a double, relatively. */
static const float f32_largest = FLT_MAX, f32_smallest = FLT_MIN;
static const double f64_largest = DBL_MAX, f64_smallest = DBL_MIN;
static const double f32_rounding = FLT_EPSILON, f64_rounding = 0.0;
#define f32_next nextafterf
#define f64_next nextafter
#define f32_sqrt sqrtf
#define f64_sqrt sqrt

/* Floats are always plain: no square of a difference of floats leaves the range
 * of doubles.  Doubles are where neither squares nor sums of them can. */
#define f32_plain(x_min, x_max) ((x_min) <= (x_max))
#define f64_plain(x_min, x_max) \
    (((x_max) - (x_min) > 1e-140) & ((x_min) > -1e150) & ((x_max) < 1e150))

#endif
