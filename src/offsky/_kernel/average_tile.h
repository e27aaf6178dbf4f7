/* The average of one tile of pixels by any options, for one precision of the samples.
 *
 * Included twice by average.c, after reject_tile.h.  Once rejection is over, what is kept
 * is what is not NaN.
 */

/* Leave out samples with one of some flags. */
ALWAYS_INLINE void
NAME(leave_out_flagged)(SAMPLE *restrict samples, const uint32_t *restrict flags, size_t n, uint32_t bits)
{
    for (size_t i = 0; i < n * WIDTH; i++)
        samples[i] = flags[i] & bits ? (SAMPLE)NAN : samples[i];
}

/* The OR of the flags of kept samples; of all where none is kept. */
ALWAYS_INLINE void
NAME(or_of_kept)(const SAMPLE *samples, const uint32_t *flags, size_t n, uint32_t *restrict dq)
{
    uint32_t all[WIDTH] = {0}, any_kept[WIDTH] = {0};
    memset(dq, 0, WIDTH * sizeof *dq);
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < WIDTH; p++) {
            const SAMPLE x = samples[r * WIDTH + p];
            const uint32_t flag = flags[r * WIDTH + p], kept = x == x ? ~UINT32_C(0) : 0;
            all[p] |= flag;
            dq[p] |= flag & kept;
            any_kept[p] |= kept;
        }
    for (size_t p = 0; p < WIDTH; p++)
        dq[p] = any_kept[p] ? dq[p] : all[p];
}

/* Sum of the variances of the kept samples, and how many they are; of ERR (`squared`) or
 * of variances proper. */
ALWAYS_INLINE void
NAME(add_up_variances)(const SAMPLE *samples, const SAMPLE *variances, size_t n, int squared,
                       const double *weights, struct weighted *sums)
{
    for (size_t p = 0; p < WIDTH; p += LANES) {
        f64_lanes total = {0.0}, known_square = {0.0}, square = {0.0}, weight = {0.0};
        i64_lanes n_known = {0};
        for (size_t r = 0; r < n; r++) {
            const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
            f64_lanes v = NAME(read)(variances + r * WIDTH + p);
            const i64_lanes kept = x == x, known = (v == v) & kept;
            if (squared)
                v *= v;
            n_known -= known;
            if (weights) {
                const f64_lanes w = (f64_lanes){0.0} + weights[r], w2 = w * w;
                total += where(known, w2 * v);
                known_square += where(known, w2);
                square += where(kept, w2);
                weight += where(kept, w);
            } else {
                total += where(known, v);
            }
        }
        memcpy(sums->variance + p, &total, sizeof total);
        memcpy(sums->known_square + p, &known_square, sizeof known_square);
        memcpy(sums->square + p, &square, sizeof square);
        memcpy(sums->weight + p, &weight, sizeof weight);
        memcpy(sums->n_known + p, &n_known, sizeof n_known);
    }
}

/* Sums of the kept samples, weighted or not, and their number. */
ALWAYS_INLINE void
NAME(add_up_kept)(const SAMPLE *samples, size_t n, const double *weights, struct weighted *sums)
{
    for (size_t p = 0; p < WIDTH; p += LANES) {
        f64_lanes sci = {0.0}, weight = {0.0};
        i64_lanes n_kept = {0};
        for (size_t r = 0; r < n; r++) {
            const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
            const i64_lanes kept = x == x;
            n_kept -= kept;
            if (weights) {
                const f64_lanes w = (f64_lanes){0.0} + weights[r];
                sci += where(kept, w * x);
                weight += where(kept, w);
            } else {
                sci += where(kept, x);
            }
        }
        memcpy(sums->sci + p, &sci, sizeof sci);
        memcpy(sums->weight + p, &weight, sizeof weight);
        memcpy(sums->n_kept + p, &n_kept, sizeof n_kept);
    }
}

/* Medians of the kept samples; NaN where there is none. */
static NEVER_INLINE void
NAME(find_medians)(const SAMPLE *samples, size_t n, SAMPLE *sorted, const int64_t *n_kept, double *out)
{
    NAME(sort_tile)(samples, n, sorted);
    for (size_t p = 0; p < WIDTH; p++)
        out[p] = n_kept[p] ? NAME(column_median)(sorted + p, (size_t)n_kept[p]) : (double)NAN;
}

/* Average one tile: `count` pixels from `start`; the rest of WIDTH is padding. */
static NEVER_INLINE void
NAME(average_any_tile)(const struct offsky_stack *stack,
                       const struct offsky_more *more,
                       const struct offsky_rule *rule,
                       size_t start,
                       size_t count,
                       const struct offsky_result *result,
                       void *const variances[2],
                       const struct average_scratch *s)
{
    const size_t n = stack->n_exposures;
    SAMPLE *samples = s->samples, *errors = s->errors;
    struct weighted sums;
    uint32_t dq[WIDTH];

    NAME(load_rows)(stack->sci, n, start, count, samples);
    if (rule->flags != OFFSKY_OR && stack->dq) {
        load_flags(stack, start, count, s->flags);
        NAME(leave_out_flagged)(samples, s->flags, n, rule->bad_bits);
    }
    if (stack->err)
        NAME(load_rows)(stack->err, n, start, count, errors);
    if (rule->maxiters != 0) {
        if (rule->method == OFFSKY_MINMAX)
            NAME(reject_extremes)(samples, n, rule, result->n_rejected, s);
        else if (rule->method != OFFSKY_NONE && (rule->method != OFFSKY_ERROR || stack->err))
            NAME(reject_outside)(samples, errors, n, rule, result->n_rejected, s);
    }

    if (more->weights)
        NAME(add_up_kept)(samples, n, more->weights, &sums);
    else
        NAME(add_up_kept)(samples, n, NULL, &sums);
    for (size_t p = 0; p < count; p++)
        result->n_kept[start + p] = (uint16_t)sums.n_kept[p];
    if (more->median_factors)
        NAME(find_medians)(samples, n, s->sorted, sums.n_kept, sums.sci);
    else
        divide_by_weights(&sums, more->weights);
    store_reals(result->sci, result->wide, start, count, sums.sci);

    if (result->err && stack->err) {
        if (more->weights)
            NAME(add_up_variances)(samples, errors, n, 1, more->weights, &sums);
        else
            NAME(add_up_variances)(samples, errors, n, 1, NULL, &sums);
        *result->n_err_estimated += variances_of_averages(&sums, more, 1);
        store_reals(result->err, result->wide, start, count, sums.variance);
    }
    for (int i = 0; i < 2; i++)
        if (variances[i] && more->variances[i]) {
            NAME(load_rows)(more->variances[i], n, start, count, errors);
            if (more->weights)
                NAME(add_up_variances)(samples, errors, n, 0, more->weights, &sums);
            else
                NAME(add_up_variances)(samples, errors, n, 0, NULL, &sums);
            variances_of_averages(&sums, more, 0);
            store_reals(variances[i], result->wide, start, count, sums.variance);
        }

    if (!result->dq)
        return;
    if (rule->flags == OFFSKY_OR || !stack->dq) {
        store_flags(stack, start, count, result->dq + start);
        return;
    }
    if (rule->flags == OFFSKY_KEPT)
        NAME(or_of_kept)(samples, s->flags, n, dq);
    else
        and_of_covering(more->covers, s->flags, n, start, count, dq);
    if (rule->bad_fraction >= 0.0)
        flag_bad(more->covers, s->flags, n, rule, start, count, dq);
    memcpy(result->dq + start, dq, count * sizeof *dq);
}
