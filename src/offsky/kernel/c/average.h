/* Average of a stack of exposures, pixel by pixel: the contract.
 *
 * See plane.h for what holds of all calls.  twin_average.py says in NumPy what is computed
 * here, and twin_reject.py which samples are kept.
 */
#ifndef OFFSKY_AVERAGE_H
#define OFFSKY_AVERAGE_H

#include "plane.h"

enum offsky_method { OFFSKY_NONE, OFFSKY_SIGMA, OFFSKY_ERROR, OFFSKY_MAD, OFFSKY_MINMAX };
enum offsky_flags { OFFSKY_OR, OFFSKY_KEPT, OFFSKY_ALL };

/* How samples are rejected, and flags combined.  `lower` and `upper` are thresholds below
 * and above the centre, or the others, above 0, infinity for none.  maxiters: passes at most; -1 until
 * nothing is rejected; 0 no rejection.  bad_fraction below 0: nothing is flagged for it. */
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

/* What to average: of each kind one plane an exposure.  SCI, ERR and variances are F32 or
 * F64, DQ is U32, `covers` (0 where the exposure does not reach a pixel) and `skip` (not 0
 * where its sample is left out) are U8.  Every exposure has SCI.  Any other kind may be NULL
 * as a whole, and single planes may have `pixels` NULL: ERR and variances are then unknown
 * (NaN), DQ is 0, everything is covered and nothing skipped.
 *
 * A sample that is not finite, or skipped, is missing.  ERR, variances and DQ of a skipped
 * sample count as those of a NaN do.
 *
 * `depths` has 2 x n_exposures numbers above 0, NULL for ones: what rejection by OFFSKY_ERROR
 * multiplies each exposure's ERR by to compare it with that of the others, and the weight of
 * each exposure's samples in it.
 *
 * `weights` has one number above 0 an exposure, NULL for equal ones.  `median_factors`,
 * where not NULL, asks for the median instead of the mean: the error of the median of k
 * samples over that of their mean, for k from 0 to n_exposures. */
struct offsky_stack {
    size_t n_exposures; /* 1 to 65535 */
    const struct offsky_plane *sci, *err, *dq, *variances[2], *covers, *skip;
    const double *depths, *weights, *median_factors;
};

/* Where results go: planes of the size of the input's, none of them overlapping another or
 * an input.  Reals are float, or double where `wide` is set.  Any but `sci` and `n_kept` may
 * be NULL; `err`, `variances` and `dq` are left alone where the stack has no such kind.
 *
 * `n_rejected` and `n_masked` have one counter an exposure, and are added to: finite samples
 * that were rejected, and that were skipped (`n_masked` may be NULL).
 *
 * `shares` has a plane for each group of exposures; `groups` the number of the group of each
 * exposure, -1 for none.  A plane gets the sum of weight times factor of SCI over the kept
 * samples of its group, divided by the sum of the weights of all kept samples.
 *
 * A pixel with no finite sample, or none left, has n_kept 0 and NaN in the reals.  Sums run
 * in double in the order of the exposures and are rounded once, so that a pixel's result
 * depends on its own samples alone: not on tiles, ranges, threads or the processor. */
struct offsky_result {
    int wide;
    void *sci, *err, *variances[2];
    uint32_t *dq;
    uint16_t *n_kept;
    int64_t *n_rejected, *n_masked;
    size_t n_groups; /* 0: no shares are wanted, and `groups` and `shares` may be NULL */
    const int32_t *groups;
    void **shares;
};

/* What a call counted: pixels at which the ERR of a kept sample was estimated, and finite
 * samples that were not skipped, whether kept or not. */
struct offsky_counts {
    int64_t n_err_estimated, n_samples;
};

/* Bytes of scratch (aligned to 64) that a call with these arguments needs. */
size_t offsky_average_bytes(const struct offsky_stack *stack,
                            const struct offsky_rule *rule,
                            const struct offsky_result *result);

/* Average pixels [first, last) of every plane into the same places of the result. */
struct offsky_counts offsky_average(const struct offsky_stack *stack,
                                    const struct offsky_rule *rule,
                                    size_t first,
                                    size_t last,
                                    const struct offsky_result *result,
                                    void *scratch);

#endif
