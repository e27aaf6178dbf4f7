/* The plain sigma clip of one tile of pixels, for one precision of the samples.
 *
 * Included twice by clip.c, after clip_batch.h.  In most pixels nothing is rejected,
 * which the standard deviation and two counts show without sorting; the others, called
 * open, are taken out, sorted, settled and added up again, a batch at a time.
 */

/* What is known of a tile's pixels besides their sums: sums of squares and the ends, and
 * of those the limits between which the median must be (find_limits()). */
struct NAME(spread) {
    double square[WIDTH];
    SAMPLE least[WIDTH], most[WIDTH], low[WIDTH], high[WIDTH];
};

/* Sums of one vector of pixels in which samples may be missing; returns the sum of their
 * squares. */
static NEVER_INLINE NAME(wide)
NAME(add_up_with_gaps)(
    const SAMPLE *samples, const SAMPLE *errors, size_t n, size_t p, struct sums *sums)
{
    if (errors)
        return NAME(add_up)(samples, errors, n, 1, sums, p);
    return NAME(add_up)(samples, NULL, n, 1, sums, p);
}

/* Sums of one vector of pixels, and with `spread` their squares and ends.  `errors` and
 * `spread` are constants or NULL. */
ALWAYS_INLINE void
NAME(add_up_vector)(const SAMPLE *samples,
                    const SAMPLE *errors,
                    size_t n,
                    size_t p,
                    struct sums *sums,
                    struct NAME(spread) *spread)
{
    NAME(wide) sci = NAME(zero)(), square = NAME(zero)(), variance = NAME(zero)();
    NAME(vector) least = (NAME(vector)){0} + (SAMPLE)HUGE_VAL, most = -least;
#pragma GCC unroll 2
    for (size_t r = 0; r < n; r++) {
        const SAMPLE *row = samples + r * WIDTH + p;
        const NAME(wide) x = NAME(read_wide)(row);
        sci = NAME(plus)(sci, x);
        if (spread) {
            NAME(vector) v;
            memcpy(&v, row, sizeof v);
            least = NAME(smaller)(v, least);
            most = NAME(larger)(v, most);
            square = NAME(plus_square)(square, x);
        }
        if (errors)
            variance = NAME(plus_square)(variance, NAME(read_wide)(errors + r * WIDTH + p));
    }
    /* The sums are finite where no sample is missing, and then all are kept. */
    if (NAME(all_finite)(errors ? NAME(plus)(sci, variance) : sci)) {
        NAME(store_wide)(sums->sci + p, sci);
        if (errors)
            NAME(store_wide)(sums->variance + p, variance);
        for (size_t l = 0; l < NAME(per_vector); l++)
            sums->n_kept[p + l] = sums->n_err[p + l] = (int32_t)n;
    } else {
        square = NAME(add_up_with_gaps)(samples, errors, n, p, sums);
    }
    if (spread) {
        NAME(store_wide)(spread->square + p, square);
        memcpy(spread->least + p, &least, sizeof least);
        memcpy(spread->most + p, &most, sizeof most);
    }
}

/* The limits between which a median must be for nothing to be rejected: the greatest
 * sample minus sigma standard deviations, the smallest plus as much.
 *
 * All is rounded to the strict side: the variance, as a difference of squares, by what
 * their sums may be off (n u of either, u = 2^-53), the limits by the order of additions
 * (bound_uncertainty()) and by a few roundings to SAMPLE.  Where that cannot tell, no
 * median is between them. */
ALWAYS_INLINE void
NAME(find_limits)(size_t n, double sigma, const struct sums *sums, struct NAME(spread) *spread)
{
    const double variance_unsure = 4.0 * (double)(n + 4) * 0x1p-53;
    const SAMPLE unsure =
        (SAMPLE)(bound_uncertainty(sigma) * (double)n + 8.0 * (double)FLT_EPSILON);
    for (size_t p = 0; p < WIDTH; p++) {
        const double inverse = 1.0 / (double)sums->n_kept[p];
        const double mean = sums->sci[p] * inverse, square = spread->square[p] * inverse;
        const SAMPLE variance = (SAMPLE)(square - mean * mean - variance_unsure * square);
        const SAMPLE least = spread->least[p], most = spread->most[p];
        const SAMPLE reach = (SAMPLE)sigma * NAME(sqrt)(variance);
        const SAMPLE farthest = -least > most ? -least : most;
        const SAMPLE margin = unsure * (farthest + reach) + (SAMPLE)FLT_TRUE_MIN;
        const SAMPLE low = most - reach + margin, high = least + reach - margin;
        const int told = (variance >= NAME(smallest)) & (variance <= NAME(largest)) &
                         NAME(plain)(least, most);
        spread->low[p] = told ? low : (SAMPLE)HUGE_VAL;
        spread->high[p] = told ? high : -(SAMPLE)HUGE_VAL;
    }
}

/* List the pixels in which clipping may reject something, since their median is not told
 * to be between their limits; returns their number. */
ALWAYS_INLINE size_t
NAME(find_open)(const SAMPLE *samples,
                size_t n,
                const int32_t *n_kept,
                const struct NAME(spread) *spread,
                uint16_t *open)
{
    size_t n_open = 0;
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector)) {
        NAME(vector) least, most;
        NAME(bits) count;
        memcpy(&least, spread->least + p, sizeof least);
        memcpy(&most, spread->most + p, sizeof most);
        for (size_t l = 0; l < NAME(per_vector); l++)
            count[l] = n_kept[p + l];
        const NAME(bits) settled = NAME(has_median_between)(samples + p, n, count,
                                                            spread->low + p, spread->high + p);
        unsigned set = NAME(set)((least < most) & ~settled);
        for (; set; set &= set - 1)
            open[n_open++] = (uint16_t)(p + (size_t)__builtin_ctz(set));
    }
    return n_open;
}

/* Sums of a tile over all its samples; with `spread` what tells which pixels are open. */
ALWAYS_INLINE void
NAME(add_up_tile)(const SAMPLE *samples,
                  const SAMPLE *errors,
                  size_t n,
                  struct sums *sums,
                  struct NAME(spread) *spread)
{
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector))
        if (errors && spread)
            NAME(add_up_vector)(samples, errors, n, p, sums, spread);
        else if (errors)
            NAME(add_up_vector)(samples, errors, n, p, sums, NULL);
        else if (spread)
            NAME(add_up_vector)(samples, NULL, n, p, sums, spread);
        else
            NAME(add_up_vector)(samples, NULL, n, p, sums, NULL);
}

/* Clip a tile: replace the sums of pixels in which something is rejected. */
ALWAYS_INLINE void
NAME(clip_tile)(const SAMPLE *samples,
                const SAMPLE *errors,
                size_t n,
                const struct clip *clip,
                struct NAME(spread) *spread,
                struct sums *sums,
                int64_t *n_rejected,
                const struct scratch *s)
{
    uint16_t open[WIDTH + BATCH];
    NAME(find_limits)(n, clip->sigma, sums, spread);
    const size_t n_open = NAME(find_open)(samples, n, sums->n_kept, spread, open);
    memset(open + n_open, 0, BATCH * sizeof *open); /* any pixel fills up the last batch */
    for (size_t first = 0; first < n_open; first += BATCH)
        NAME(clip_batch)(samples, errors, n, open + first,
                         n_open - first < BATCH ? n_open - first : BATCH, clip, spread->square,
                         sums, n_rejected, s);
}

/* Average one tile: `count` pixels from `start`; the rest of WIDTH is padding.
 * `clip` NULL: nothing is to be rejected. */
static NEVER_INLINE void
NAME(clip_one)(const struct offsky_stack *stack,
               const struct offsky_plane *err,
               const struct clip *clip,
               size_t start,
               size_t count,
               const struct offsky_result *result,
               struct offsky_counts *counts,
               const struct scratch *s)
{
    const size_t n = stack->n_exposures;
    SAMPLE *samples = s->samples, *errors = err ? s->errors : NULL;
    struct sums sums;
    struct NAME(spread) spread;

    NAME(load_samples)(stack, start, count, samples, result);
    if (errors)
        NAME(load_rows)(err, n, start, count, errors);
    NAME(add_up_tile)(samples, errors, n, &sums, clip ? &spread : NULL);
    if (clip)
        NAME(clip_tile)(samples, errors, n, clip, &spread, &sums, result->n_rejected, s);
    if (result->dq && stack->dq)
        store_flags(stack, start, count, result->dq + start);
    store_tile(result, start, count, errors != NULL, &sums, counts);
}
