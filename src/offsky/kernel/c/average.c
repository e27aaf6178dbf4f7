/* Average of a stack of exposures by any of the options; see average.h for the contract.
 *
 * Built as clip.c is: for each instruction set, without contraction.  What the plain clip
 * can do goes there.  The tiles are the same too; but here rejection comes first and sums
 * after it, since not all methods need the mean to reject.
 */
#include "tile.h"

#include "clip.h"
#include "column.h"
#include "reject_column.h"

/* What rejection by the others of a pixel needs of the exposures, and room for LANES pixels. */
struct depths {
    double *inverse, *weights;         /* (n,): the stack's */
    double *f64_inverse, *f64_weights; /* (n,): for tiles */
    float *f32_inverse, *f32_weights;
    double largest_weight;
    f64_lanes *x, *scaled; /* (n,): samples and ERR */
    double *column;        /* (n,) */
};

/* Arrays whose size depends on n, carved out of the caller's scratch. */
struct average_scratch {
    void *samples, *errors; /* (n, WIDTH), NaN where missing */
    void *sorted;           /* (n, WIDTH), or (n, BATCH) */
    uint32_t *flags;        /* (n, WIDTH) */
    double *columns;        /* (BATCH, n + LANES), infinite where missing */
    double *in_order;       /* (n,) */
    struct depths depths;
};

/* Where rejection by the others tells what it rejects of a tile, which begins at `start`; the
 * bounds are those of struct offsky_marks. */
struct trace {
    const struct offsky_marks *marks;
    size_t start;
    float least_mean[WIDTH], least_error[WIDTH], most_mean[WIDTH], most_error[WIDTH];
};

/* The last float below, or the first above, what is a rounded number. */
enum { ULPS = 4 };
ALWAYS_INLINE float
lower_bound(float x)
{
    const float bound = x - (float)ULPS * FLT_EPSILON * fabsf(x);
    return bound < HUGE_VALF ? bound : -HUGE_VALF;
}

ALWAYS_INLINE float
upper_bound(float x)
{
    const float bound = x + (float)ULPS * FLT_EPSILON * fabsf(x);
    return bound > -HUGE_VALF ? bound : HUGE_VALF;
}

ALWAYS_INLINE void
mark_rejected(const struct trace *t, size_t exposure, size_t place)
{
    const struct offsky_marks *m = t->marks;
    const size_t pixel = t->start + place, row = pixel / m->nx + m->offset, column = pixel % m->nx;
    m->bits[(exposure * m->n_rows + row) * m->words + column / 64] |= UINT64_C(1) << column % 64;
}

/* Store the bounds of `count` pixels. */
ALWAYS_INLINE void
end_trace(const struct trace *t, size_t count)
{
    const size_t size = t->marks->n_rows * t->marks->nx;
    float *to = t->marks->bounds + t->marks->offset * t->marks->nx + t->start;
    memcpy(to, t->least_mean, count * sizeof *to);
    memcpy(to + size, t->least_error, count * sizeof *to);
    memcpy(to + 2 * size, t->most_mean, count * sizeof *to);
    memcpy(to + 3 * size, t->most_error, count * sizeof *to);
}

/* How exposures compare in rejection by the others; see average.h.  Weights of one precision
 * are relative to the largest. */
static void
fill_depths(struct depths *d, const struct offsky_stack *stack)
{
    const size_t n = stack->n_exposures;
    double largest = 0.0;
    for (size_t r = 0; r < n; r++) {
        d->inverse[r] = stack->depths ? stack->depths[r] : 1.0;
        d->weights[r] = stack->depths ? stack->depths[n + r] : 1.0;
        largest = d->weights[r] > largest ? d->weights[r] : largest;
    }
    d->largest_weight = largest;
    for (size_t r = 0; r < n; r++) {
        d->f64_inverse[r] = d->inverse[r];
        d->f64_weights[r] = d->weights[r] / largest;
        d->f32_inverse[r] = (float)d->inverse[r];
        d->f32_weights[r] = (float)d->f64_weights[r];
    }
}

/* One tile's sums over the kept samples; where they have weights w, values times w,
 * variances times w^2, w, w^2, and w^2 of those whose variance is known. */
struct weighted {
    struct sums sums;
    double weight[WIDTH], square[WIDTH], known_square[WIDTH];
};

/* The flags of a tile, turned back; 0 where missing. */
static NEVER_INLINE void
load_flags(const struct offsky_stack *stack, size_t start, size_t count, uint32_t *flags)
{
    for (size_t r = 0; r < stack->n_exposures; r++) {
        const struct offsky_plane copy = stack->dq[r], *plane = &copy; /* rows do not alias it */
        uint32_t *restrict row = flags + r * WIDTH;
        size_t p = 0;
        if (plane->pixels) {
            const uint32_t *in = (const uint32_t *)plane->pixels + start;
            prefetch(in + WIDTH, WIDTH * sizeof *in);
            for (; p < count; p++)
                row[p] = read_flag(plane, in + p);
        }
        memset(row + p, 0, (WIDTH - p) * sizeof *row);
    }
}

/* Whether an exposure reaches a pixel. */
ALWAYS_INLINE int
reaches(const struct offsky_plane *covers, size_t r, size_t pixel)
{
    return !covers || !covers[r].pixels || ((const unsigned char *)covers[r].pixels)[pixel];
}

/* The flags that all exposures have which reach a pixel. */
static NEVER_INLINE void
and_of_covering(const struct offsky_plane *covers,
                const uint32_t *flags,
                size_t n,
                size_t start,
                size_t count,
                uint32_t *restrict dq)
{
    uint32_t any[WIDTH] = {0};
    memset(dq, 0xff, WIDTH * sizeof *dq);
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < count; p++) {
            const uint32_t there = reaches(covers, r, start + p) ? ~UINT32_C(0) : 0;
            dq[p] &= flags[r * WIDTH + p] | ~there;
            any[p] |= there;
        }
    for (size_t p = 0; p < count; p++)
        dq[p] &= any[p];
}

/* DO_NOT_USE where too many of the exposures that reach a pixel are bad. */
static NEVER_INLINE void
flag_bad(const struct offsky_plane *covers,
         const uint32_t *flags,
         size_t n,
         const struct offsky_rule *rule,
         size_t start,
         size_t count,
         uint32_t *restrict dq)
{
    enum { DO_NOT_USE = 1 };
    int32_t n_bad[WIDTH] = {0}, n_covering[WIDTH] = {0};
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < count; p++) {
            const int there = reaches(covers, r, start + p);
            n_bad[p] += there & ((flags[r * WIDTH + p] & rule->bad_bits) != 0);
            n_covering[p] += there;
        }
    for (size_t p = 0; p < count; p++)
        if ((double)n_bad[p] > rule->bad_fraction * (double)n_covering[p])
            dq[p] |= DO_NOT_USE;
}

/* Means from sums.  0 / 0 makes the NaN of a pixel without samples. */
ALWAYS_INLINE void
divide_by_weights(struct weighted *w, const double *weights)
{
    for (size_t p = 0; p < WIDTH; p++)
        w->sums.sci[p] /= weights ? w->weight[p] : (double)w->sums.n_kept[p];
}

/* Turn sums of variances into those of the average, or into errors; returns how many are
 * estimated.  See store_tile() for a kept sample whose variance is unknown. */
static NEVER_INLINE int64_t
variances_of_averages(struct weighted *w, const struct offsky_stack *stack, int to_error)
{
    struct sums *sums = &w->sums;
    int32_t estimated = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        const double n = sums->n_kept[p], known = sums->n_err[p];
        estimated += (known != n) & (known > 0.0);
    }
    if (stack->weights)
        for (size_t p = 0; p < WIDTH; p++)
            sums->variance[p] = sums->variance[p] * w->square[p] /
                                (w->known_square[p] * (w->weight[p] * w->weight[p]));
    else
        for (size_t p = 0; p < WIDTH; p++)
            sums->variance[p] /= (double)sums->n_kept[p] * (double)sums->n_err[p];
    if (to_error)
        for (size_t p = 0; p < WIDTH; p++)
            sums->variance[p] = sqrt(sums->variance[p]);
    for (size_t p = 0; stack->median_factors && p < WIDTH; p++) {
        const double factor = stack->median_factors[sums->n_kept[p]];
        sums->variance[p] *= factor;
        if (!to_error)
            sums->variance[p] *= factor;
    }
    return estimated;
}

#define SAMPLE float
#define SAMPLE_BITS int32_t
#define NAME(name) f32_##name
#include "tile_rows.h"
#include "sort_tile.h"
#include "mad_tile.h"
#include "leave_out_tile.h"
#include "reject_tile.h"
#include "average_tile.h"
#undef SAMPLE
#undef SAMPLE_BITS
#undef NAME

#define SAMPLE double
#define SAMPLE_BITS int64_t
#define NAME(name) f64_##name
#include "tile_rows.h"
#include "sort_tile.h"
#include "mad_tile.h"
#include "leave_out_tile.h"
#include "reject_tile.h"
#include "average_tile.h"

/* Whether tiles are to be of doubles: the widest input decides. */
static int
any_wide(const struct offsky_stack *stack)
{
    const struct offsky_plane *kinds[] = {
        stack->sci, stack->err, stack->variances[0], stack->variances[1],
    };
    return any_f64(kinds, sizeof kinds / sizeof *kinds, stack->n_exposures);
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
lay_out(struct average_scratch *s, char *memory, const struct offsky_stack *stack)
{
    const size_t n = stack->n_exposures;
    const size_t real = any_wide(stack) ? sizeof(double) : sizeof(float);
    size_t used = 0;
    TAKE(samples, n * WIDTH * real);
    TAKE(errors, n * WIDTH * real);
    TAKE(sorted, n * WIDTH * real);
    TAKE(flags, n * WIDTH * sizeof(uint32_t));
    TAKE(columns, BATCH * (n + LANES) * sizeof(double));
    TAKE(in_order, n * sizeof(double));
    TAKE(depths.inverse, n * sizeof(double));
    TAKE(depths.weights, n * sizeof(double));
    TAKE(depths.f64_inverse, n * sizeof(double));
    TAKE(depths.f64_weights, n * sizeof(double));
    TAKE(depths.f32_inverse, n * sizeof(float));
    TAKE(depths.f32_weights, n * sizeof(float));
    TAKE(depths.x, n * sizeof(f64_lanes));
    TAKE(depths.scaled, n * sizeof(f64_lanes));
    TAKE(depths.column, n * sizeof(double));
    return used;
}

/* Whether the plain clip does all that is asked for; it gives the same bits, faster. */
static int
is_plain(const struct offsky_stack *stack,
         const struct offsky_rule *rule,
         const struct rejection *how,
         const struct offsky_result *result)
{
    const int clips = how->by_deviation && how->lower == how->upper && !how->about_mean &&
                      how->min_keep <= 0;
    for (int i = 0; i < 2; i++)
        if (result->variances[i] && stack->variances[i])
            return 0;
    return (clips || !rejects(how)) && !stack->weights && !stack->median_factors &&
           !result->n_groups &&
           (rule->flags == OFFSKY_OR || !stack->dq);
}

size_t
FOR_ISA(offsky_average_bytes)(const struct offsky_stack *stack,
                              const struct offsky_rule *rule,
                              const struct offsky_result *result)
{
    struct average_scratch s;
    const struct rejection how = rejection_of(rule, stack->err != NULL);
    if (is_plain(stack, rule, &how, result))
        return FOR_ISA(offsky_clip_bytes)(stack, result);
    return lay_out(&s, NULL, stack);
}

static void
average_by_rule(const struct offsky_stack *stack,
                const struct offsky_rule *rule,
                const struct rejection *how,
                size_t first,
                size_t last,
                const struct offsky_result *result,
                struct offsky_counts *counts,
                void *memory)
{
    struct average_scratch s;
    lay_out(&s, memory, stack);
    fill_depths(&s.depths, stack);
    const int wide = any_wide(stack);
    for (size_t start = first; start < last; start += WIDTH) {
        const size_t count = last - start < WIDTH ? last - start : WIDTH;
        if (wide)
            f64_average_tile(stack, rule, how, start, count, result, counts, &s);
        else
            f32_average_tile(stack, rule, how, start, count, result, counts, &s);
    }
}

/* The samples rejected so far. */
static int64_t
count_rejected(const struct offsky_stack *stack, const struct offsky_result *result)
{
    int64_t total = 0;
    for (size_t r = 0; r < stack->n_exposures; r++)
        total += result->n_rejected[r];
    return total;
}

struct offsky_counts
FOR_ISA(offsky_average)(const struct offsky_stack *stack,
                        const struct offsky_rule *rule,
                        size_t first,
                        size_t last,
                        const struct offsky_result *result,
                        void *memory)
{
    /* Every sample is kept, rejected, or left out for its flags: counted as such. */
    struct offsky_counts counts = {0, -count_rejected(stack, result)};
    const struct rejection how = rejection_of(rule, stack->err != NULL);
    const struct clip clip = {how.lower, rejects(&how) ? how.maxiters : 0};
    if (is_plain(stack, rule, &how, result))
        FOR_ISA(offsky_clip)(stack, &clip, first, last, result, &counts, memory);
    else
        average_by_rule(stack, rule, &how, first, last, result, &counts, memory);
    counts.n_samples += count_rejected(stack, result);
    return counts;
}
