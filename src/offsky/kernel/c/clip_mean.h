/* Sigma-clipped mean of a stack of exposures: the contract of the kernel.
 *
 * Plain C, no Python: the caller owns every buffer, scratch included, so
 * that nothing in here can fail or needs an interpreter.  Calls share no
 * state: any number of threads may work on different pixels at once.
 */
#ifndef OFFSKY_CLIP_MEAN_H
#define OFFSKY_CLIP_MEAN_H

#include <stddef.h>
#include <stdint.h>

enum offsky_kind { OFFSKY_F32, OFFSKY_F64, OFFSKY_U32, OFFSKY_U8 };

/* The pixels of one exposure's SCI, ERR or DQ: contiguous, aligned to their
 * own size, never written to.  `swap`: bytes are in the other order than the
 * machine's.  `flip` (DQ only) is XORed into every value after the swap: FITS
 * stores unsigned integers as signed ones with the top bit inverted. */
struct offsky_plane {
    const void *pixels;
    enum offsky_kind kind;
    int swap;
    uint32_t flip;
};

/* What to average.  `sci` is F32 or F64; `err` (F32 or F64) and `dq` (U32) may
 * be NULL as a whole, and a single plane of them may have `pixels` NULL: its
 * ERR is then unknown (NaN), its DQ 0. */
struct offsky_stack {
    size_t n_exposures; /* 1 to 65535 */
    const struct offsky_plane *sci, *err, *dq;
};

/* maxiters: passes at most; -1 until nothing is rejected; 0 no clipping. */
struct offsky_clip {
    double sigma;
    long maxiters;
};

/* Where results go.  `sci` and `err` are float, or double where `wide` is set;
 * `err` and `dq` may be NULL.  `n_rejected` has one counter an exposure and is
 * added to; `n_err_estimated` likewise (one counter in all).
 *
 * A pixel with no finite sample, or none left, has n_kept 0 and NaN in sci and
 * err.  Sums run in double in the order of the exposures, so that a pixel's
 * result depends on its own samples alone: not on tiles, bands or threads. */
struct offsky_result {
    int wide;
    void *sci, *err;
    uint32_t *dq;
    uint16_t *n_kept;
    int64_t *n_rejected;
    int64_t *n_err_estimated;
};

/* Bytes of scratch (aligned to 64) that one call needs. */
size_t offsky_scratch_bytes(const struct offsky_stack *stack);

/* Average pixels [first, last) of every plane into the same places of the
 * result. */
void offsky_clip_mean(const struct offsky_stack *stack,
                      const struct offsky_clip *clip,
                      size_t first,
                      size_t last,
                      const struct offsky_result *result,
                      void *scratch);

#endif
