/* The sigma clip of a batch of open pixels side by side, for one precision of the samples.
 *
 * Included twice by clip.c, before clip_tile.h.  Each of BATCH pixels has a column of
 * n samples, sorted: clipping removes from its two ends only, so that a pass is a window
 * that shrinks.
 */

/* What is inside the bounds of each pixel: how many samples are below and inside, and the
 * sums of their distances from `pivot` and of the squares of those.  `was_low` and `was_high`
 * are the bounds of the pass before.  The sums are those of `n_summed` samples, of squares
 * `summed`, from which what has left the window since was taken away: that tells how far
 * they may be rounded. */
struct NAME(windows) {
    SAMPLE low[BATCH], high[BATCH], pivot[BATCH], was_low[BATCH], was_high[BATCH];
    SAMPLE_BITS below[BATCH], inside[BATCH], n_summed[BATCH];
    double sum[BATCH], square[BATCH], summed[BATCH];
};

/* Look at all of the columns: a window's counts and sums from its bounds. */
static NEVER_INLINE void
NAME(look_inside)(const SAMPLE *sorted, size_t n, struct NAME(windows) *w)
{
    for (size_t b = 0; b < BATCH; b += NAME(per_vector)) {
        NAME(vector) low, high, pivot;
        NAME(bits) below = {0}, inside = {0};
        NAME(wide) sum = NAME(zero)(), square = NAME(zero)();
        memcpy(&low, w->low + b, sizeof low);
        memcpy(&high, w->high + b, sizeof high);
        memcpy(&pivot, w->pivot + b, sizeof pivot);
        const NAME(wide) minus_pivot = NAME(widen)(-pivot);
        for (size_t i = 0; i < n; i++) {
            NAME(vector) x;
            memcpy(&x, sorted + i * BATCH + b, sizeof x);
            const NAME(bits) in = (x >= low) & (x <= high);
            below -= x < low;
            inside -= in;
            /* What is outside is at distance 0. */
            const NAME(vector) near =
                (NAME(vector))(((NAME(bits))x & in) | ((NAME(bits))pivot & ~in));
            const NAME(wide) off = NAME(plus)(NAME(widen)(near), minus_pivot);
            sum = NAME(plus)(sum, off);
            square = NAME(plus_square)(square, off);
        }
        memcpy(w->below + b, &below, sizeof below);
        memcpy(w->inside + b, &inside, sizeof inside);
        memcpy(w->n_summed + b, &inside, sizeof inside);
        NAME(store_wide)(w->sum + b, sum);
        NAME(store_wide)(w->square + b, square);
        NAME(store_wide)(w->summed + b, square);
    }
}

/* Look at the ends of all columns, as far as samples are outside: take what a pass leaves out
 * away from a window's counts and sums. */
static NEVER_INLINE void
NAME(look_at_ends)(const SAMPLE *sorted, size_t n, struct NAME(windows) *w)
{
    for (size_t b = 0; b < BATCH; b += NAME(per_vector)) {
        NAME(vector) low, high, was_low, was_high, pivot;
        NAME(bits) below = {0}, above = {0};
        double all_sum[NAME(per_vector)], all_square[NAME(per_vector)];
        NAME(wide) sum = NAME(zero)(), square = NAME(zero)();
        memcpy(&low, w->low + b, sizeof low);
        memcpy(&high, w->high + b, sizeof high);
        memcpy(&was_low, w->was_low + b, sizeof was_low);
        memcpy(&was_high, w->was_high + b, sizeof was_high);
        memcpy(&pivot, w->pivot + b, sizeof pivot);
        const NAME(wide) minus_pivot = NAME(widen)(-pivot);
        for (int from_top = 0; from_top < 2; from_top++)
            for (size_t i = 0; i < n; i++) {
                NAME(vector) x;
                memcpy(&x, sorted + (from_top ? n - 1 - i : i) * BATCH + b, sizeof x);
                const NAME(bits) out = from_top ? x > high : x < low;
                if (!NAME(set)(out))
                    break;
                if (from_top)
                    above -= out;
                else
                    below -= out;
                const NAME(bits) leaves = out & (x >= was_low) & (x <= was_high);
                const NAME(vector) near =
                    (NAME(vector))(((NAME(bits))x & leaves) | ((NAME(bits))pivot & ~leaves));
                const NAME(wide) off = NAME(plus)(NAME(widen)(near), minus_pivot);
                sum = NAME(plus)(sum, off);
                square = NAME(plus_square)(square, off);
            }
        const NAME(bits) inside = (SAMPLE_BITS)n - below - above;
        memcpy(w->below + b, &below, sizeof below);
        memcpy(w->inside + b, &inside, sizeof inside);
        NAME(store_wide)(all_sum, sum);
        NAME(store_wide)(all_square, square);
        for (size_t l = 0; l < NAME(per_vector); l++) {
            w->sum[b + l] -= all_sum[l];
            w->square[b + l] -= all_square[l];
        }
    }
}

/* Bounds of one pixel in the reference order: `columns` has its samples in the order of
 * the exposures, infinite where missing.  No sample lies between a bound and its SAMPLE. */
static NEVER_INLINE void
NAME(settle_in_reference_order)(const SAMPLE *columns,
                                size_t n,
                                const struct clip *clip,
                                double *in_order,
                                SAMPLE *low,
                                SAMPLE *high)
{
    double from, to;
    long count = 0;
    for (size_t r = 0; r < n; r++)
        if (columns[r * BATCH] <= NAME(largest))
            in_order[count++] = (double)columns[r * BATCH];
    bounds_in_reference_order(in_order, count, clip->sigma, clip->sigma, clip->maxiters, &from,
                              &to);
    const double most = (double)NAME(largest);
    from = from < -most ? -most : from;
    to = to > most ? most : to;
    *low = (SAMPLE)from;
    *high = (SAMPLE)to;
    if ((double)*low < from)
        *low = NAME(next)(*low, NAME(largest));
    if ((double)*high > to)
        *high = NAME(next)(*high, -NAME(largest));
}

/* Whether rounding may have left so little of a window's variance that it is worth while to
 * add up its samples again. */
ALWAYS_INLINE int
NAME(sums_are_poor)(const struct NAME(windows) *w, size_t b, double sums_unsure)
{
    const double c = (double)w->inside[b], mean = w->sum[b] / c;
    const double variance = w->square[b] / c - mean * mean;
    return !(sums_unsure * w->summed[b] < 1e-6 * variance * c) ||
           4 * w->inside[b] < w->n_summed[b];
}

/* Bounds of the first `used` pixels of a batch, of which the windows have the counts and
 * sums of all samples, about 0; the others get bounds that hold anything.  `columns` has
 * the samples in the order of the exposures. */
static NEVER_INLINE void
NAME(settle_batch)(const SAMPLE *columns,
                   const SAMPLE *sorted,
                   size_t n,
                   size_t used,
                   const struct clip *clip,
                   double *in_order,
                   struct NAME(windows) *w)
{
    /* How far apart sums in any order can put a bound: of the reference, relative to the
     * largest sample (bound_uncertainty()); of the sums here, relative to the mean of the
     * squares summed: n u of both sums, as often again for what was taken away, and the mean
     * squared is at most four times that of a window with a quarter of the samples. */
    const double uncertainty = bound_uncertainty(clip->sigma) * (double)n;
    const double sums_unsure = 16.0 * (double)(n + 4) * 0x1p-53;
    enum { OPEN, SETTLED, UNSURE } state[BATCH];
    double largest[BATCH];

    for (size_t b = 0; b < BATCH; b++) {
        w->low[b] = -NAME(largest);
        w->high[b] = b < used ? NAME(largest) : (SAMPLE)HUGE_VAL;
        w->pivot[b] = 0;
        w->below[b] = 0;
        w->n_summed[b] = w->inside[b];
        w->summed[b] = w->square[b];
        state[b] = SETTLED;
    }
    for (size_t b = 0; b < used; b++) {
        const SAMPLE *column = sorted + b;
        const double first = (double)column[0];
        const double last = (double)column[(size_t)(w->inside[b] - 1) * BATCH];
        largest[b] = -first > last ? -first : last;
        state[b] = NAME(plain)(first, last) ? OPEN : UNSURE;
    }
    for (long pass = 1;; pass++) {
        double low[BATCH], high[BATCH], unsure[BATCH];
        long was_inside[BATCH];
        size_t n_open = 0;
        int look_again = 0;
        for (size_t b = 0; b < used; b++)
            look_again |= state[b] == OPEN && NAME(sums_are_poor)(w, b, sums_unsure);
        if (look_again) {
            for (size_t b = 0; b < used; b++)
                if (state[b] == OPEN)
                    w->pivot[b] = sorted[(size_t)(w->below[b] + w->inside[b] / 2) * BATCH + b];
            NAME(look_inside)(sorted, n, w);
        }
        memcpy(w->was_low, w->low, sizeof w->low);
        memcpy(w->was_high, w->high, sizeof w->high);
        for (size_t b = 0; b < used; b++) {
            if (state[b] != OPEN)
                continue;
            const long inside = (long)w->inside[b], first = (long)w->below[b];
            const double upper = (double)sorted[(size_t)(first + inside / 2) * BATCH + b];
            const double lower = (double)sorted[(size_t)(first + (inside - 1) / 2) * BATCH + b];
            const double centre = 0.5 * (upper + lower), c = (double)inside;
            const double mean = w->sum[b] / c;
            const double deviation = sqrt(w->square[b] / c - mean * mean);
            const double reach = clip->sigma * deviation;
            low[b] = centre - reach;
            high[b] = centre + reach;
            unsure[b] = uncertainty * largest[b] +
                        clip->sigma * (sums_unsure * w->summed[b] / c) / deviation +
                        NAME(rounding) * (largest[b] + reach) + (double)FLT_TRUE_MIN;
            was_inside[b] = inside;
            /* Bounds that widen may take back what a pass has left out. */
            if ((SAMPLE)low[b] < w->low[b] || (SAMPLE)high[b] > w->high[b])
                state[b] = UNSURE;
            w->low[b] = (SAMPLE)low[b];
            w->high[b] = (SAMPLE)high[b];
        }
        NAME(look_at_ends)(sorted, n, w);
        for (size_t b = 0; b < used; b++) {
            if (state[b] != OPEN)
                continue;
            const long first = (long)w->below[b], last = first + (long)w->inside[b];
            const SAMPLE *column = sorted + b;
            const double outside_low = first > 0 ? low[b] - (double)column[(first - 1) * BATCH] : HUGE_VAL;
            const double inside_low = (double)column[(first < (long)n ? first : 0) * BATCH] - low[b];
            const double inside_high = high[b] - (double)column[(last > 0 ? last - 1 : 0) * BATCH];
            const double outside_high = last < (long)n ? (double)column[last * BATCH] - high[b] : HUGE_VAL;
            const double u = unsure[b];
            if (!((outside_low > u) & (inside_low > u) & (inside_high > u) & (outside_high > u)))
                state[b] = UNSURE;
            else if (last - first == was_inside[b] || last == first || pass == clip->maxiters)
                state[b] = SETTLED;
            else
                n_open++;
        }
        if (!n_open)
            break;
    }
    for (size_t b = 0; b < used; b++)
        if (state[b] == UNSURE)
            NAME(settle_in_reference_order)(columns + b, n, clip, in_order, &w->low[b],
                                            &w->high[b]);
}

/* Sums over the samples of a batch inside their bounds, in the order of the exposures;
 * those outside are counted in `n_rejected`.  `errors` may be NULL. */
static NEVER_INLINE void
NAME(add_up_inside)(const SAMPLE *columns,
                    const SAMPLE *errors,
                    size_t n,
                    const uint16_t *open,
                    size_t used,
                    const struct NAME(windows) *w,
                    struct sums *sums,
                    int64_t *n_rejected)
{
    for (size_t b = 0; b < used; b += NAME(per_vector)) {
        NAME(vector) low, high;
        NAME(bits) n_kept = {0}, n_err = {0};
        NAME(wide) sci = NAME(zero)(), variance = NAME(zero)();
        double all_sci[NAME(per_vector)], all_variance[NAME(per_vector)];
        memcpy(&low, w->low + b, sizeof low);
        memcpy(&high, w->high + b, sizeof high);
        for (size_t r = 0; r < n; r++) {
            NAME(vector) x;
            memcpy(&x, columns + r * BATCH + b, sizeof x);
            const NAME(bits) in = (x >= low) & (x <= high);
            n_rejected[r] += __builtin_popcount(NAME(set)((x <= NAME(largest)) & ~in));
            n_kept -= in;
            sci = NAME(plus)(sci, NAME(widen)((NAME(vector))((NAME(bits))x & in)));
            if (errors) {
                NAME(vector) e;
                memcpy(&e, errors + r * BATCH + b, sizeof e);
                const NAME(bits) known = (e == e) & in;
                n_err -= known;
                variance = NAME(plus_square)(
                    variance, NAME(widen)((NAME(vector))((NAME(bits))e & known)));
            }
        }
        NAME(store_wide)(all_sci, sci);
        NAME(store_wide)(all_variance, variance);
        for (size_t l = 0; l < NAME(per_vector) && b + l < used; l++) {
            const size_t p = open[b + l];
            sums->sci[p] = all_sci[l];
            sums->variance[p] = all_variance[l];
            sums->n_kept[p] = (int32_t)n_kept[l];
            sums->n_err[p] = (int32_t)n_err[l];
        }
    }
}

/* Clip a batch of pixels of a tile and replace their sums. */
ALWAYS_INLINE void
NAME(clip_batch)(const SAMPLE *samples,
                 const SAMPLE *errors,
                 size_t n,
                 const uint16_t *open,
                 size_t used,
                 const struct clip *clip,
                 const double *square,
                 struct sums *sums,
                 int64_t *n_rejected,
                 const struct scratch *s)
{
    struct NAME(windows) windows;
    SAMPLE *columns = s->columns, *sorted = s->sorted;
    NAME(gather_columns)(samples, n, open, columns);
    for (size_t b = 0; b < used; b++) {
        windows.inside[b] = sums->n_kept[open[b]];
        windows.sum[b] = sums->sci[open[b]];
        windows.square[b] = square[open[b]];
    }
    for (size_t b = used; b < BATCH; b++)
        for (size_t r = 0; r < n; r++)
            columns[r * BATCH + b] = (SAMPLE)HUGE_VAL;
    memcpy(sorted, columns, n * BATCH * sizeof *sorted);
    NAME(sort_columns)(sorted, n, BATCH);
    NAME(settle_batch)(columns, sorted, n, used, clip, s->in_order, &windows);
    if (errors)
        for (size_t r = 0; r < n; r++)
            for (size_t b = 0; b < BATCH; b++)
                ((SAMPLE *)s->column_errors)[r * BATCH + b] = errors[r * WIDTH + open[b]];
    NAME(add_up_inside)(columns, errors ? s->column_errors : NULL, n, open, used, &windows, sums,
                        n_rejected);
}
