/* Rejection of samples by the others of their pixel, in one tile, for one precision.
 *
 * Included twice by average.c, before reject_tile.h.  kept_by_error() in twin_reject.py has the
 * formulas.  Pixels in which something may be rejected are found in the precision of the tile,
 * with the least ERR instead of the typical one and a margin for rounding; they, the open ones,
 * are settled LANES at a time in double.
 */

/* Whether g and what ERR is multiplied by are plain enough in the tile's precision, and the
 * thresholds far from nothing; if not, every pixel is open. */
static int
NAME(can_screen)(const struct depths *depths, const struct rejection *how, size_t n)
{
    const double largest = depths->largest_weight;
    double least = largest;
    for (size_t r = 0; r < n; r++)
        least = depths->weights[r] < least ? depths->weights[r] : least;
    return least > 1e-12 * largest && largest > 1e-18 && largest < 1e18 &&
           how->lower > 1e-3 && how->upper > 1e-3;
}

ALWAYS_INLINE NAME(vector)
NAME(size)(NAME(vector) x)
{
    return NAME(larger)(x, -x);
}

/* Floats surely below, and above; they need not be close. */
ALWAYS_INLINE void
NAME(store_lower)(NAME(vector) x, float *to)
{
    const NAME(vector) bound = x - (SAMPLE)(ULPS * FLT_EPSILON) * NAME(size)(x);
    for (size_t l = 0; l < NAME(per_vector); l++)
        to[l] = (float)bound[l];
}

ALWAYS_INLINE void
NAME(store_upper)(NAME(vector) x, float *to)
{
    const NAME(vector) bound = x + (SAMPLE)(ULPS * FLT_EPSILON) * NAME(size)(x);
    for (size_t l = 0; l < NAME(per_vector); l++)
        to[l] = (float)bound[l];
}

/* List the pixels in which a sample may be rejected; returns their number. */
static NEVER_INLINE size_t
NAME(find_doubtful)(const SAMPLE *samples,
                    const SAMPLE *errors,
                    size_t n,
                    const struct rejection *how,
                    const struct depths *depths,
                    struct trace *trace,
                    uint16_t *open)
{
    const SAMPLE epsilon = (SAMPLE)(sizeof(SAMPLE) == sizeof(float) ? (double)FLT_EPSILON : DBL_EPSILON);
    const SAMPLE rounding = epsilon * (SAMPLE)(2 * n + 32);
    const SAMPLE *weights = depths->NAME(weights), *inverse = depths->NAME(inverse);
    const NAME(vector) none = {0}, infinite = none + (SAMPLE)HUGE_VAL;
    const NAME(vector) upper = none + (SAMPLE)(how->upper * how->upper);
    const NAME(vector) lower = none + (SAMPLE)(how->lower * how->lower);
    const NAME(vector) sharpest = none + (SAMPLE)sqrt(depths->largest_weight) * ((SAMPLE)1.0 + rounding);
    SAMPLE_BITS is_open[WIDTH];

    for (size_t p = 0; p < WIDTH; p += NAME(per_vector)) {
        NAME(vector) least = infinite, most = -infinite;
        NAME(vector) least_error = infinite, most_error = -infinite;
        NAME(bits) any_known = {0};
        for (size_t r = 0; r < n; r++) {
            const NAME(vector) x = NAME(take)(samples + r * WIDTH + p);
            const NAME(vector) e = NAME(take)(errors + r * WIDTH + p);
            const NAME(bits) known = (x == x) & (e > none);
            const NAME(vector) scaled =
                (NAME(vector))(((NAME(bits))(e * inverse[r]) & known) | ((NAME(bits))infinite & ~known));
            least = NAME(smaller)(x, least);
            most = NAME(larger)(x, most);
            least_error = NAME(smaller)(scaled, least_error);
            if (trace)
                most_error = NAME(larger)(
                    (NAME(vector))(((NAME(bits))scaled & known) | ((NAME(bits))-infinite & ~known)),
                    most_error);
            any_known |= known;
        }
        NAME(vector) sum = none, total = none;
        for (size_t r = 0; r < n; r++) {
            const NAME(vector) x = NAME(take)(samples + r * WIDTH + p);
            const NAME(bits) there = x == x;
            total += (NAME(vector))((NAME(bits))(none + weights[r]) & there);
            sum += (NAME(vector))((NAME(bits))(weights[r] * (x - least)) & there);
        }
        const NAME(vector) range = most - least;
        const NAME(vector) mean = sum / total;
        const NAME(vector) margin = rounding * range, slack = rounding * total;
        const NAME(vector) sharpness = sharpest / least_error;
        NAME(bits) far = {0};
        for (size_t r = 0; r < n; r++) {
            const NAME(vector) x = NAME(take)(samples + r * WIDTH + p);
            const NAME(vector) off = (x - least) - mean;
            const NAME(bits) above = off > none;
            const NAME(vector) threshold =
                (NAME(vector))(((NAME(bits))upper & above) | ((NAME(bits))lower & ~above));
            const NAME(vector) size = (NAME(vector))(((NAME(bits))off & above) | ((NAME(bits))-off & ~above));
            const NAME(vector) z = (size + margin) * sharpness;
            far |= z * z * (weights[r] * total) > threshold * (total - weights[r] - slack);
        }
        /* Neither overflow nor what is lost of it may settle a pixel. */
        const NAME(bits) strange = ~(range < (SAMPLE)(sizeof(SAMPLE) == sizeof(float) ? 1e30 : 1e300)) |
                                   (any_known & ~(least_error < infinite));
        const NAME(bits) doubtful = (least < most) & any_known & (far | strange);
        memcpy(is_open + p, &doubtful, sizeof doubtful);
        if (trace) {
            const NAME(vector) middle = least + mean;
            const NAME(vector) doubt = margin + rounding * (NAME(size)(least) + range);
            NAME(store_lower)(middle - doubt, trace->least_mean + p);
            NAME(store_lower)(least_error, trace->least_error + p);
            NAME(store_upper)(middle + doubt, trace->most_mean + p);
            NAME(store_upper)(most_error, trace->most_error + p);
        }
    }
    size_t n_open = 0;
    for (size_t p = 0; p < WIDTH; p++) {
        open[n_open] = (uint16_t)p;
        n_open += is_open[p] != 0;
    }
    return n_open;
}

/* Settle LANES pixels. */
static NEVER_INLINE void
NAME(settle_lanes)(SAMPLE *samples,
                   const SAMPLE *errors,
                   size_t n,
                   const uint16_t *places,
                   size_t n_places,
                   const struct rejection *how,
                   const struct depths *depths,
                   struct trace *trace,
                   int64_t *n_rejected)
{
    f64_lanes *x = depths->x, *scaled = depths->scaled;
    f64_lanes least = (f64_lanes){0.0} + HUGE_VAL, most = (f64_lanes){0.0};
    i64_lanes n_known = {0};
    long count[LANES] = {0};
    for (size_t r = 0; r < n; r++)
        for (size_t l = 0; l < LANES; l++) {
            const size_t at = r * WIDTH + places[l < n_places ? l : 0];
            x[r][l] = (double)samples[at];
            scaled[r][l] = (double)errors[at];
        }
    for (size_t r = 0; r < n; r++) {
        const i64_lanes there = x[r] == x[r], known = there & (scaled[r] > 0.0);
        const f64_lanes e = scaled[r] * depths->inverse[r];
        scaled[r] = (f64_lanes)(((i64_lanes)e & known) | ~known); /* NaN where unknown */
        least = f64_smaller(scaled[r], least);
        most = f64_larger(scaled[r], most);
        n_known -= known;
        for (size_t l = 0; l < LANES; l++)
            count[l] -= (long)there[l];
    }
    /* Square of the typical ERR between these; NaN until it is needed. */
    f64_lanes square = (f64_lanes){0.0} + (double)NAN;
    for (size_t l = 0; l < LANES; l++)
        if (n_known[l] == 2) {
            const double second = most[l] < 2.0 * least[l] ? most[l] : 2.0 * least[l];
            const double typical = 0.5 * (second + least[l]);
            square[l] = typical * typical;
        }
    const f64_lanes surely_not = least * least, surely = most * most;
    const long least_kept = how->min_keep > 1 ? how->min_keep : 1;
    const f64_lanes upper = (f64_lanes){0.0} + how->upper * how->upper;
    const f64_lanes lower = (f64_lanes){0.0} + how->lower * how->lower;

    i64_lanes changing = n_known > 0;
    for (size_t l = n_places; l < LANES; l++)
        changing[l] = 0;
    for (long pass = 0; pass != how->maxiters; pass++) {
        f64_lanes total = {0.0}, sum = {0.0};
        f64_lanes lowest = (f64_lanes){0.0} + HUGE_VAL, highest = (f64_lanes){0.0} - HUGE_VAL;
        i64_lanes many;
        for (size_t l = 0; l < LANES; l++)
            many[l] = count[l] > 2 ? -1 : 0;
        for (size_t r = 0; r < n; r++) {
            const i64_lanes there = x[r] == x[r];
            total += where(there, (f64_lanes){0.0} + depths->weights[r]);
            sum += where(there, depths->weights[r] * x[r]);
            lowest = f64_smaller(x[r], lowest);
            highest = f64_larger(x[r], highest);
        }
        const f64_lanes mean = sum / total;
        f64_lanes worst = {0.0}, of_worst = (f64_lanes){0.0} - HUGE_VAL;
        i64_lanes place = {0};
        for (size_t r = 0; r < n; r++) {
            const f64_lanes off = x[r] - mean;
            const i64_lanes above = off > 0.0;
            const f64_lanes threshold = where(above, upper) + where(~above, lower);
            const f64_lanes excess =
                off * off * depths->weights[r] / ((total - depths->weights[r]) * threshold);
            const i64_lanes chosen = (x[r] == x[r]) & (many | above) &
                                     ((excess > worst) | ((excess == worst) & (x[r] > of_worst)));
            worst = (f64_lanes)(((i64_lanes)excess & chosen) | ((i64_lanes)worst & ~chosen));
            of_worst = (f64_lanes)(((i64_lanes)x[r] & chosen) | ((i64_lanes)of_worst & ~chosen));
            place = (chosen & (int64_t)r) | (place & ~chosen);
        }
        const f64_lanes ratio = worst * total;
        const i64_lanes in_doubt = changing & (lowest < highest) & (ratio > surely_not);
        int goes_on = 0;
        for (size_t l = 0; l < LANES; l++) {
            changing[l] = 0;
            if (!in_doubt[l] || count[l] <= least_kept)
                continue;
            if (!(ratio[l] > surely[l]) || n_known[l] == 2) {
                if (isnan(square[l])) {
                    long known = 0;
                    for (size_t r = 0; r < n; r++)
                        if (scaled[r][l] == scaled[r][l])
                            depths->column[known++] = scaled[r][l];
                    const double typical = median_by_selection(depths->column, known);
                    square[l] = typical * typical;
                }
                if (!(ratio[l] > square[l]))
                    continue;
            }
            changing[l] = -1;
            goes_on = 1;
            count[l]--;
            x[place[l]][l] = (double)NAN;
            samples[(size_t)place[l] * WIDTH + places[l]] = (SAMPLE)NAN;
            n_rejected[place[l]]++;
            if (trace)
                mark_rejected(trace, (size_t)place[l], places[l]);
        }
        if (!goes_on)
            break;
    }
    for (size_t l = 0; trace && l < n_places; l++) {
        double total = 0.0, sum = 0.0;
        for (size_t r = 0; r < n; r++)
            if (x[r][l] == x[r][l]) {
                total += depths->weights[r];
                sum += depths->weights[r] * x[r][l];
            }
        const float mean = (float)(sum / total);
        trace->least_mean[places[l]] = lower_bound(mean);
        trace->least_error[places[l]] = lower_bound((float)least[l]);
        trace->most_mean[places[l]] = upper_bound(mean);
        trace->most_error[places[l]] = upper_bound((float)most[l]);
    }
}

/* Reject samples by the others of their pixel. */
static NEVER_INLINE void
NAME(reject_by_others)(SAMPLE *samples,
                       const SAMPLE *errors,
                       size_t n,
                       const struct rejection *how,
                       const struct depths *depths,
                       struct trace *trace,
                       int64_t *n_rejected)
{
    uint16_t open[WIDTH + LANES];
    size_t n_open = WIDTH;
    if (n < 2)
        return;
    if (NAME(can_screen)(depths, how, n))
        n_open = NAME(find_doubtful)(samples, errors, n, how, depths, trace, open);
    else
        for (size_t p = 0; p < WIDTH; p++)
            open[p] = (uint16_t)p;
    for (size_t first = 0; first < n_open; first += LANES)
        NAME(settle_lanes)(samples, errors, n, open + first,
                           n_open - first < LANES ? n_open - first : LANES, how, depths, trace,
                           n_rejected);
}
