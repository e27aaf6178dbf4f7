/* Average of a stack of exposures by any of the options: the contract.
 *
 * As clip_mean.h, whose kernel serves where nothing but the plain sigma clip is asked
 * for.  averaging.py says in NumPy what is computed here, and reject.py which samples
 * are kept.
 */
#ifndef OFFSKY_AVERAGE_H
#define OFFSKY_AVERAGE_H

#include "clip_mean.h"

enum offsky_method { OFFSKY_NONE, OFFSKY_SIGMA, OFFSKY_ERROR, OFFSKY_MAD, OFFSKY_MINMAX };
enum offsky_flags { OFFSKY_OR, OFFSKY_KEPT, OFFSKY_ALL };

/* How samples are rejected, and flags combined.  `lower` and `upper` are thresholds below
 * and above the centre, above 0, infinity for none; maxiters as in offsky_clip;
 * bad_fraction below 0: nothing is flagged for it. */
struct offsky_rule {
    enum offsky_method method;
    double lower, upper;
    long maxiters;
    int about_mean;
    long n_extremes, min_keep;
    enum offsky_flags flags;
    uint32_t bad_bits;
    double bad_fraction;
};

/* What to average, beyond SCI, ERR and DQ: two variances (F32 or F64), and what each
 * exposure reaches (bytes, 0 where it does not); each may be NULL, as may single planes.
 * `weights` has one number above 0 an exposure, NULL for equal ones.  `median_factors`,
 * where not NULL, asks for the median: the error of the median of k samples over that
 * of their mean, for k from 0 to n. */
struct offsky_more {
    const struct offsky_plane *variances[2];
    const struct offsky_plane *covers;
    const double *weights, *median_factors;
};

/* Bytes of scratch (aligned to 64) that one call needs. */
size_t offsky_average_bytes(const struct offsky_stack *stack, const struct offsky_more *more);

/* Average pixels [first, last); `variances` are of the type of the result's `sci`, and
 * may be NULL. */
void offsky_average(const struct offsky_stack *stack,
                    const struct offsky_more *more,
                    const struct offsky_rule *rule,
                    size_t first,
                    size_t last,
                    const struct offsky_result *result,
                    void *const variances[2],
                    void *scratch);

#endif
