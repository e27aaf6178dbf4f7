/* Which build of clip_mean.c runs: the best for the processor at hand.
 *
 * OFFSKY_HAVE_AVX2 tells that clip_mean.c was also compiled with -mavx2
 * -DOFFSKY_ISA=avx2.
 */
#include "clip_mean.h"

#define DECLARE(isa)                                                                \
    size_t offsky_scratch_bytes_##isa(const struct offsky_stack *);                 \
    void offsky_clip_mean_##isa(const struct offsky_stack *, const struct offsky_clip *, \
                                size_t, size_t, const struct offsky_result *, void *)
DECLARE(baseline);
#ifdef OFFSKY_HAVE_AVX2
DECLARE(avx2);
#define CALL(name, ...) \
    (__builtin_cpu_supports("avx2") ? name##_avx2(__VA_ARGS__) : name##_baseline(__VA_ARGS__))
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
