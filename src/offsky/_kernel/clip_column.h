/* Clipping bounds of one pixel's samples, one pixel at a time.
 *
 * Most pixels need no bounds (clip_tile.h).  The few in which something may be
 * rejected come here.
 */
#include "column.h"

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
