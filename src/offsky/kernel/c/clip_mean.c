/* Sigma-clipped mean of a stack of exposures; see clip_mean.h for the contract.
 *
 * Compiled once for each instruction set (OFFSKY_ISA names it); dispatch.c chooses
 * between them.  Built without floating-point contraction (-ffp-contract=off): a
 * fused multiply-add would move bounds by a rounding and with them samples that lie
 * on a bound.
 */
#include "tile.h"

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
    const struct offsky_plane *kinds[] = {stack->sci, stack->err};
    return any_f64(kinds, sizeof kinds / sizeof *kinds, stack->n_exposures);
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
lay_out(struct scratch *s, char *memory, const struct offsky_stack *stack)
{
    const size_t n = stack->n_exposures;
    const size_t real = any_wide(stack) ? sizeof(double) : sizeof(float);
    size_t used = 0;
    TAKE(samples, n * WIDTH * real);
    TAKE(errors, stack->err ? n * WIDTH * real : 0);
    TAKE(columns, n * BATCH * real);
    TAKE(column_errors, stack->err ? n * BATCH * real : 0);
    TAKE(sorted, n * BATCH * real);
    TAKE(in_order, n * sizeof(double));
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
