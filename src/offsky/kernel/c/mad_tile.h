/* The first passes of rejection by the median absolute deviation, in one tile of pixels.
 *
 * Included twice by average.c, before reject_tile.h.  With this method something is
 * rejected in many pixels of clean noise; so that more is done here for all at once.
 */

/* The k-th smallest distance (from 0) of LANES whole sorted columns from their centre; see
 * kth_distance(). */
ALWAYS_INLINE f64_lanes
NAME(kth_distances)(const SAMPLE *sorted, size_t n, f64_lanes centre, size_t k)
{
    f64_lanes least = (f64_lanes){0.0} + HUGE_VAL;
    for (size_t i = 0; i + k < n; i++) {
        const f64_lanes left = centre - NAME(read)(sorted + i * WIDTH);
        const f64_lanes right = NAME(read)(sorted + (i + k) * WIDTH) - centre;
        least = f64_smaller(f64_larger(left, right), least);
    }
    return least;
}

/* A pixel of which the first pass rejects the lowest sample, or else the highest. */
struct NAME(single) {
    uint16_t pixel, is_lowest;
};

/* Settle those of `singles` of which the second pass rejects no other sample and takes
 * none back; list the rest after the first `n_open` of `open`, and return the number of
 * all. */
ALWAYS_INLINE size_t
NAME(settle_singles)(const SAMPLE *sorted,
                     size_t n,
                     const struct rejection *how,
                     const struct NAME(single) *singles,
                     size_t n_singles,
                     uint16_t *open,
                     size_t n_open,
                     SAMPLE *least,
                     SAMPLE *most,
                     const struct average_scratch *s)
{
    const size_t m = n - 1;
    f64_lanes *columns = (f64_lanes *)s->columns;
    for (size_t i = 0; i < n_singles; i += LANES) {
        f64_lanes outlier;
        for (size_t l = 0; l < LANES; l++) {
            const struct NAME(single) it = singles[i + l];
            const SAMPLE *column = sorted + it.pixel, *first = column + it.is_lowest * WIDTH;
            outlier[l] = (double)column[it.is_lowest ? 0 : m * WIDTH];
            for (size_t r = 0; r < m; r++)
                s->columns[r * LANES + l] = (double)first[r * WIDTH];
        }
        f64_lanes centre = columns[m / 2];
        if (m % 2 == 0)
            centre = 0.5 * (centre + columns[m / 2 - 1]);
        f64_lanes mad = kth_distance_of_lanes(columns, m, centre, m / 2);
        if (m % 2 == 0)
            mad = 0.5 * (mad + kth_distance_of_lanes(columns, m, centre, m / 2 - 1));
        const f64_lanes sigma = mad_to_sigma * mad;
        const f64_lanes from = centre - how->lower * sigma, to = centre + how->upper * sigma;
        const i64_lanes settled =
            (columns[0] >= from) & (columns[m - 1] <= to) & ((outlier < from) | (outlier > to));
        for (size_t l = 0; l < LANES && i + l < n_singles; l++) {
            const size_t p = singles[i + l].pixel;
            least[p] = settled[l] ? (SAMPLE)columns[0][l] : least[p];
            most[p] = settled[l] ? (SAMPLE)columns[m - 1][l] : most[p];
            open[n_open] = (uint16_t)p;
            n_open += !settled[l];
        }
    }
    return n_open;
}

/* Scaled median absolute deviations of a sorted tile, and the pixels in which a sample
 * is farther than the thresholds times those from the median (`mean` NULL) or from the
 * mean.  Pixels with gaps are all listed.  Some are settled at once: the ends of what is
 * kept of them are put in `least` and `most`. */
static NEVER_INLINE size_t
NAME(find_far_by_mad)(const SAMPLE *sorted,
                      size_t n,
                      const struct rejection *how,
                      double *scale,
                      const double *mean,
                      uint16_t *open,
                      SAMPLE *least,
                      SAMPLE *most,
                      const struct average_scratch *s)
{
    enum { OPEN = 1, SINGLE = 2, LOWEST = 4 };
    /* Most open pixels lose one sample, and then no more. */
    const int tries_singles = n > 2 && !mean && how->maxiters != 1 && how->min_keep < (long)n;
    const SAMPLE *upper_row = sorted + n / 2 * WIDTH, *lower_row = sorted + (n - 1) / 2 * WIDTH;
    const SAMPLE *top = sorted + (n - 1) * WIDTH;
    const SAMPLE *second = n > 2 ? sorted + WIDTH : sorted, *last_but_one = n > 2 ? top - WIDTH : top;
    int64_t kind[WIDTH];
    for (size_t p = 0; p < WIDTH; p += LANES) {
        const f64_lanes upper = NAME(read)(upper_row + p);
        const f64_lanes centre = n % 2 ? upper : 0.5 * (upper + NAME(read)(lower_row + p));
        f64_lanes mad = NAME(kth_distances)(sorted + p, n, centre, n / 2);
        if (n % 2 == 0)
            mad = 0.5 * (mad + NAME(kth_distances)(sorted + p, n, centre, n / 2 - 1));
        const f64_lanes sigma = mad_to_sigma * mad;
        memcpy(scale + p, &sigma, sizeof sigma);
        f64_lanes about = centre;
        if (mean)
            memcpy(&about, mean + p, sizeof about);
        const f64_lanes from = about - how->lower * sigma, to = about + how->upper * sigma;

        /* A bound that is NaN excludes nothing; where samples are missing, infinity is on top. */
        const f64_lanes highest = NAME(read)(top + p);
        const i64_lanes below = NAME(read)(sorted + p) < from, above = highest > to;
        const i64_lanes whole = highest < HUGE_VAL;
        i64_lanes single = {0};
        if (tries_singles)
            single = whole & (below ^ above) & ~(NAME(read)(second + p) < from) &
                     ~(NAME(read)(last_but_one + p) > to);
        const i64_lanes kinds =
            ((below | above | ~whole) & ~single & OPEN) | (single & SINGLE) | (below & LOWEST);
        memcpy(kind + p, &kinds, sizeof kinds);
    }
    struct NAME(single) singles[WIDTH + LANES];
    size_t n_open = 0, n_singles = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        singles[n_singles] = (struct NAME(single)){(uint16_t)p, (kind[p] & LOWEST) != 0};
        n_singles += (kind[p] & SINGLE) != 0;
        open[n_open] = (uint16_t)p;
        n_open += (size_t)kind[p] & OPEN;
    }
    for (size_t l = 0; l < LANES; l++)
        singles[n_singles + l] = (struct NAME(single)){0, 0};
    return NAME(settle_singles)(sorted, n, how, singles, n_singles, open, n_open, least, most, s);
}
