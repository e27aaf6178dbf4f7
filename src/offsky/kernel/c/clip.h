/* The plain sigma clip, inside of the kernel: the fast path behind offsky_average().
 *
 * It serves where samples are rejected by the standard deviation about the median, with one
 * threshold, or not at all, and nothing is asked for but mean, ERR and the OR of all flags.
 */
#ifndef OFFSKY_CLIP_H
#define OFFSKY_CLIP_H

#include "average.h"

#include "tile.h"

/* How it clips: above 0, and as in struct offsky_rule. */
struct clip {
    double sigma;
    long maxiters;
};

size_t FOR_ISA(offsky_clip_bytes)(const struct offsky_stack *stack,
                                  const struct offsky_result *result);

/* As offsky_average(); the stack's weights, factors, variances and `covers` are not looked
 * at. */
void FOR_ISA(offsky_clip)(const struct offsky_stack *stack,
                          const struct clip *clip,
                          size_t first,
                          size_t last,
                          const struct offsky_result *result,
                          struct offsky_counts *counts,
                          void *scratch);

#endif
