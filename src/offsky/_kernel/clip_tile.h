/* The work on one tile of pixels, for one precision of the SCI samples.
 *
 * Included twice by clip_mean.c, with SAMPLE (float or double), SAMPLE_MAX and
 * NAME() defined.  A tile is WIDTH pixels by n exposures, one row an exposure,
 * small enough to stay in cache; all loops run across the pixels of a row, the
 * arithmetic in double, LANES pixels in one vector.
 */

/* Sort every pixel's column: the same compare-exchanges for all pixels, whatever
 * their values. */
ALWAYS_INLINE void
NAME(sort_columns)(SAMPLE *rows, const struct network *network)
{
    for (size_t i = 0; i < network->count; i++) {
        SAMPLE *restrict low = rows + (size_t)network->pairs[i].low * WIDTH;
        SAMPLE *restrict high = rows + (size_t)network->pairs[i].high * WIDTH;
        for (size_t p = 0; p < WIDTH; p++) {
            const SAMPLE a = low[p], b = high[p];
            const SAMPLE least = a < b ? a : b, most = a > b ? a : b;
            low[p] = least;
            high[p] = most;
        }
    }
}

/* One pixel on its own: the sorted column first (NULL: not to be trusted), the
 * reference order where that cannot tell. */
static NEVER_INLINE void
NAME(settle_pixel)(const SAMPLE *original,
                   const SAMPLE *sorted,
                   size_t n,
                   const struct offsky_clip *clip,
                   double *column,
                   double *low,
                   double *high)
{
    long count = 0;
    if (sorted) {
        for (; (size_t)count < n && sorted[(size_t)count * WIDTH] <= SAMPLE_MAX; count++)
            column[count] = (double)sorted[(size_t)count * WIDTH];
    }
    if (!sorted || !settle_sorted(column, count, clip, low, high)) {
        count = 0;
        for (size_t r = 0; r < n; r++) {
            const SAMPLE x = original[r * WIDTH];
            if (x >= -SAMPLE_MAX && x <= SAMPLE_MAX)
                column[count++] = (double)x;
        }
        bounds_in_reference_order(column, count, clip, low, high);
    }
    /* Infinite samples stay outside whatever the bounds. */
    *low = fmax(*low, -(double)SAMPLE_MAX);
    *high = fmin(*high, (double)SAMPLE_MAX);
}

/* Mean and sum of squared deviations of LANES sorted columns. */
ALWAYS_INLINE void
NAME(moments)(const SAMPLE *sorted, size_t n, const double *count, double *mean, double *square)
{
    const f64_lanes largest = splat((double)SAMPLE_MAX);
    f64_lanes counts, sum = {0.0}, squares = {0.0};
    memcpy(&counts, count, sizeof counts);
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(read)(sorted + r * WIDTH);
        sum += where(x <= largest, x);
    }
    const f64_lanes centre = sum / counts;
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(read)(sorted + r * WIDTH);
        const f64_lanes off = where(x <= largest, x - centre);
        squares += off * off;
    }
    memcpy(mean, &centre, sizeof centre);
    memcpy(square, &squares, sizeof squares);
}

/* Bounds for every pixel of the tile by its sorted columns; returns whether any
 * excludes a sample. */
ALWAYS_INLINE int
NAME(find_bounds)(const SAMPLE *original,
                  SAMPLE *restrict sorted,
                  size_t n,
                  const struct network *network,
                  const struct offsky_clip *clip,
                  double *column,
                  double *restrict low,
                  double *restrict high)
{
    double count[WIDTH], mean[WIDTH], square[WIDTH];
    SAMPLE top[WIDTH], middle[WIDTH], below[WIDTH];
    int32_t n_finite[WIDTH] = {0};

    for (size_t r = 0; r < n; r++) {
        const SAMPLE *restrict from = original + r * WIDTH;
        SAMPLE *restrict to = sorted + r * WIDTH;
        for (size_t p = 0; p < WIDTH; p++) {
            const int finite = (from[p] >= -SAMPLE_MAX) & (from[p] <= SAMPLE_MAX);
            to[p] = finite ? from[p] : (SAMPLE)HUGE_VAL /* sorts last */;
            n_finite[p] += finite;
        }
    }
    NAME(sort_columns)(sorted, network);
    int32_t fewest = (int32_t)n;
    for (size_t p = 0; p < WIDTH; p++) {
        count[p] = (double)n_finite[p];
        fewest = n_finite[p] < fewest ? n_finite[p] : fewest;
    }
    for (size_t p = 0; p < WIDTH; p += LANES)
        NAME(moments)(sorted + p, n, count + p, mean + p, square + p);
    if (fewest == (int32_t)n) {
        memcpy(top, sorted + (n - 1) * WIDTH, sizeof top);
        memcpy(middle, sorted + n / 2 * WIDTH, sizeof middle);
        memcpy(below, sorted + (n - 1) / 2 * WIDTH, sizeof below);
    } else {
        for (size_t p = 0; p < WIDTH; p++) {
            const size_t c = n_finite[p] ? (size_t)n_finite[p] : 1;
            top[p] = sorted[(c - 1) * WIDTH + p];
            middle[p] = sorted[c / 2 * WIDTH + p];
            below[p] = sorted[(c - 1) / 2 * WIDTH + p];
        }
    }

    /* A pixel is settled where both ends are inside for sure, or all samples are
     * equal (the centre itself is always inside). */
    int64_t open[WIDTH], any_open = 0;
    for (size_t p = 0; p < WIDTH; p += LANES) {
        const f64_lanes x_min = NAME(read)(sorted + p), x_max = NAME(read)(top + p);
        const f64_lanes centre = 0.5 * (NAME(read)(middle + p) + NAME(read)(below + p));
        f64_lanes counts, reach;
        memcpy(&counts, count + p, sizeof counts);
        for (size_t l = 0; l < LANES; l++)
            reach[l] = clip->sigma * sqrt(square[p + l] / count[p + l]);
        const i64_lanes left = x_min < -x_max;
        const f64_lanes largest = where(left, -x_min) + where(~left, x_max);
        const f64_lanes unsure = bound_uncertainty(clip->sigma) * counts * largest;
        const i64_lanes settled = ((x_min - (centre - reach) > unsure) &
                                   ((centre + reach) - x_max > unsure) &
                                   NAME(plain)(x_min, x_max)) |
                                  (x_min == x_max);
        const i64_lanes unsettled = ~settled;
        memcpy(open + p, &unsettled, sizeof unsettled);
        for (size_t l = 0; l < LANES; l++)
            any_open |= open[p + l];
    }
    if (!any_open)
        return 0;
    for (size_t p = 0; p < WIDTH; p++)
        if (open[p])
            NAME(settle_pixel)(original + p,
                               NAME(plain)((double)sorted[p], (double)top[p]) ? sorted + p : NULL,
                               n, clip, column, &low[p], &high[p]);
    return 1;
}

/* Where the number of samples alone forbids a rejection there is nothing to sort:
 * only samples outside the range in which that theorem survives rounding need a
 * look (doubles whose squares under- or overflow; never floats). */
ALWAYS_INLINE int
NAME(find_bounds_unreachable)(const SAMPLE *original,
                              size_t n,
                              const struct offsky_clip *clip,
                              double *column,
                              double *restrict low,
                              double *restrict high)
{
    if (sizeof(SAMPLE) == sizeof(float))
        return 0;
    SAMPLE x_min[WIDTH], x_max[WIDTH];
    for (size_t p = 0; p < WIDTH; p++) {
        x_min[p] = (SAMPLE)HUGE_VAL;
        x_max[p] = -(SAMPLE)HUGE_VAL;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < WIDTH; p++) {
            const SAMPLE x = original[r * WIDTH + p];
            x_min[p] = ((x >= -SAMPLE_MAX) & (x < x_min[p])) ? x : x_min[p];
            x_max[p] = ((x <= SAMPLE_MAX) & (x > x_max[p])) ? x : x_max[p];
        }
    int found = 0;
    for (size_t p = 0; p < WIDTH; p++)
        if (x_min[p] < x_max[p] && !NAME(plain)((double)x_min[p], (double)x_max[p])) {
            NAME(settle_pixel)(original + p, NULL, n, clip, column, &low[p], &high[p]);
            found = 1;
        }
    return found;
}

/* Sums over the kept samples of LANES pixels, in the order of the exposures.
 * `read_err` is NULL where there is no ERR, else how to read one of its rows. */
ALWAYS_INLINE void
NAME(sum_kept)(const SAMPLE *samples,
               const char *errors,
               size_t err_row_bytes,
               f64_lanes (*read_err)(const void *),
               size_t n,
               const double *low,
               const double *high,
               struct sums *sums,
               size_t p)
{
    const f64_lanes largest = splat(DBL_MAX);
    const f64_lanes one = splat(1.0);
    f64_lanes from, to, sci = {0.0}, variance = {0.0}, n_kept = {0.0}, n_err = {0.0};
    memcpy(&from, low + p, sizeof from);
    memcpy(&to, high + p, sizeof to);
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
        const i64_lanes inside = (x >= from) & (x <= to);
        sci += where(inside, x);
        n_kept += where(inside, one);
        if (read_err) {
            const f64_lanes e = read_err(errors + r * err_row_bytes);
            const i64_lanes use = (e >= -largest) & (e <= largest) & inside;
            const f64_lanes err = where(use, e);
            variance += err * err;
            n_err += where(use, one);
        }
    }
    memcpy(sums->sci + p, &sci, sizeof sci);
    memcpy(sums->variance + p, &variance, sizeof variance);
    memcpy(sums->n_kept + p, &n_kept, sizeof n_kept);
    memcpy(sums->n_err + p, &n_err, sizeof n_err);
}

/* Average one tile: `count` pixels from `start`; the rest of WIDTH is padding. */
ALWAYS_INLINE void
NAME(average_tile)(const struct offsky_stack *stack,
                   const struct offsky_clip *clip,
                   const struct plan *plan,
                   size_t start,
                   size_t count,
                   const struct offsky_result *result,
                   const struct scratch *s)
{
    const size_t n = stack->n_exposures;
    SAMPLE *samples = s->samples;
    double low[WIDTH], high[WIDTH];

    NAME(load_rows)(stack->sci, n, start, count, samples);
    for (size_t p = 0; p < WIDTH; p++) {
        low[p] = -(double)SAMPLE_MAX;
        high[p] = (double)SAMPLE_MAX;
    }
    int clipped = 0;
    if (plan->how == CLIP_SORTED)
        clipped = NAME(find_bounds)(samples, s->sorted, n, &plan->network, clip, s->column, low, high);
    else if (plan->how == CLIP_UNREACHABLE)
        clipped = NAME(find_bounds_unreachable)(samples, n, clip, s->column, low, high);

    struct sums sums;
    if (plan->err == ERR_NONE) {
        for (size_t p = 0; p < WIDTH; p += LANES)
            NAME(sum_kept)(samples, NULL, 0, NULL, n, low, high, &sums, p);
    } else if (plan->err == ERR_F64) {
        double *errors = s->err;
        f64_load_rows(stack->err, n, start, count, errors);
        for (size_t p = 0; p < WIDTH; p += LANES)
            NAME(sum_kept)(samples, (const char *)(errors + p), WIDTH * sizeof *errors,
                           read_err_f64, n, low, high, &sums, p);
    } else {
        float *errors = s->err;
        f32_load_rows(stack->err, n, start, count, errors);
        for (size_t p = 0; p < WIDTH; p += LANES)
            NAME(sum_kept)(samples, (const char *)(errors + p), WIDTH * sizeof *errors,
                           read_err_f32, n, low, high, &sums, p);
    }
    if (clipped)
        for (size_t r = 0; r < n; r++) {
            int64_t rejected = 0;
            for (size_t p = 0; p < count; p++) {
                const double x = (double)samples[r * WIDTH + p];
                rejected += (x >= -(double)SAMPLE_MAX) & (x <= (double)SAMPLE_MAX) &
                            !((x >= low[p]) & (x <= high[p]));
            }
            result->n_rejected[r] += rejected;
        }
    add_flags(stack, start, count, sums.dq);
    store_tile(result, start, count, &sums);
}

