/* Clipping bounds of one pixel's samples, one pixel at a time.
 *
 * Most pixels need no bounds (clip_tile.h).  The few in which something may be
 * rejected come here: `settle_sorted` works on the sorted column, and where a
 * sample lies so close to a bound that the order of the additions decides,
 * `bounds_in_reference_order` repeats them in astropy's own order.
 */
#include <math.h>

/* No bound: every finite sample is kept. */
static const double no_bound = HUGE_VAL;

/* How far two ways of adding the same numbers can put a bound apart: summation
 * errs by n u max|x| at most (u = 2^-53, Higham, Accuracy and Stability of
 * Numerical Algorithms, 4.2), the standard deviation by no more than the mean
 * plus n u of itself, and sigma multiplies both.  Factor 8: twice the sum of
 * the constants.  To be multiplied by n and max|x|. */
static inline double
bound_uncertainty(double sigma)
{
    return 8.0 * 0x1p-53 * (1.0 + sigma);
}

/* The k-th smallest of a[0..n), reordering a as Wirth's selection does (N.
 * Wirth, Algorithms + Data Structures = Programs, 1976, program 2.x; Hoare's
 * FIND).  The reordering matters: it is the order in which astropy then adds. */
static double
select_kth(double *a, long n, long k)
{
    long left = 0, right = n - 1;
    while (left < right) {
        const double pivot = a[k];
        long up = left, down = right;
        do {
            while (a[up] < pivot)
                up++;
            while (a[down] > pivot)
                down--;
            if (up <= down) {
                const double held = a[up];
                a[up++] = a[down];
                a[down--] = held;
            }
        } while (up <= down);
        if (down < k)
            left = up;
        if (up > k)
            right = down;
    }
    return a[k];
}

/* Bounds as astropy.stats.sigma_clip finds them, rounding for rounding: x holds
 * the finite samples in the order of the exposures and is used up. */
static void
bounds_in_reference_order(
    double *x, long count, const struct offsky_clip *clip, double *low, double *high)
{
    for (long pass = 1;; pass++) {
        double centre;
        if (count % 2) {
            centre = select_kth(x, count, count / 2);
        } else {
            const double upper = select_kth(x, count, count / 2);
            const double lower = select_kth(x, count, count / 2 - 1);
            centre = 0.5 * (upper + lower);
        }
        double mean = 0.0, square = 0.0;
        for (long i = 0; i < count; i++)
            mean += x[i];
        mean /= (double)count;
        for (long i = 0; i < count; i++)
            square += (x[i] - mean) * (x[i] - mean);
        const double reach = clip->sigma * sqrt(square / (double)count);
        *low = centre - reach;
        *high = centre + reach;

        long inside = 0;
        for (long i = 0; i < count; i++)
            if (x[i] >= *low && x[i] <= *high)
                x[inside++] = x[i];
        if (inside == count || inside == 0 || pass == clip->maxiters)
            break;
        count = inside;
    }
    /* Overflow (samples near 1e308) makes NaN bounds, which exclude nothing. */
    if (isnan(*low))
        *low = -no_bound;
    if (isnan(*high))
        *high = no_bound;
}

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

/* Bounds for the ascending, finite x[0..count), with `reach` that of the first pass.
 * Clipping removes from the two ends of a sorted column only, so that a pass is a
 * shrinking window.  Returns 0 where a sample is too close to a bound to be told in
 * or out by this order of additions. */
static int
settle_sorted(const double *x,
              long count,
              double reach,
              const struct offsky_clip *clip,
              double *low,
              double *high)
{
    const double largest = -x[0] > x[count - 1] ? -x[0] : x[count - 1];
    const double unsure = bound_uncertainty(clip->sigma) * (double)count * largest;
    long first = 0, last = count;
    for (long pass = 1;; pass++) {
        const long inside = last - first, middle = first + inside / 2;
        const double centre =
            inside % 2 ? x[middle] : 0.5 * (x[middle] + x[middle - 1]);
        *low = centre - reach;
        *high = centre + reach;

        /* Where the bounds are in the whole column: the final ones are applied to all
         * samples, also to those that an earlier, narrower pass had left out. */
        long from = first, to = last;
        while (from > 0 && x[from - 1] >= *low)
            from--;
        while (from < count && x[from] < *low)
            from++;
        while (to < count && x[to] <= *high)
            to++;
        while (to > 0 && x[to - 1] > *high)
            to--;
        if ((from > 0 && *low - x[from - 1] <= unsure) ||
            (from < count && x[from] - *low <= unsure) ||
            (to > 0 && *high - x[to - 1] <= unsure) || (to < count && x[to] - *high <= unsure))
            return 0;

        from = from > first ? from : first;
        to = to < last ? to : last;
        if ((from == first && to == last) || from >= to || pass == clip->maxiters)
            return 1;
        first = from;
        last = to;
        const double kept = (double)(last - first);
        const double mean = strands(x + first, last - first, 0, 0.0) / kept;
        reach = clip->sigma * sqrt(strands(x + first, last - first, 1, mean) / kept);
    }
}
