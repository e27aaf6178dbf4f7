/* Rejection in one tile of pixels, for one precision of the samples.
 *
 * Included twice by average.c, after mad_tile.h.  What is rejected becomes NaN in the
 * tile, like a sample that was never there, and is counted.  Pixels in which something may
 * be rejected are found for all at once; they, the open ones, are settled one by one.
 */

/* Smallest and greatest sample of every pixel; infinities where there is none.  Row by
 * row, which compilers turn into minimum and maximum instructions. */
ALWAYS_INLINE void
NAME(find_ends)(const SAMPLE *samples, size_t n, SAMPLE *restrict x_min, SAMPLE *restrict x_max)
{
    for (size_t p = 0; p < WIDTH; p++) {
        x_min[p] = (SAMPLE)HUGE_VAL;
        x_max[p] = -(SAMPLE)HUGE_VAL;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < WIDTH; p++) {
            const SAMPLE x = samples[r * WIDTH + p];
            x_min[p] = x < x_min[p] ? x : x_min[p];
            x_max[p] = x > x_max[p] ? x : x_max[p];
        }
}

/* Standard deviation and mean of every pixel, added in the order of the exposures. */
static NEVER_INLINE void
NAME(find_deviations)(const SAMPLE *samples, size_t n, double *scale, double *mean)
{
    struct sums sums;
    double count[WIDTH];
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector))
        NAME(add_up)(samples, NULL, n, 0, &sums, p);
    for (size_t p = 0; p < WIDTH; p++)
        count[p] = (double)sums.n_kept[p];
    for (size_t p = 0; p < WIDTH; p += LANES) {
        f64_lanes about, inverse, square = {0.0};
        memcpy(&about, sums.sci + p, sizeof about);
        memcpy(&inverse, count + p, sizeof inverse);
        inverse = 1.0 / inverse;
        about *= inverse;
        for (size_t r = 0; r < n; r++) {
            const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
            const f64_lanes off = where(x == x, x - about);
            square += off * off;
        }
        square *= inverse;
        for (size_t l = 0; l < LANES; l++)
            scale[p + l] = sqrt(square[l]);
    }
    for (size_t p = 0; p < WIDTH; p++)
        mean[p] = sums.sci[p] / count[p];
}

/* List the pixels in which samples may be farther than lower or upper times `scale` from
 * the median (`mean` NULL) or from the mean; returns their number.  As find_open() in
 * clip_tile.h: a pixel too many is listed, never one too few. */
static NEVER_INLINE size_t
NAME(find_far)(const SAMPLE *samples,
               size_t n,
               const struct rejection *how,
               const double *scale,
               const double *mean,
               uint16_t *open)
{
    const double uncertainty = bound_uncertainty(widest(how)) * (double)n + 2.0 * (double)FLT_EPSILON;
    SAMPLE x_min[WIDTH], x_max[WIDTH], low[WIDTH], high[WIDTH];
    SAMPLE_BITS count[WIDTH], is_open[WIDTH];

    NAME(find_ends)(samples, n, x_min, x_max);
    for (size_t p = 0; p < WIDTH; p++) {
        const double least = (double)x_min[p], most = (double)x_max[p];
        const double largest = -least > most ? -least : most;
        const double below = how->lower * scale[p], above = how->upper * scale[p];
        const double unsure_low = uncertainty * (largest + above) + (double)FLT_TRUE_MIN;
        const double unsure_high = uncertainty * (largest + below) + (double)FLT_TRUE_MIN;
        low[p] = (SAMPLE)(above < HUGE_VAL ? most - above + unsure_low : -HUGE_VAL);
        high[p] = (SAMPLE)(below < HUGE_VAL ? least + below - unsure_high : HUGE_VAL);
    }
    if (!mean)
        NAME(count_samples)(samples, n, count);
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector)) {
        NAME(vector) least, most;
        NAME(bits) inside;
        memcpy(&least, x_min + p, sizeof least);
        memcpy(&most, x_max + p, sizeof most);
        if (mean) {
            NAME(vector) from, to, centre;
            for (size_t l = 0; l < NAME(per_vector); l++)
                centre[l] = (SAMPLE)mean[p + l];
            memcpy(&from, low + p, sizeof from);
            memcpy(&to, high + p, sizeof to);
            inside = (centre >= from) & (centre <= to);
        } else {
            NAME(bits) there;
            memcpy(&there, count + p, sizeof there);
            inside = NAME(has_median_between)(samples + p, n, there, low + p, high + p);
        }
        const NAME(bits) mask = (least < most) & ~(inside & NAME(plain)(least, most));
        memcpy(is_open + p, &mask, sizeof mask);
    }
    size_t n_open = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        open[n_open] = (uint16_t)p;
        n_open += is_open[p] != 0;
    }
    return n_open;
}

/* Drop the samples of a tile below `low` or above `high` of their pixel. */
static NEVER_INLINE void
NAME(drop_outside)(
    SAMPLE *samples, size_t n, const SAMPLE *low, const SAMPLE *high, int64_t *n_rejected)
{
    for (size_t r = 0; r < n; r++) {
        SAMPLE *restrict row = samples + r * WIDTH;
        SAMPLE_BITS rejected = 0;
        for (size_t p = 0; p < WIDTH; p++) {
            const int out = (row[p] < low[p]) | (row[p] > high[p]);
            row[p] = out ? (SAMPLE)NAN : row[p];
            rejected += out;
        }
        n_rejected[r] += rejected;
    }
}

/* Drop some of the samples of one pixel that equal `value`, the first of the exposures or
 * the last. */
static NEVER_INLINE void
NAME(drop_equal)(
    SAMPLE *samples, size_t n, SAMPLE value, long n_dropped, int from_last, int64_t *n_rejected)
{
    for (size_t i = 0; n_dropped && i < n; i++) {
        const size_t r = from_last ? n - 1 - i : i;
        if (samples[r * WIDTH] == value) {
            samples[r * WIDTH] = (SAMPLE)NAN;
            n_rejected[r]++;
            n_dropped--;
        }
    }
}

/* Put the ends of a range of the sorted x[0..count) in `low` and `high`; of samples equal
 * to them drop those of lower and higher rank.  The first of the exposures ranks lowest. */
ALWAYS_INLINE void
NAME(set_range)(SAMPLE *samples,
                size_t n,
                const double *x,
                long count,
                const struct range *kept,
                SAMPLE *low,
                SAMPLE *high,
                int64_t *n_rejected)
{
    if (kept->from >= kept->to) {
        *low = (SAMPLE)HUGE_VAL;
        *high = -(SAMPLE)HUGE_VAL;
        return;
    }
    const double least = x[kept->from], most = x[kept->to - 1];
    long below = kept->from, above = kept->to;
    while (below > 0 && x[below - 1] == least)
        below--;
    while (above < count && x[above] == most)
        above++;
    *low = (SAMPLE)least;
    *high = (SAMPLE)most;
    if (below < kept->from)
        NAME(drop_equal)(samples, n, *low, kept->from - below, 0, n_rejected);
    if (above > kept->to)
        NAME(drop_equal)(samples, n, *high, above - kept->to, 1, n_rejected);
}

/* Settle what is kept of one pixel, given its sorted column x[0..count). */
ALWAYS_INLINE void
NAME(settle_pixel_by)(const struct rejection *how,
                      SAMPLE *samples,
                      size_t n,
                      const double *x,
                      long count,
                      double scale,
                      double *in_order,
                      SAMPLE *low,
                      SAMPLE *high,
                      int64_t *n_rejected)
{
    struct range kept = {0, count, 0.0};
    const int plain =
        !how->by_deviation || NAME(plain)((SAMPLE)x[0], (SAMPLE)x[count - 1]);
    if (x[0] == x[count - 1])
        return;
    if (how->about_mean || !plain || !settle_about_median(x, count, scale, how, &kept)) {
        long there = 0;
        for (size_t r = 0; r < n; r++)
            if (samples[r * WIDTH] == samples[r * WIDTH])
                in_order[there++] = (double)samples[r * WIDTH];
        if (how->about_mean) {
            settle_about_mean(x, in_order, count, scale, how, &kept);
        } else {
            double from, to;
            kept.centre = bounds_in_reference_order(in_order, count, how->lower, how->upper,
                                                    how->maxiters, &from, &to);
            find_inside(x, count, from, to, &kept.from, &kept.to);
        }
    }
    keep_nearest(x, count, how, &kept);
    NAME(set_range)(samples, n, x, count, &kept, low, high, n_rejected);
}

/* Reject by bounds: by standard deviation or by median absolute deviation. */
static NEVER_INLINE void
NAME(reject_outside)(SAMPLE *samples,
                     size_t n,
                     const struct rejection *how,
                     int64_t *n_rejected,
                     const struct average_scratch *s)
{
    double scale[WIDTH], mean[WIDTH];
    SAMPLE low[WIDTH], high[WIDTH];
    uint16_t open[WIDTH + BATCH];
    size_t n_open;
    SAMPLE *sorted = s->sorted;
    const double *about = how->about_mean ? mean : NULL;
    for (size_t p = 0; p < WIDTH; p++) {
        low[p] = -(SAMPLE)HUGE_VAL;
        high[p] = (SAMPLE)HUGE_VAL;
    }
    if (how->by_deviation || how->about_mean)
        NAME(find_deviations)(samples, n, scale, mean);
    if (how->by_distance) {
        NAME(sort_tile)(samples, n, sorted);
        n_open = NAME(find_far_by_mad)(sorted, n, how, scale, about, open, low, high, s);
    } else {
        n_open = NAME(find_far)(samples, n, how, scale, about, open);
    }
    memset(open + n_open, 0, BATCH * sizeof *open); /* any pixel fills up the last batch */

    for (size_t first = 0; first < n_open; first += BATCH) {
        const size_t used = n_open - first < BATCH ? n_open - first : BATCH;
        if (!how->by_distance) {
            NAME(gather_columns)(samples, n, open + first, sorted);
            NAME(sort_columns)(sorted, n, BATCH);
        }
        /* All columns before the first is settled: what was just written piece by piece is
         * slow to read as a vector. */
        const size_t length = n + LANES;
        for (size_t b = 0; b < used; b++) {
            const SAMPLE *from = how->by_distance ? sorted + open[first + b] : sorted + b;
            const size_t stride = how->by_distance ? WIDTH : BATCH;
            for (size_t r = 0; r < n; r++)
                s->columns[b * length + r] = (double)from[r * stride];
            for (size_t r = n; r < length; r++)
                s->columns[b * length + r] = HUGE_VAL;
        }
        for (size_t b = 0; b < used; b++) {
            const size_t p = open[first + b];
            const double *column = s->columns + b * length;
            long count = (long)n;
            while (count > 0 && column[count - 1] == HUGE_VAL)
                count--;
            if (count == 0)
                continue;
            if (how->by_distance && count != (long)n)
                scale[p] = mad_of(column, count);
            NAME(settle_pixel_by)(how, samples + p, n, column, count, scale[p], s->in_order,
                                  &low[p], &high[p], n_rejected);
        }
    }
    NAME(drop_outside)(samples, n, low, high, n_rejected);
}

/* Drop the lowest and the highest of every pixel. */
static NEVER_INLINE void
NAME(reject_extremes)(SAMPLE *samples,
                      size_t n,
                      const struct rejection *how,
                      int64_t *n_rejected,
                      const struct average_scratch *s)
{
    SAMPLE low[WIDTH], high[WIDTH];
    SAMPLE_BITS count[WIDTH];
    const SAMPLE *sorted = s->sorted;
    NAME(count_samples)(samples, n, count);
    NAME(sort_tile)(samples, n, s->sorted);
    for (size_t p = 0; p < WIDTH; p++) {
        const long there = (long)count[p];
        const long least = how->min_keep > 1 ? how->min_keep : 1;
        const long most = there > least ? (there - least) / 2 : 0;
        const long first = how->n_extremes < most ? how->n_extremes : most;
        const long last = there > 0 ? there - first - 1 : 0;
        low[p] = sorted[first * WIDTH + (long)p];
        high[p] = sorted[last * WIDTH + (long)p];

        /* Samples equal to the ends of what is kept, but of ranks outside. */
        long below = first, above = last;
        while (below > 0 && sorted[(below - 1) * WIDTH + (long)p] == low[p])
            below--;
        while (above + 1 < there && sorted[(above + 1) * WIDTH + (long)p] == high[p])
            above++;
        if (below < first)
            NAME(drop_equal)(samples + p, n, low[p], first - below, 0, n_rejected);
        if (above > last)
            NAME(drop_equal)(samples + p, n, high[p], above - last, 1, n_rejected);
    }
    NAME(drop_outside)(samples, n, low, high, n_rejected);
}
