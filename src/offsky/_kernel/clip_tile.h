/* The plain sigma clip of one tile of pixels, for one precision of the samples.
 *
 * Included twice by clip_mean.c, after tile_rows.h.  In most pixels nothing is rejected,
 * which the standard deviation and two counts show without sorting; the others, called
 * open, are taken out, sorted, settled one by one and added up again.
 */

/* List the pixels of the tile in which clipping may reject something, and find the
 * first `reach` of all; returns their number.
 *
 * Nothing is rejected where the median is at least the greatest sample minus reach and
 * at most the smallest plus reach; both can be told by counting, without the median.
 * `unsure` makes that stricter, for the order of additions (see bound_uncertainty) and
 * for rounding the limits to SAMPLE, subnormal floats included: a pixel too many is
 * listed, never one too few. */
ALWAYS_INLINE size_t
NAME(find_open)(const SAMPLE *samples,
                size_t n,
                const struct offsky_clip *clip,
                const struct sums *sums,
                double *reach,
                uint16_t *open)
{
    const double uncertainty = bound_uncertainty(clip->sigma) * (double)n + (double)FLT_EPSILON;
    SAMPLE x_min[WIDTH], x_max[WIDTH], low[WIDTH], high[WIDTH];
    SAMPLE_BITS count[WIDTH], is_open[WIDTH];
    double real_count[WIDTH];

    NAME(find_ends)(samples, n, x_min, x_max);
    for (size_t p = 0; p < WIDTH; p++) {
        count[p] = (SAMPLE_BITS)sums->n_kept[p];
        real_count[p] = (double)(int32_t)sums->n_kept[p];
    }
    for (size_t p = 0; p < WIDTH; p += LANES)
        NAME(find_reach)(samples + p, n, clip->sigma, sums->sci + p, real_count + p, reach + p);
    for (size_t p = 0; p < WIDTH; p++) {
        const double least = (double)x_min[p], most = (double)x_max[p];
        const double largest = -least > most ? -least : most;
        const double unsure = uncertainty * (largest + reach[p]) + (double)FLT_TRUE_MIN;
        low[p] = (SAMPLE)(most - reach[p] + unsure);
        high[p] = (SAMPLE)(least + reach[p] - unsure);
    }
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector)) {
        NAME(vector) least, most;
        memcpy(&least, x_min + p, sizeof least);
        memcpy(&most, x_max + p, sizeof most);
        const NAME(bits) settled =
            NAME(has_median_between)(samples + p, n, count + p, low + p, high + p) &
            NAME(plain)(least, most);
        const NAME(bits) mask = (least < most) & ~settled;
        memcpy(is_open + p, &mask, sizeof mask);
    }
    size_t n_open = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        open[n_open] = (uint16_t)p;
        n_open += is_open[p] != 0;
    }
    return n_open;
}

/* The bounds of one pixel: by its sorted column, or in the reference order where that
 * cannot tell. */
ALWAYS_INLINE void
NAME(settle_pixel)(const SAMPLE *samples,
                   const SAMPLE *sorted,
                   size_t n,
                   long count,
                   double reach,
                   const struct offsky_clip *clip,
                   double *column,
                   double *low,
                   double *high)
{
    if (NAME(plain)((double)sorted[0], (double)sorted[(count - 1) * BATCH])) {
        for (long i = 0; i < count; i++)
            column[i] = (double)sorted[i * BATCH];
        if (settle_sorted(column, count, reach, clip, low, high))
            return;
    }
    count = 0;
    for (size_t r = 0; r < n; r++)
        if (samples[r * WIDTH] == samples[r * WIDTH])
            column[count++] = (double)samples[r * WIDTH];
    bounds_in_reference_order(column, count, clip->sigma, clip->sigma, clip->maxiters, low, high);
}

/* Sums once more for the first `used` of LANES open pixels, of samples inside their
 * bounds; those outside are counted in `n_rejected`. */
ALWAYS_INLINE void
NAME(add_up_inside)(const SAMPLE *samples,
                    const SAMPLE *errors,
                    size_t n,
                    const uint16_t *open,
                    size_t used,
                    const double *low,
                    const double *high,
                    struct sums *sums,
                    int64_t *n_rejected)
{
    f64_lanes from, to, sci = {0.0}, variance = {0.0};
    i64_lanes n_kept = {0}, n_err = {0};
    memcpy(&from, low, sizeof from);
    memcpy(&to, high, sizeof to);
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(gather)(samples + r * WIDTH, open);
        const i64_lanes inside = (x >= from) & (x <= to);
        const i64_lanes outside = (x == x) & ~inside;
        sci += where(inside, x);
        n_kept -= inside;
        int64_t rejected = 0;
        for (int l = 0; l < LANES; l++)
            rejected -= outside[l];
        n_rejected[r] += rejected;
        if (errors) {
            const f64_lanes e = NAME(gather)(errors + r * WIDTH, open);
            const i64_lanes known = (e == e) & inside;
            const f64_lanes err = where(known, e);
            variance += err * err;
            n_err -= known;
        }
    }
    for (size_t l = 0; l < used; l++) {
        sums->sci[open[l]] = sci[l];
        sums->variance[open[l]] = variance[l];
        sums->n_kept[open[l]] = n_kept[l];
        sums->n_err[open[l]] = n_err[l];
    }
}

/* Clip the open pixels of a tile, BATCH at a time, and replace their sums. */
ALWAYS_INLINE void
NAME(clip_open)(const SAMPLE *samples,
                const SAMPLE *errors,
                size_t n,
                const struct offsky_clip *clip,
                struct sums *sums,
                int64_t *n_rejected,
                const struct scratch *s)
{
    double reach[WIDTH];
    uint16_t open[WIDTH + BATCH];
    const size_t n_open = NAME(find_open)(samples, n, clip, sums, reach, open);
    memset(open + n_open, 0, BATCH * sizeof *open); /* any pixel fills up the last batch */

    for (size_t first = 0; first < n_open; first += BATCH) {
        const size_t used = n_open - first < BATCH ? n_open - first : BATCH;
        double low[BATCH], high[BATCH];
        NAME(gather_columns)(samples, n, open + first, s->sorted);
        NAME(sort_columns)(s->sorted, n, BATCH);
        for (size_t b = 0; b < BATCH; b++) {
            const size_t p = open[first + b];
            low[b] = -no_bound;
            high[b] = no_bound;
            if (b < used)
                NAME(settle_pixel)(samples + p, (const SAMPLE *)s->sorted + b, n,
                                   (long)sums->n_kept[p], reach[p], clip, s->column,
                                   &low[b], &high[b]);
        }
        for (size_t b = 0; b < used; b += LANES)
            NAME(add_up_inside)(samples, errors, n, open + first + b,
                                used - b < LANES ? used - b : LANES, low + b, high + b,
                                sums, n_rejected);
    }
}

/* Average one tile: `count` pixels from `start`; the rest of WIDTH is padding.
 * `clip` NULL: nothing is to be rejected. */
static NEVER_INLINE void
NAME(average_tile)(const struct offsky_stack *stack,
                   const struct offsky_clip *clip,
                   size_t start,
                   size_t count,
                   const struct offsky_result *result,
                   const struct scratch *s)
{
    const size_t n = stack->n_exposures;
    SAMPLE *samples = s->samples, *errors = stack->err ? s->errors : NULL;
    struct sums sums;

    NAME(load_rows)(stack->sci, n, start, count, samples);
    if (errors) {
        NAME(load_rows)(stack->err, n, start, count, errors);
        for (size_t p = 0; p < WIDTH; p += LANES)
            NAME(add_up)(samples, errors, n, &sums, p);
    } else {
        for (size_t p = 0; p < WIDTH; p += LANES)
            NAME(add_up)(samples, NULL, n, &sums, p);
    }
    if (clip)
        NAME(clip_open)(samples, errors, n, clip, &sums, result->n_rejected, s);
    if (result->dq)
        store_flags(stack, start, count, result->dq + start);
    store_tile(result, start, count, &sums);
}
