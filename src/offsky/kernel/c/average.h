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

/* Which samples are rejected, in `n_rows` rows of `nx` pixels, for rejection that grows.
 *
 * A row of bits is `words` words; bit b of word w is pixel 64 w + b.  Pass 0 is rejection by the
 * others of a pixel, passes 1 to `n_passes` are growing.  `bits` has for each pass, from 0, and
 * each exposure a plane of n_rows rows: 1 where that pass rejected the sample.  `bounds` has for
 * each pixel, as planes of n_rows x nx, bounds from below of the mean of its kept samples and of
 * its typical ERR, and such from above; both of pass 0.  Row 0 of the planes of a call is row
 * `offset` of these; several threads may work on different rows. */
struct offsky_marks {
    size_t n_passes, n_rows, nx, words, offset;
    uint64_t *bits;
    float *bounds;
};

/* Where results go: planes of the size of the input's, none of them overlapping another or
 * an input.  Reals are float, or double where `wide` is set.  Any but `sci` and `n_kept` may
 * be NULL; `err`, `variances` and `dq` are left alone where the stack has no such kind.
 * Rejection by OFFSKY_ERROR sets bits of pass 0 of `marks`, which the caller has cleared.
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
    const struct offsky_marks *marks;
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

/* Bytes of scratch that offsky_grow() needs. */
size_t offsky_grow_bytes(const struct offsky_stack *stack, const struct offsky_marks *marks);

/* Grow what passes before `pass` (from 1) rejected, by one pixel: set the bits of `pass` of what
 * lies next to it in the same exposure and more than `above` errors over the mean of the kept
 * samples, in rows [first, last) of the marks.  Other rows of marks are read only: any cut into
 * rows gives the same.  The stack and the rule are those of the average. */
void offsky_grow(const struct offsky_stack *stack,
                 const struct offsky_rule *rule,
                 double above,
                 size_t pass,
                 size_t first,
                 size_t last,
                 const struct offsky_marks *marks,
                 void *scratch);

/* Bytes of scratch that offsky_amend() needs. */
size_t offsky_amend_bytes(const struct offsky_stack *stack,
                          const struct offsky_rule *rule,
                          const struct offsky_result *result);

/* Average those pixels of rows [first, last) of the marks again from which growing took a sample;
 * the arguments are those of the average.  `n_rejected` counts what growing rejected.  Returns
 * at how many pixels more the ERR of a kept sample was estimated. */
int64_t offsky_amend(const struct offsky_stack *stack,
                     const struct offsky_rule *rule,
                     size_t first,
                     size_t last,
                     const struct offsky_result *result,
                     void *scratch);

#endif
