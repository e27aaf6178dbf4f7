/* Subtraction of an average from rows of a target, in one pass; see subtract.h.
 *
 * Compiled once for each instruction set, as clip_mean.c is.
 */
#include "subtract.h"

#include "tile.h"

/* Subtract from samples of one precision, whose bits are of `BITS`.  In double: of floats
 * that gives what their own precision gives, since 53 bits are more than twice 24 and two
 * (S. A. Figueroa, When is double rounding innocuous?, SIGNUM 1995). */
#define DEFINE_SUBTRACT(name, REAL, BITS, as_real, swapped_bits)                                \
    ALWAYS_INLINE void name(const struct offsky_target *target,                                 \
                            const struct offsky_average_rows *average,                          \
                            double scale,                                                       \
                            size_t n_pixels,                                                    \
                            int swap)                                                           \
    {                                                                                           \
        BITS *sci = target->sci;                                                                \
        for (size_t p = 0; p < n_pixels; p++) {                                                 \
            const double level = (double)(average->n_kept[p] ? average->sci[p] : 0.0F);         \
            const double x = (double)as_real(swap ? swapped_bits(sci[p]) : sci[p]);             \
            const REAL left = (REAL)(x - scale * level);                                        \
            BITS bits;                                                                          \
            memcpy(&bits, &left, sizeof bits);                                                  \
            sci[p] = swap ? swapped_bits(bits) : bits;                                          \
        }                                                                                       \
    }
DEFINE_SUBTRACT(subtract_floats, float, uint32_t, as_float, __builtin_bswap32)
DEFINE_SUBTRACT(subtract_doubles, double, uint64_t, as_double, __builtin_bswap64)

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
