/* What both averages do with the rows of a tile, for one precision of the samples.
 *
 * Included twice by each, with SAMPLE (float or double), SAMPLE_BITS (the integer of its
 * size) and NAME() defined.  A tile is WIDTH pixels by n exposures, one row an exposure,
 * small enough to stay in cache.
 */

/* As many samples as one register holds. */
typedef SAMPLE NAME(vector) __attribute__((vector_size(LANES * sizeof(double))));
typedef SAMPLE_BITS NAME(bits) __attribute__((vector_size(LANES * sizeof(double))));
enum { NAME(per_vector) = sizeof(NAME(vector)) / sizeof(SAMPLE) };

/* LANES samples of a row, as doubles.  A loop, as compilers make one instruction of it
 * but several of __builtin_convertvector (gcc 12). */
ALWAYS_INLINE f64_lanes
NAME(read)(const SAMPLE *from)
{
    f64_lanes v;
    for (int l = 0; l < LANES; l++)
        v[l] = (double)from[l];
    return v;
}

/* LANES samples from anywhere in a row. */
ALWAYS_INLINE f64_lanes
NAME(gather)(const SAMPLE *row, const uint16_t *places)
{
    f64_lanes v;
    for (int l = 0; l < LANES; l++)
        v[l] = (double)row[places[l]];
    return v;
}

/* A sample that is not finite is missing, and what is missing is NaN in a tile. */
ALWAYS_INLINE SAMPLE
NAME(or_missing)(SAMPLE x)
{
    return x + x * (SAMPLE)0.0;
}

/* Read planes into tile rows, in the machine's byte order.  Missing are also the
 * rest of a row after `count` pixels and a plane without pixels. */
ALWAYS_INLINE void
NAME(load_rows)(
    const struct offsky_plane *planes, size_t n, size_t start, size_t count, SAMPLE *rows)
{
    for (size_t r = 0; r < n; r++) {
        const struct offsky_plane *plane = &planes[r];
        SAMPLE *restrict row = rows + r * WIDTH;
        size_t p = 0;
        if (plane->pixels && plane->kind == OFFSKY_F32) {
            const uint32_t *restrict in = (const uint32_t *)plane->pixels + start;
            if (plane->swap)
                for (; p < count; p++)
                    row[p] = NAME(or_missing)((SAMPLE)as_float(__builtin_bswap32(in[p])));
            else
                for (; p < count; p++)
                    row[p] = NAME(or_missing)((SAMPLE)as_float(in[p]));
        } else if (plane->pixels) {
            const uint64_t *restrict in = (const uint64_t *)plane->pixels + start;
            if (plane->swap)
                for (; p < count; p++)
                    row[p] = NAME(or_missing)((SAMPLE)as_double(__builtin_bswap64(in[p])));
            else
                for (; p < count; p++)
                    row[p] = NAME(or_missing)((SAMPLE)as_double(in[p]));
        }
        for (; p < WIDTH; p++)
            row[p] = (SAMPLE)NAN;
    }
}

/* Sums over all samples of LANES pixels, in the order of the exposures.  `errors` may be
 * NULL. */
ALWAYS_INLINE void
NAME(add_up)(const SAMPLE *samples, const SAMPLE *errors, size_t n, struct sums *sums, size_t p)
{
    f64_lanes sci = {0.0}, variance = {0.0};
    i64_lanes n_kept = {0}, n_err = {0};
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
        const i64_lanes there = x == x;
        sci += where(there, x);
        n_kept -= there;
        if (errors) {
            const f64_lanes e = NAME(read)(errors + r * WIDTH + p);
            const i64_lanes known = (e == e) & there;
            const f64_lanes err = where(known, e);
            variance += err * err;
            n_err -= known;
        }
    }
    memcpy(sums->sci + p, &sci, sizeof sci);
    memcpy(sums->variance + p, &variance, sizeof variance);
    memcpy(sums->n_kept + p, &n_kept, sizeof n_kept);
    memcpy(sums->n_err + p, &n_err, sizeof n_err);
}

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

/* Sigma times the standard deviation of LANES pixels: how far from the median their
 * first bounds are. */
ALWAYS_INLINE void
NAME(find_reach)(const SAMPLE *samples,
                 size_t n,
                 double sigma,
                 const double *sum,
                 const double *count,
                 double *reach)
{
    f64_lanes mean, inverse, square = {0.0};
    memcpy(&mean, sum, sizeof mean);
    memcpy(&inverse, count, sizeof inverse);
    inverse = 1.0 / inverse;
    mean *= inverse;
    for (size_t r = 0; r < n; r++) {
        const f64_lanes x = NAME(read)(samples + r * WIDTH);
        const f64_lanes off = where(x == x, x - mean);
        square += off * off;
    }
    square *= inverse;
    for (int l = 0; l < LANES; l++)
        reach[l] = sigma * sqrt(square[l]);
}

/* Whether more than half of the samples are at least `low`, and more than half at most
 * `high`: a mask for one vector of pixels. */
ALWAYS_INLINE NAME(bits)
NAME(has_median_between)(const SAMPLE *samples,
                         size_t n,
                         const SAMPLE_BITS *count,
                         const SAMPLE *low,
                         const SAMPLE *high)
{
    NAME(vector) from, to;
    NAME(bits) total, above = {0}, below = {0};
    memcpy(&from, low, sizeof from);
    memcpy(&to, high, sizeof to);
    memcpy(&total, count, sizeof total);
    for (size_t r = 0; r < n; r++) {
        NAME(vector) x;
        memcpy(&x, samples + r * WIDTH, sizeof x);
        above -= x >= from;
        below -= x <= to;
    }
    return (above + above > total) & (below + below > total);
}

/* The columns of BATCH pixels, next to each other; missing samples become infinite,
 * to be sorted to the end. */
ALWAYS_INLINE void
NAME(gather_columns)(const SAMPLE *samples, size_t n, const uint16_t *places, SAMPLE *columns)
{
    for (size_t r = 0; r < n; r++)
        for (size_t b = 0; b < BATCH; b++)
            columns[r * BATCH + b] = samples[r * WIDTH + places[b]];
    for (size_t i = 0; i < n * BATCH; i++)
        columns[i] = columns[i] == columns[i] ? columns[i] : (SAMPLE)HUGE_VAL;
}

/* Sort `width` columns: the same compare-exchanges for all, whatever their values.
 * Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2,
 * algorithm M); those of one block are of consecutive rows.  They exchange by a mask,
 * as gcc 12 makes no vectors of a minimum and a maximum here. */
ALWAYS_INLINE void
NAME(sort_columns)(SAMPLE *columns, size_t n, size_t width)
{
    for (size_t merge = 1; merge < n; merge *= 2)
        for (size_t apart = merge; apart >= 1; apart /= 2)
            for (size_t block = apart % merge; block + apart < n; block += 2 * apart) {
                if ((block ^ (block + apart)) >= 2 * merge)
                    continue;
                const size_t rows = block + 2 * apart <= n ? apart : n - apart - block;
                SAMPLE *low = columns + block * width, *high = low + apart * width;
                for (size_t i = 0; i < rows * width; i += NAME(per_vector)) {
                    NAME(bits) a, b;
                    memcpy(&a, low + i, sizeof a);
                    memcpy(&b, high + i, sizeof b);
                    const NAME(bits) swap = (a ^ b) & ((NAME(vector))a > (NAME(vector))b);
                    a ^= swap;
                    b ^= swap;
                    memcpy(low + i, &a, sizeof a);
                    memcpy(high + i, &b, sizeof b);
                }
            }
}
