/* The average of one tile of pixels by any options, for one precision of the samples.
 *
 * Included twice by average.c, after reject_tile.h.  Once rejection is over, what is kept
 * is what is not NaN.
 */

/* Leave out samples with one of some flags; returns how many. */
static NEVER_INLINE int64_t
NAME(leave_out_flagged)(SAMPLE *restrict samples, const uint32_t *restrict flags, size_t n, uint32_t bits)
{
    int64_t total = 0;
    for (size_t r = 0; r < n; r++) {
        SAMPLE_BITS left_out = 0;
        for (size_t i = r * WIDTH; i < (r + 1) * WIDTH; i++) {
            const SAMPLE x = samples[i];
            left_out += ((flags[i] & bits) != 0) & (x == x);
            samples[i] = flags[i] & bits ? (SAMPLE)NAN : x;
        }
        total += left_out;
    }
    return total;
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

/* Sums of what is kept: of the samples (`sci` set) and of the squares of `errors`, or of
 * `errors` that are variances.  All arguments but pointers are constants. */
ALWAYS_INLINE void
NAME(add_up_weighted)(const SAMPLE *samples,
                      const SAMPLE *errors,
                      size_t n,
                      const double *weights,
                      int sci,
                      int squared,
                      struct weighted *w)
{
    for (size_t p = 0; p < WIDTH; p += LANES) {
        f64_lanes value = {0.0}, variance = {0.0};
        f64_lanes weight = {0.0}, square = {0.0}, known_square = {0.0};
        i64_lanes n_kept = {0}, n_err = {0};
        for (size_t r = 0; r < n; r++) {
            const f64_lanes x = NAME(read)(samples + r * WIDTH + p);
            const i64_lanes kept = x == x;
            const f64_lanes one = (f64_lanes){0.0} + (weights ? weights[r] : 1.0);
            n_kept -= kept;
            if (sci)
                value += where(kept, one * x);
            weight += where(kept, one);
            square += where(kept, one * one);
            if (errors) {
                const f64_lanes e = NAME(read)(errors + r * WIDTH + p);
                const i64_lanes known = (e == e) & kept;
                const f64_lanes v = squared ? e * e : e;
                variance += where(known, one * one * v);
                known_square += where(known, one * one);
                n_err -= known;
            }
        }
        if (sci)
            memcpy(w->sums.sci + p, &value, sizeof value);
        memcpy(w->sums.variance + p, &variance, sizeof variance);
        store_counts(n_kept, w->sums.n_kept + p);
        store_counts(n_err, w->sums.n_err + p);
        memcpy(w->weight + p, &weight, sizeof weight);
        memcpy(w->square + p, &square, sizeof square);
        memcpy(w->known_square + p, &known_square, sizeof known_square);
    }
}

/* All sums but those of variances proper. */
static NEVER_INLINE void
NAME(add_up_kept)(const SAMPLE *samples,
                  const SAMPLE *errors,
                  size_t n,
                  const double *weights,
                  struct weighted *w)
{
    if (weights && errors)
        NAME(add_up_weighted)(samples, errors, n, weights, 1, 1, w);
    else if (weights)
        NAME(add_up_weighted)(samples, NULL, n, weights, 1, 1, w);
    else if (errors)
        for (size_t p = 0; p < WIDTH; p += NAME(per_vector))
            NAME(add_up)(samples, errors, n, 0, &w->sums, p);
    else
        for (size_t p = 0; p < WIDTH; p += NAME(per_vector))
            NAME(add_up)(samples, NULL, n, 0, &w->sums, p);
}

/* The sums of variances proper. */
static NEVER_INLINE void
NAME(add_up_variances)(const SAMPLE *samples,
                       const SAMPLE *variances,
                       size_t n,
                       const double *weights,
                       struct weighted *w)
{
    if (weights) {
        NAME(add_up_weighted)(samples, variances, n, weights, 0, 0, w);
        return;
    }
    for (size_t p = 0; p < WIDTH; p += NAME(per_vector)) {
        NAME(wide) variance = NAME(zero)();
        NAME(bits) n_known = {0};
        for (size_t r = 0; r < n; r++) {
            NAME(vector) x, v;
            memcpy(&x, samples + r * WIDTH + p, sizeof x);
            memcpy(&v, variances + r * WIDTH + p, sizeof v);
            const NAME(bits) known = (v == v) & (x == x);
            variance = NAME(plus)(
                variance, NAME(widen)((NAME(vector))((NAME(bits))v & known)));
            n_known -= known;
        }
        NAME(store_wide)(w->sums.variance + p, variance);
        for (size_t l = 0; l < NAME(per_vector); l++)
            w->sums.n_err[p + l] = (int32_t)n_known[l];
    }
}

/* The share of each group of exposures in the mean. */
static NEVER_INLINE void
NAME(store_shares)(const SAMPLE *samples,
                   const struct offsky_stack *stack,
                   const struct offsky_result *result,
                   size_t start,
                   size_t count,
                   const struct weighted *w)
{
    for (size_t g = 0; g < result->n_groups; g++) {
        double share[WIDTH] = {0.0};
        for (size_t r = 0; r < stack->n_exposures; r++) {
            if (result->groups[r] != (int32_t)g)
                continue;
            const double factor = stack->sci[r].factor;
            const double one = stack->weights ? stack->weights[r] * factor : factor;
            for (size_t p = 0; p < WIDTH; p++) {
                const SAMPLE x = samples[r * WIDTH + p];
                share[p] += x == x ? one : 0.0;
            }
        }
        for (size_t p = 0; p < WIDTH; p++)
            share[p] /= stack->weights ? w->weight[p] : (double)w->sums.n_kept[p];
        store_reals(result->shares[g], result->wide, start, count, share);
    }
}

/* Medians of the kept samples; NaN where there is none.  A zero is made positive, since
 * which of two zeros is in the middle depends on how they were sorted. */
static NEVER_INLINE void
NAME(find_medians)(const SAMPLE *samples, size_t n, SAMPLE *sorted, const int32_t *n_kept, double *out)
{
    NAME(sort_tile)(samples, n, sorted);
    for (size_t p = 0; p < WIDTH; p++)
        out[p] = n_kept[p] ? NAME(column_median)(sorted + p, (size_t)n_kept[p]) + 0.0 : (double)NAN;
}

/* Average one tile: `count` pixels from `start`; the rest of WIDTH is padding. */
static NEVER_INLINE void
NAME(average_tile)(const struct offsky_stack *stack,
                   const struct offsky_rule *rule,
                   const struct rejection *how,
                   size_t start,
                   size_t count,
                   const struct offsky_result *result,
                   struct offsky_counts *counts,
                   const struct average_scratch *s)
{
    const size_t n = stack->n_exposures;
    SAMPLE *samples = s->samples, *errors = NULL;
    struct weighted w;
    uint32_t dq[WIDTH];

    NAME(load_samples)(stack, start, count, samples, result);
    if (rule->flags != OFFSKY_OR && stack->dq) {
        load_flags(stack, start, count, s->flags);
        counts->n_samples += NAME(leave_out_flagged)(samples, s->flags, n, rule->bad_bits);
    }
    if (stack->err && (result->err || how->by_error)) {
        errors = s->errors;
        NAME(load_rows)(stack->err, n, start, count, errors);
    }
    if (how->by_rank)
        NAME(reject_extremes)(samples, n, how, result->n_rejected, s);
    else if (how->by_error && result->marks) {
        struct trace trace = {.marks = result->marks, .start = start};
        NAME(reject_by_others)(samples, errors, n, how, &s->depths, &trace, result->n_rejected);
        end_trace(&trace, count);
    } else if (how->by_error)
        NAME(reject_by_others)(samples, errors, n, how, &s->depths, NULL, result->n_rejected);
    else if (rejects(how))
        NAME(reject_outside)(samples, n, how, result->n_rejected, s);

    NAME(add_up_kept)(samples, errors, n, stack->weights, &w);
    store_n_kept(result, start, count, w.sums.n_kept, counts);
    NAME(store_shares)(samples, stack, result, start, count, &w);
    if (stack->median_factors)
        NAME(find_medians)(samples, n, s->sorted, w.sums.n_kept, w.sums.sci);
    else
        divide_by_weights(&w, stack->weights);
    store_reals(result->sci, result->wide, start, count, w.sums.sci);
    if (result->err && errors) {
        counts->n_err_estimated += variances_of_averages(&w, stack, 1);
        store_reals(result->err, result->wide, start, count, w.sums.variance);
    }
    for (int i = 0; i < 2; i++)
        if (result->variances[i] && stack->variances[i]) {
            NAME(load_rows)(stack->variances[i], n, start, count, s->errors);
            NAME(add_up_variances)(samples, s->errors, n, stack->weights, &w);
            variances_of_averages(&w, stack, 0);
            store_reals(result->variances[i], result->wide, start, count, w.sums.variance);
        }

    if (!result->dq || !stack->dq)
        return;
    if (rule->flags == OFFSKY_OR) {
        store_flags(stack, start, count, result->dq + start);
        return;
    }
    if (rule->flags == OFFSKY_KEPT)
        NAME(or_of_kept)(samples, s->flags, n, dq);
    else
        and_of_covering(stack->covers, s->flags, n, start, count, dq);
    if (rule->bad_fraction >= 0.0)
        flag_bad(stack->covers, s->flags, n, rule, start, count, dq);
    memcpy(result->dq + start, dq, count * sizeof *dq);
}
