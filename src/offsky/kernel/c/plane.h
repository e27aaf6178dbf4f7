/* The pixels of one exposure, as the caller has them.
 *
 * Plain C, as everything here but binding.c: the caller owns every buffer, scratch included,
 * so that nothing can fail or needs an interpreter.  Calls share no state: any number of
 * threads may work on different pixels at once.
 */
#ifndef OFFSKY_PLANE_H
#define OFFSKY_PLANE_H

#include <stddef.h>
#include <stdint.h>

enum offsky_kind { OFFSKY_F32, OFFSKY_F64, OFFSKY_U32, OFFSKY_U8 };

/* Pixels of one kind (SCI, ERR, DQ, ...) of one exposure: contiguous, aligned to their own
 * size, never written to; NULL where the exposure has none.
 *
 * `swap`: bytes are in the other order than the machine's.
 * `flip` (U32 only) is XORed into every value after the swap: FITS stores unsigned integers
 * as signed ones with the top bit inverted.
 * `factor`, `offset` (F32 and F64 only): the sample is pixel * factor + offset, computed in
 * the plane's own type: both are rounded to it first, and product and sum are rounded one
 * after the other.  A factor of 1 and an offset of 0 change nothing. */
struct offsky_plane {
    const void *pixels;
    enum offsky_kind kind;
    int swap;
    uint32_t flip;
    double factor, offset;
};

#endif
