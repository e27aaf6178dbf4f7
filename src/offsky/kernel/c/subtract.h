/* Subtraction of an average from rows of a target: the contract.
 *
 * Plain C, as clip_mean.h: no state, nothing that can fail.
 */
#ifndef OFFSKY_SUBTRACT_H
#define OFFSKY_SUBTRACT_H

#include <stddef.h>
#include <stdint.h>

/* Rows of a target, `sci` of floats or (`wide`) doubles, each with its bytes in the other
 * order than the machine's where `swap_*` is set; `flip` as of struct offsky_plane.  All are
 * replaced by what the subtraction leaves. */
struct offsky_target {
    void *sci;
    int wide, swap_sci;
    uint32_t *dq;
    int swap_dq;
    uint32_t flip;
};

/* The same rows of an average; `dq` may be NULL.  Where n_kept is 0 nothing is subtracted. */
struct offsky_average_rows {
    const float *sci;
    const uint16_t *n_kept;
    const uint32_t *dq;
};

/* Subtract `scale` times the average from `n_pixels` pixels, and OR its flags.  The
 * difference is taken in double and rounded to the target's precision. */
void offsky_subtract(const struct offsky_target *target,
                     const struct offsky_average_rows *average,
                     double scale,
                     size_t n_pixels);

#endif
