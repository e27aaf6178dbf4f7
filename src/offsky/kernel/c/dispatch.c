/* Which build of clip_mean.c, average.c and subtract.c runs: the best for the processor at hand.
 *
 * OFFSKY_HAVE_AVX2 tells that they were also compiled with -mavx2 -mfma -DOFFSKY_ISA=avx2.
 */
#include "average.h"
#include "clip_mean.h"
#include "subtract.h"

#define DECLARE(isa)                                                                     \
    size_t offsky_scratch_bytes_##isa(const struct offsky_stack *);                      \
    void offsky_clip_mean_##isa(const struct offsky_stack *, const struct offsky_clip *, \
                                size_t, size_t, const struct offsky_result *, void *);   \
    size_t offsky_average_bytes_##isa(const struct offsky_stack *,                       \
                                      const struct offsky_more *);                       \
    void offsky_average_##isa(const struct offsky_stack *, const struct offsky_more *,   \
                              const struct offsky_rule *, size_t, size_t,                \
                              const struct offsky_result *, void *const[2], void *);     \
    void offsky_subtract_##isa(const struct offsky_target *,                             \
                               const struct offsky_average_rows *, double, size_t)
DECLARE(baseline);
#ifdef OFFSKY_HAVE_AVX2
DECLARE(avx2);
#define CALL(name, ...) \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") \
         ? name##_avx2(__VA_ARGS__)                                  \
         : name##_baseline(__VA_ARGS__))
#else
#define CALL(name, ...) name##_baseline(__VA_ARGS__)
#endif

size_t
offsky_scratch_bytes(const struct offsky_stack *stack)
{
    return CALL(offsky_scratch_bytes, stack);
}

void
offsky_clip_mean(const struct offsky_stack *stack,
                 const struct offsky_clip *clip,
                 size_t first,
                 size_t last,
                 const struct offsky_result *result,
                 void *scratch)
{
    CALL(offsky_clip_mean, stack, clip, first, last, result, scratch);
}

size_t
offsky_average_bytes(const struct offsky_stack *stack, const struct offsky_more *more)
{
    return CALL(offsky_average_bytes, stack, more);
}

void
offsky_average(const struct offsky_stack *stack,
               const struct offsky_more *more,
               const struct offsky_rule *rule,
               size_t first,
               size_t last,
               const struct offsky_result *result,
               void *const variances[2],
               void *scratch)
{
    CALL(offsky_average, stack, more, rule, first, last, result, variances, scratch);
}

void
offsky_subtract(const struct offsky_target *target,
                const struct offsky_average_rows *average,
                double scale,
                size_t n_pixels)
{
    CALL(offsky_subtract, target, average, scale, n_pixels);
}
