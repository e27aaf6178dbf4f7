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

/* Sums over the samples of one vector of pixels that are there, in the order of the
 * exposures; returns the sum of their squares if that is wanted.  `errors` (NULL for none)
 * and `squares` are constants. */
ALWAYS_INLINE NAME(wide)
NAME(add_up)(const SAMPLE *samples,
             const SAMPLE *errors,
             size_t n,
             int squares,
             struct sums *sums,
             size_t p)
{
    NAME(wide) sci = NAME(zero)(), square = NAME(zero)(), variance = NAME(zero)();
    NAME(bits) n_kept = {0}, n_err = {0};
    for (size_t r = 0; r < n; r++) {
        NAME(vector) v;
        memcpy(&v, samples + r * WIDTH + p, sizeof v);
        const NAME(bits) there = v == v;
        const NAME(wide) x = NAME(widen)((NAME(vector))((NAME(bits))v & there));
        sci = NAME(plus)(sci, x);
        n_kept -= there;
        if (squares)
            square = NAME(plus_square)(square, x);
        if (errors) {
            NAME(vector) e;
            memcpy(&e, errors + r * WIDTH + p, sizeof e);
            const NAME(bits) known = (e == e) & there;
            variance = NAME(plus_square)(
                variance, NAME(widen)((NAME(vector))((NAME(bits))e & known)));
            n_err -= known;
        }
    }
    NAME(store_wide)(sums->sci + p, sci);
    NAME(store_wide)(sums->variance + p, variance);
    for (size_t l = 0; l < NAME(per_vector); l++) {
        sums->n_kept[p + l] = (int32_t)n_kept[l];
        sums->n_err[p + l] = (int32_t)n_err[l];
    }
    return square;
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

/* Put the smaller of two vectors first. */
ALWAYS_INLINE void
NAME(exchange)(NAME(vector) *a, NAME(vector) *b)
{
    const NAME(vector) least = NAME(smaller)(*a, *b);
    *b = NAME(larger)(*b, *a);
    *a = least;
}

ALWAYS_INLINE NAME(vector)
NAME(take)(const SAMPLE *from)
{
    NAME(vector) v;
    memcpy(&v, from, sizeof v);
    return v;
}

ALWAYS_INLINE void
NAME(put)(SAMPLE *to, NAME(vector) v)
{
    memcpy(to, &v, sizeof v);
}

/* Compare `rows` rows with those `apart` rows on. */
ALWAYS_INLINE void
NAME(exchange_rows)(SAMPLE *low, size_t rows, size_t apart, size_t width)
{
    for (size_t i = 0; i < rows * width; i += NAME(per_vector)) {
        NAME(vector) a = NAME(take)(low + i), b = NAME(take)(low + apart * width + i);
        NAME(exchange)(&a, &b);
        NAME(put)(low + i, a);
        NAME(put)(low + apart * width + i, b);
    }
}

/* The merging steps `2 apart` and `apart` of a block of rows, of which the first step, with
 * rows half the block apart, is over: both in one reading.  Row k is `apart` rows after row
 * k - 1; of the first step rows 4q + 2 and 4q + 4 are compared, and 4q + 3 and 4q + 5, of the
 * second step 2q + 1 and 2q + 2.  `whole` rows of the block are there. */
ALWAYS_INLINE void
NAME(merge_twice)(SAMPLE *block, size_t whole, size_t apart, size_t n_steps, size_t width)
{
    const size_t stride = apart * width;
    const NAME(vector) nothing = (NAME(vector)){0} + (SAMPLE)HUGE_VAL;
    for (size_t row = 0; row < apart && row + apart < whole; row++)
        for (size_t i = 0; i < width; i += NAME(per_vector)) {
            SAMPLE *at = block + row * width + i + stride;
            size_t place = row + apart; /* the row that is carried */
            NAME(vector) carried = NAME(take)(at);
            for (size_t q = 0; q < n_steps && place + apart < whole; q++) {
                const int third = place + 2 * apart < whole, fourth = place + 3 * apart < whole;
                const int fifth = place + 4 * apart < whole;
                NAME(vector) b = NAME(take)(at + stride);
                NAME(vector) c = third ? NAME(take)(at + 2 * stride) : nothing;
                NAME(vector) d = fourth ? NAME(take)(at + 3 * stride) : nothing;
                NAME(vector) e = fifth ? NAME(take)(at + 4 * stride) : nothing;
                NAME(exchange)(&b, &d);
                NAME(exchange)(&c, &e);
                NAME(exchange)(&carried, &b);
                NAME(exchange)(&c, &d);
                NAME(put)(at, carried);
                NAME(put)(at + stride, b);
                if (third)
                    NAME(put)(at + 2 * stride, c);
                if (fourth)
                    NAME(put)(at + 3 * stride, d);
                carried = e;
                at += 4 * stride;
                place += 4 * apart;
                if (!fifth)
                    break;
            }
            if (place < whole) {
                if (place + apart < whole) {
                    NAME(vector) last = NAME(take)(at + stride);
                    NAME(exchange)(&carried, &last);
                    NAME(put)(at + stride, last);
                }
                NAME(put)(at, carried);
            }
        }
}

/* The first two steps of merging two sorted runs of `run` rows: rows run apart, then half
 * as much. */
ALWAYS_INLINE void
NAME(merge_first)(SAMPLE *block, size_t whole, size_t run, size_t width)
{
    const size_t half = run / 2, stride = half * width;
    for (size_t row = 0; row < half && row + 2 * half < whole; row++)
        for (size_t i = 0; i < width; i += NAME(per_vector)) {
            SAMPLE *at = block + row * width + i;
            const int fourth = row + 3 * half < whole;
            NAME(vector) a = NAME(take)(at), b = NAME(take)(at + stride);
            NAME(vector) c = NAME(take)(at + 2 * stride);
            NAME(exchange)(&a, &c);
            if (fourth) {
                NAME(vector) d = NAME(take)(at + 3 * stride);
                NAME(exchange)(&b, &d);
                NAME(put)(at + 3 * stride, d);
            }
            NAME(exchange)(&b, &c);
            NAME(put)(at, a);
            NAME(put)(at + stride, b);
            NAME(put)(at + 2 * stride, c);
        }
}

/* Sort four rows, or as many as there are. */
ALWAYS_INLINE void
NAME(sort_four)(SAMPLE *rows, size_t whole, size_t width)
{
    if (whole >= 4)
        for (size_t i = 0; i < width; i += NAME(per_vector)) {
            SAMPLE *at = rows + i;
            NAME(vector) a = NAME(take)(at), b = NAME(take)(at + width);
            NAME(vector) c = NAME(take)(at + 2 * width), d = NAME(take)(at + 3 * width);
            NAME(exchange)(&a, &b);
            NAME(exchange)(&c, &d);
            NAME(exchange)(&a, &c);
            NAME(exchange)(&b, &d);
            NAME(exchange)(&b, &c);
            NAME(put)(at, a);
            NAME(put)(at + width, b);
            NAME(put)(at + 2 * width, c);
            NAME(put)(at + 3 * width, d);
        }
    if (whole == 2 || whole == 3)
        NAME(exchange_rows)(rows, 1, 1, width);
    if (whole == 3) {
        NAME(exchange_rows)(rows, 1, 2, width);
        NAME(exchange_rows)(rows + width, 1, 1, width);
    }
}

/* Sort `width` columns: the same compare-exchanges for all, whatever their values.
 * Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2,
 * algorithm M), two steps of it at a time, since reading and writing rows takes longer than
 * comparing them.  Of two equal samples each comes out once, also of zeros of both signs. */
ALWAYS_INLINE void
NAME(sort_columns)(SAMPLE *columns, size_t n, size_t width)
{
    for (size_t first = 0; first < n; first += 4)
        NAME(sort_four)(columns + first * width, n - first < 4 ? n - first : 4, width);
    for (size_t run = 4; run < n; run *= 2)
        for (size_t first = 0; first + run < n; first += 2 * run) {
            SAMPLE *block = columns + first * width;
            const size_t whole = n - first < 2 * run ? n - first : 2 * run;
            NAME(merge_first)(block, whole, run, width);
            size_t apart = run / 4;
            for (; apart >= 2; apart /= 4)
                NAME(merge_twice)(block, whole, apart / 2, run / apart - 1, width);
            if (apart == 1)
                for (size_t row = 1; row + 1 < whole; row += 2)
                    NAME(exchange_rows)(block + row * width, 1, 1, width);
        }
}
