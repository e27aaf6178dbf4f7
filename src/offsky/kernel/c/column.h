/* What both averages do with one pixel's samples.
 *
 * Where a sample lies so close to a bound that the order of the additions decides,
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

static double
median_by_selection(double *x, long count)
{
    const double upper = select_kth(x, count, count / 2);
    return count % 2 ? upper : 0.5 * (upper + select_kth(x, count, count / 2 - 1));
}

/* Bounds as astropy.stats.sigma_clip finds them, rounding for rounding, and their
 * centre: x holds the finite samples in the order of the exposures and is used up. */
static __attribute__((unused)) double
bounds_in_reference_order(double *x,
                          long count,
                          double lower_sigma,
                          double upper_sigma,
                          long maxiters,
                          double *low,
                          double *high)
{
    double centre;
    for (long pass = 1;; pass++) {
        centre = median_by_selection(x, count);
        double mean = 0.0, square = 0.0;
        for (long i = 0; i < count; i++)
            mean += x[i];
        mean /= (double)count;
        for (long i = 0; i < count; i++)
            square += (x[i] - mean) * (x[i] - mean);
        const double deviation = sqrt(square / (double)count);
        *low = centre - lower_sigma * deviation;
        *high = centre + upper_sigma * deviation;

        long inside = 0;
        for (long i = 0; i < count; i++)
            if (x[i] >= *low && x[i] <= *high)
                x[inside++] = x[i];
        if (inside == count || inside == 0 || pass == maxiters)
            break;
        count = inside;
    }
    /* Overflow (samples near 1e308) makes NaN bounds, which exclude nothing. */
    if (isnan(*low))
        *low = -no_bound;
    if (isnan(*high))
        *high = no_bound;
    return centre;
}
