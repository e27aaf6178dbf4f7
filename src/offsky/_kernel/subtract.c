/* Subtraction of an average from rows of a target, in one pass; see subtract.h.
 *
 * Compiled once for each instruction set, as clip_mean.c is.
 */
#include "subtract.h"

#include "tile.h"

ALWAYS_INLINE void
subtract_floats(const struct offsky_target *target,
                const struct offsky_average_rows *average,
                double scale,
                size_t n_pixels,
                int swap)
{
    uint32_t *sci = target->sci;
    for (size_t p = 0; p < n_pixels; p++) {
        const float x = as_float(swap ? __builtin_bswap32(sci[p]) : sci[p]);
        const float level = average->n_kept[p] ? average->sci[p] : 0.0F;
        const float left =
            scale == 1.0 ? x - level : (float)((double)x - scale * (double)level);
        uint32_t bits;
        memcpy(&bits, &left, sizeof bits);
        sci[p] = swap ? __builtin_bswap32(bits) : bits;
    }
}

ALWAYS_INLINE void
subtract_doubles(const struct offsky_target *target,
                 const struct offsky_average_rows *average,
                 double scale,
                 size_t n_pixels,
                 int swap)
{
    uint64_t *sci = target->sci;
    for (size_t p = 0; p < n_pixels; p++) {
        const double x = as_double(swap ? __builtin_bswap64(sci[p]) : sci[p]);
        const double left = x - scale * (double)(average->n_kept[p] ? average->sci[p] : 0.0F);
        uint64_t bits;
        memcpy(&bits, &left, sizeof bits);
        sci[p] = swap ? __builtin_bswap64(bits) : bits;
    }
}

void
FOR_ISA(offsky_subtract)(const struct offsky_target *target,
                         const struct offsky_average_rows *average,
                         double scale,
                         size_t n_pixels)
{
    if (target->wide && target->swap_sci)
        subtract_doubles(target, average, scale, n_pixels, 1);
    else if (target->wide)
        subtract_doubles(target, average, scale, n_pixels, 0);
    else if (target->swap_sci && scale == 1.0)
        subtract_floats(target, average, 1.0, n_pixels, 1);
    else if (target->swap_sci)
        subtract_floats(target, average, scale, n_pixels, 1);
    else
        subtract_floats(target, average, scale, n_pixels, 0);

    const uint32_t flip = target->flip;
    uint32_t *dq = target->dq;
    if (!average->dq)
        return;
    if (target->swap_dq)
        for (size_t p = 0; p < n_pixels; p++)
            dq[p] = __builtin_bswap32(((__builtin_bswap32(dq[p]) ^ flip) | average->dq[p]) ^ flip);
    else
        for (size_t p = 0; p < n_pixels; p++)
            dq[p] = ((dq[p] ^ flip) | average->dq[p]) ^ flip;
}
