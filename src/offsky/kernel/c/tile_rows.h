/* What both averages do with the rows of a tile, for one precision of the samples.
 *
 * Included twice by each, with SAMPLE (float or double), SAMPLE_BITS (the integer of its
 * size) and NAME() defined.  A tile is WIDTH pixels by n exposures, one row an exposure,
 * small enough to stay in cache.
 */

/* A sample that is not finite is missing, and what is missing is NaN in a tile. */
ALWAYS_INLINE SAMPLE
NAME(or_missing)(SAMPLE x)
{
    return x + x * (SAMPLE)0.0;
}

/* Read floats, or doubles, into a tile row; see plane.h for `adjusts`.  Adding -0.0 changes
 * no number, not even a zero.  `swap` and `adjusts` are constants. */
#define DEFINE_LOAD(name, REAL, BITS, as_real, swapped_bits)                                    \
    ALWAYS_INLINE void name(const struct offsky_plane *plane, size_t start, size_t count,       \
                            int swap, int adjusts, SAMPLE *restrict row)                        \
    {                                                                                           \
        const BITS *restrict in = (const BITS *)plane->pixels + start;                          \
        const REAL factor = (REAL)plane->factor;                                                \
        const REAL offset = plane->offset != 0.0 ? (REAL)plane->offset : (REAL)-0.0;            \
        for (size_t p = 0; p < count; p++) {                                                    \
            REAL x = as_real(swap ? swapped_bits(in[p]) : in[p]);                               \
            if (adjusts)                                                                        \
                x = x * factor + offset;                                                        \
            row[p] = NAME(or_missing)((SAMPLE)x);                                               \
        }                                                                                       \
    }
DEFINE_LOAD(NAME(load_floats), float, uint32_t, as_float, __builtin_bswap32)
DEFINE_LOAD(NAME(load_doubles), double, uint64_t, as_double, __builtin_bswap64)
#undef DEFINE_LOAD

/* Read planes into tile rows, in the machine's byte order.  Missing are also the
 * rest of a row after `count` pixels and a plane without pixels. */
ALWAYS_INLINE void
NAME(load_rows)(
    const struct offsky_plane *planes, size_t n, size_t start, size_t count, SAMPLE *rows)
{
    for (size_t r = 0; r < n; r++) {
        const struct offsky_plane *plane = &planes[r];
        const int adjusts = plane->factor != 1.0 || plane->offset != 0.0;
        SAMPLE *restrict row = rows + r * WIDTH;
        size_t p = plane->pixels ? count : 0;
        if (plane->pixels && plane->kind == OFFSKY_F32) {
            prefetch((const uint32_t *)plane->pixels + start + WIDTH, WIDTH * sizeof(uint32_t));
            if (adjusts && plane->swap)
                NAME(load_floats)(plane, start, count, 1, 1, row);
            else if (adjusts)
                NAME(load_floats)(plane, start, count, 0, 1, row);
            else if (plane->swap)
                NAME(load_floats)(plane, start, count, 1, 0, row);
            else
                NAME(load_floats)(plane, start, count, 0, 0, row);
        } else if (plane->pixels) {
            prefetch((const uint64_t *)plane->pixels + start + WIDTH, WIDTH * sizeof(uint64_t));
            if (plane->swap)
                NAME(load_doubles)(plane, start, count, 1, 1, row);
            else
                NAME(load_doubles)(plane, start, count, 0, 1, row);
        }
        for (; p < WIDTH; p++)
            row[p] = (SAMPLE)NAN;
    }
}

/* Leave out samples that a mask says to skip; those that were there are counted. */
static NEVER_INLINE void
NAME(leave_out_skipped)(const struct offsky_plane *skip,
                        size_t n,
                        size_t start,
                        size_t count,
                        SAMPLE *samples,
                        int64_t *n_masked)
{
    for (size_t r = 0; r < n; r++) {
        const unsigned char *restrict mask = (const unsigned char *)skip[r].pixels;
        SAMPLE *restrict row = samples + r * WIDTH;
        SAMPLE_BITS masked = 0;
        if (!mask)
            continue;
        for (size_t p = 0; p < count; p++) {
            const SAMPLE x = row[p];
            masked += (mask[start + p] != 0) & (x == x);
            row[p] = mask[start + p] ? (SAMPLE)NAN : x;
        }
        if (n_masked)
            n_masked[r] += masked;
    }
}

/* The samples of a tile; NaN what is missing. */
ALWAYS_INLINE void
NAME(load_samples)(const struct offsky_stack *stack,
                   size_t start,
                   size_t count,
                   SAMPLE *samples,
                   const struct offsky_result *result)
{
    NAME(load_rows)(stack->sci, stack->n_exposures, start, count, samples);
    if (stack->skip)
        NAME(leave_out_skipped)(stack->skip, stack->n_exposures, start, count, samples,
                                result->n_masked);
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
    store_counts(n_kept, sums->n_kept + p);
    store_counts(n_err, sums->n_err + p);
}

/* Whether more than half of `count` samples are at least `low`, and more than half at most
 * `high`: a mask for one vector of pixels. */
ALWAYS_INLINE NAME(bits)
NAME(has_median_between)(const SAMPLE *samples,
                         size_t n,
                         NAME(bits) count,
                         const SAMPLE *low,
                         const SAMPLE *high)
{
    NAME(vector) from, to;
    NAME(bits) above = {0}, below = {0};
    memcpy(&from, low, sizeof from);
    memcpy(&to, high, sizeof to);
    for (size_t r = 0; r < n; r++) {
        NAME(vector) x;
        memcpy(&x, samples + r * WIDTH, sizeof x);
        above -= x >= from;
        below -= x <= to;
    }
    return (above + above > count) & (below + below > count);
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
 * algorithm M); those of one block are of consecutive rows.  Of two equal samples each
 * comes out once, also of zeros of both signs. */
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
                    NAME(vector) a, b;
                    memcpy(&a, low + i, sizeof a);
                    memcpy(&b, high + i, sizeof b);
                    const NAME(vector) least = NAME(smaller)(a, b), most = NAME(larger)(b, a);
                    memcpy(low + i, &least, sizeof least);
                    memcpy(high + i, &most, sizeof most);
                }
            }
}
