/* Sigma-clipped mean of a stack of exposures; see clip.h.
 *
 * Compiled once for each instruction set (OFFSKY_ISA names it), as average.c.  Built
 * without floating-point contraction (-ffp-contract=off): a fused multiply-add would move
 * bounds by a rounding and with them samples that lie on a bound.
 */
#include "clip.h"

#include "column.h"

/* Arrays whose size depends on n, carved out of the caller's scratch. */
struct scratch {
    void *samples, *errors;        /* (n, WIDTH), NaN where missing */
    void *columns, *column_errors; /* (n, BATCH): of open pixels */
    void *sorted;                  /* (n, BATCH) */
    double *in_order;              /* (n,) */
};

#define SAMPLE float
#define SAMPLE_BITS int32_t
#define NAME(name) f32_##name
#include "tile_rows.h"
#include "clip_batch.h"
#include "clip_tile.h"
#undef SAMPLE
#undef SAMPLE_BITS
#undef NAME

#define SAMPLE double
#define SAMPLE_BITS int64_t
#define NAME(name) f64_##name
#include "tile_rows.h"
#include "clip_batch.h"
#include "clip_tile.h"

/* How far, in standard deviations, one of n >= 2 samples can be from their median; see
 * largest_deviation() in combine/rule.py. */
static double
largest_deviation(size_t n)
{
    const double together = (double)(n / 2 + 1);
    return n == 2 ? 1.0 : sqrt((double)n * (together + 1.0) / together);
}

/* ERR of the stack, where that of the result is wanted. */
static const struct offsky_plane *
errors_for(const struct offsky_stack *stack, const struct offsky_result *result)
{
    return result->err ? stack->err : NULL;
}

/* Whether tiles are to be of doubles: the widest of SCI and ERR decides. */
static int
any_wide(const struct offsky_stack *stack, const struct offsky_result *result)
{
    const struct offsky_plane *kinds[] = {stack->sci, errors_for(stack, result)};
    return any_f64(kinds, sizeof kinds / sizeof *kinds, stack->n_exposures);
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
lay_out(struct scratch *s,
        char *memory,
        const struct offsky_stack *stack,
        const struct offsky_result *result)
{
    const size_t n = stack->n_exposures;
    const size_t real = any_wide(stack, result) ? sizeof(double) : sizeof(float);
    const int errors = errors_for(stack, result) != NULL;
    size_t used = 0;
    TAKE(samples, n * WIDTH * real);
    TAKE(errors, errors ? n * WIDTH * real : 0);
    TAKE(columns, n * BATCH * real);
    TAKE(column_errors, errors ? n * BATCH * real : 0);
    TAKE(sorted, n * BATCH * real);
    TAKE(in_order, n * sizeof(double));
    return used;
}

size_t
FOR_ISA(offsky_clip_bytes)(const struct offsky_stack *stack, const struct offsky_result *result)
{
    struct scratch s;
    return lay_out(&s, NULL, stack, result);
}

void
FOR_ISA(offsky_clip)(const struct offsky_stack *stack,
                     const struct clip *clip,
                     size_t first,
                     size_t last,
                     const struct offsky_result *result,
                     struct offsky_counts *counts,
                     void *memory)
{
    struct scratch s;
    lay_out(&s, memory, stack, result);
    const int wide = any_wide(stack, result);
    const struct offsky_plane *err = errors_for(stack, result);
    /* Where none of so many samples, and so none of fewer, can be as far as sigma from
     * the median, nothing is ever rejected.  The margin is for rounding; doubles may
     * under- or overflow. */
    const int clips =
        clip->maxiters != 0 && stack->n_exposures > 1 && clip->sigma < HUGE_VAL &&
        (wide || largest_deviation(stack->n_exposures) * (1.0 + 1e-9) >= clip->sigma);
    for (size_t start = first; start < last; start += WIDTH) {
        const size_t count = last - start < WIDTH ? last - start : WIDTH;
        if (wide)
            f64_clip_one(stack, err, clips ? clip : NULL, start, count, result, counts, &s);
        else
            f32_clip_one(stack, err, clips ? clip : NULL, start, count, result, counts, &s);
    }
}
