/* Which samples of one pixel are kept, one pixel at a time, by any of the methods.
 *
 * Most pixels never come here.  All work on the ascending, finite
 * x[0..count), of which a range is kept: [from, to).  After them come LANES infinities.
 */

/* How samples are rejected, as all that rejects asks for it.  A method is looked at here
 * alone; what it does is in what it is called `by`:
 *
 * by_rank       the lowest and the highest are dropped (reject_extremes());
 * by_deviation  bounds are in standard deviations of what is still inside, and where rounding
 *               decides, astropy's order of additions does;
 * by_error      each sample is judged against the others of its pixel (leave_out_tile.h);
 * by_distance   bounds are in scaled median absolute deviations of what is still inside.
 *
 * None of them: nothing is rejected. */
struct rejection {
    int by_rank, by_deviation, by_error, by_distance;
    double lower, upper;
    long maxiters;
    int about_mean;
    long n_extremes, min_keep;
};

static inline struct rejection
rejection_of(const struct offsky_rule *rule, int has_errors)
{
    struct rejection how = {
        .lower = rule->lower,
        .upper = rule->upper,
        .maxiters = rule->maxiters,
        .about_mean = rule->about_mean,
        .n_extremes = rule->n_extremes,
        .min_keep = rule->min_keep,
    };
    if (rule->maxiters == 0)
        return how;
    switch (rule->method) {
    case OFFSKY_NONE:
        break;
    case OFFSKY_SIGMA:
        how.by_deviation = 1;
        break;
    case OFFSKY_ERROR:
        how.by_error = has_errors;
        break;
    case OFFSKY_MAD:
        how.by_distance = 1;
        break;
    case OFFSKY_MINMAX:
        how.by_rank = 1;
        break;
    }
    return how;
}

static inline int
rejects(const struct rejection *how)
{
    return how->by_rank | how->by_deviation | how->by_error | how->by_distance;
}

/* The standard deviation of Gaussian noise in median absolute deviations. */
static const double mad_to_sigma = 1.482602218505602;

/* The range kept, and what the last bounds were about. */
struct range {
    long from, to;
    double centre;
};

/* Sum of x[0..n), or of squared deviations from `mean`, in four strands, for speed:
 * callers allow for any order of addition. */
static inline __attribute__((always_inline)) double
strands(const double *x, long n, int square, double mean)
{
    double strand[4] = {0.0, 0.0, 0.0, 0.0};
    long i = 0;
    for (; i + 4 <= n; i += 4)
        for (int s = 0; s < 4; s++)
            strand[s] += square ? (x[i + s] - mean) * (x[i + s] - mean) : x[i + s];
    for (; i < n; i++)
        strand[0] += square ? (x[i] - mean) * (x[i] - mean) : x[i];
    return (strand[0] + strand[1]) + (strand[2] + strand[3]);
}

static inline double
middle_of(const double *x, long count)
{
    return count % 2 ? x[count / 2] : 0.5 * (x[count / 2] + x[count / 2 - 1]);
}

/* The k-th smallest (from 0) distance from `centre`.  The k + 1 nearest samples are next
 * to each other; the farther end of that group is what is sought, and of any other group
 * the farther end is no nearer. */
static inline double
kth_distance(const double *x, long count, double centre, long k)
{
    f64_lanes leasts = (f64_lanes){0.0} + HUGE_VAL;
    long i = 0;
    for (; i + k + LANES <= count; i += LANES) {
        f64_lanes left, right;
        memcpy(&left, x + i, sizeof left);
        memcpy(&right, x + i + k, sizeof right);
        leasts = f64_smaller(leasts, f64_larger(centre - left, right - centre));
    }
    double least = leasts[0];
    for (int l = 1; l < LANES; l++)
        least = leasts[l] < least ? leasts[l] : least;
    for (; i + k < count; i++) {
        const double left = centre - x[i], right = x[i + k] - centre;
        const double farther = left > right ? left : right;
        least = farther < least ? farther : least;
    }
    return least;
}

/* The same of LANES columns of one length. */
ALWAYS_INLINE f64_lanes
kth_distance_of_lanes(const f64_lanes *x, size_t count, f64_lanes centre, size_t k)
{
    f64_lanes least = (f64_lanes){0.0} + HUGE_VAL;
    for (size_t i = 0; i + k < count; i++)
        least = f64_smaller(f64_larger(centre - x[i], x[i + k] - centre), least);
    return least;
}

/* The scaled median absolute deviation. */
static inline double
mad_of(const double *x, long count)
{
    const double centre = middle_of(x, count);
    const double upper = kth_distance(x, count, centre, count / 2);
    if (count % 2)
        return mad_to_sigma * upper;
    return mad_to_sigma * (0.5 * (upper + kth_distance(x, count, centre, count / 2 - 1)));
}

/* Bounds about a centre; NaN, of no deviation times no bound, excludes nothing. */
static inline void
set_bounds(const struct rejection *how, double centre, double scale, double *low, double *high)
{
    *low = centre - how->lower * scale;
    *high = centre + how->upper * scale;
    if (isnan(*low))
        *low = -no_bound;
    if (isnan(*high))
        *high = no_bound;
}

/* The range of x[0..count) inside bounds.  Counted, not searched: what is rejected cannot
 * be foreseen, and a wrong guess of the processor costs more than a few samples. */
static inline void
find_inside(const double *x, long count, double low, double high, long *from, long *to)
{
    i64_lanes below = {0}, inside = {0};
    for (long i = 0; i < count; i += LANES) {
        f64_lanes v;
        memcpy(&v, x + i, sizeof v);
        below -= v < low;
        inside -= v <= high;
    }
    *from = *to = 0;
    for (int l = 0; l < LANES; l++) {
        *from += (long)below[l];
        *to += (long)inside[l];
    }
    *from = *from < count ? *from : count;
    *to = *to < count ? *to : count;
}

/* The finite one of both thresholds that is larger. */
static inline double
widest(const struct rejection *how)
{
    const double lower = how->lower < no_bound ? how->lower : 0.0;
    const double upper = how->upper < no_bound ? how->upper : 0.0;
    return lower > upper ? lower : upper;
}

/* Reject about the median, with `scale` that of the first pass.  Returns 0 where the order
 * of additions decides, as settle_sorted() does. */
static int
settle_about_median(const double *x,
                    long count,
                    double scale,
                    const struct rejection *how,
                    struct range *kept)
{
    const double largest = -x[0] > x[count - 1] ? -x[0] : x[count - 1];
    const double unsure = bound_uncertainty(widest(how)) * (double)count * largest;
    long first = 0, last = count;
    for (long pass = 1;; pass++) {
        double low, high;
        kept->centre = middle_of(x + first, last - first);
        set_bounds(how, kept->centre, scale, &low, &high);
        long from, to;
        find_inside(x, count, low, high, &from, &to);
        if (how->by_deviation &&
            ((from > 0 && low - x[from - 1] <= unsure) ||
             (from < count && x[from] - low <= unsure) ||
             (to > 0 && high - x[to - 1] <= unsure) || (to < count && x[to] - high <= unsure)))
            return 0;
        kept->from = from;
        kept->to = to;

        from = from > first ? from : first;
        to = to < last ? to : last;
        if ((from == first && to == last) || from >= to || pass == how->maxiters)
            return 1;
        first = from;
        last = to;
        if (how->by_distance) {
            scale = mad_of(x + first, last - first);
        } else if (how->by_deviation) {
            const double n = (double)(last - first);
            const double mean = strands(x + first, last - first, 0, 0.0) / n;
            scale = sqrt(strands(x + first, last - first, 1, mean) / n);
        }
    }
}

/* Reject about the mean; `in_order` has the same samples in the order of the exposures,
 * in which they are added as astropy adds them, and is used up. */
static void
settle_about_mean(const double *x,
                  double *in_order,
                  long count,
                  double scale,
                  const struct rejection *how,
                  struct range *kept)
{
    long first = 0, last = count, n = count;
    for (long pass = 1;; pass++) {
        double low, high, mean = 0.0, square = 0.0;
        for (long i = 0; i < n; i++)
            mean += in_order[i];
        mean /= (double)n;
        for (long i = 0; i < n; i++)
            square += (in_order[i] - mean) * (in_order[i] - mean);
        if (how->by_deviation)
            scale = sqrt(square / (double)n);
        else if (how->by_distance)
            scale = mad_of(x + first, last - first);
        set_bounds(how, mean, scale, &low, &high);
        kept->centre = mean;
        find_inside(x, count, low, high, &kept->from, &kept->to);

        const long from = kept->from > first ? kept->from : first;
        const long to = kept->to < last ? kept->to : last;
        if ((from == first && to == last) || from >= to || pass == how->maxiters)
            return;
        first = from;
        last = to;
        long inside = 0;
        for (long i = 0; i < n; i++)
            if (in_order[i] >= low && in_order[i] <= high)
                in_order[inside++] = in_order[i];
        n = inside;
    }
}

/* Where fewer than min_keep are left, keep those nearest to the centre; of two as near,
 * the lower.  The two about a median are as near: compared thus, rounding agrees. */
static void
keep_nearest(const double *x, long count, const struct rejection *how, struct range *kept)
{
    const long n = how->min_keep < count ? how->min_keep : count;
    if (kept->to - kept->from >= n)
        return;
    kept->from = 0;
    kept->to = count;
    while (kept->to - kept->from > n)
        if (x[kept->from] + x[kept->to - 1] >= 2.0 * kept->centre)
            kept->to--;
        else
            kept->from++;
}
