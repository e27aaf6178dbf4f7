/* Subtraction of an average from rows of a target: the contract.
 *
 * See plane.h for what holds of all calls.  twin_subtract.py says in NumPy what is computed
 * here.
 */
#ifndef OFFSKY_SUBTRACT_H
#define OFFSKY_SUBTRACT_H

#include "plane.h"

/* Rows of one kind of a target: n_planes of n_pixels each.  Each plane is contiguous and
 * aligned to its pixels' size, the next begins `stride` pixels after it.  `pixels` is NULL
 * where the target has no such kind. */
struct offsky_image {
    void *pixels;
    enum offsky_kind kind;
    int swap;
    ptrdiff_t stride;
};

enum offsky_real {
    OFFSKY_SCI,
    OFFSKY_ERR,
    OFFSKY_VAR_POISSON,
    OFFSKY_VAR_RNOISE,
    OFFSKY_VAR_FLAT,
    OFFSKY_N_REALS
};

/* Rows of a target.  SCI and DQ (U32) are always there; reals are F32 or F64. */
struct offsky_rows {
    struct offsky_image reals[OFFSKY_N_REALS], dq;
};

/* The same rows of an average, n_pixels of each: SCI, ERR and two variances, F32 or F64 in
 * the machine's byte order, and flags.  Only SCI and n_kept must be there; ERR too where
 * errors are propagated. */
struct offsky_average_rows {
    struct offsky_plane sci, err, variances[2];
    const uint16_t *n_kept;
    const uint32_t *dq;
};

/* propagate: add the average's variances to the target's.  blank: set to NaN, and flag
 * DO_NOT_USE, where n_kept is 0.  flip: as of struct offsky_plane, of the target's DQ. */
struct offsky_subtraction {
    int propagate, blank;
    uint32_t flip;
};

/* Pixels of the average, where errors are propagated, that have a sample but no known error;
 * and those without a sample at which no plane of the target is finite either. */
struct offsky_left {
    int64_t n_err_unknown, n_no_value;
};

/* Subtract an average from each of `n_planes` planes of a target.  `target` is only read.
 * `out` has every kind that the target has, of the same kind and byte order; each is the
 * target's own pixels, or overlaps nothing.
 *
 * All is computed in double and rounded once to the type of the target.  What stays as it
 * is is copied; a signalling NaN may become a quiet one. */
struct offsky_left offsky_subtract(const struct offsky_rows *target,
                                   const struct offsky_average_rows *average,
                                   const struct offsky_subtraction *how,
                                   size_t n_planes,
                                   size_t n_pixels,
                                   const struct offsky_rows *out);

#endif
