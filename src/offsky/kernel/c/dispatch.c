/* Which build of average.c, clip.c and subtract.c runs: the best for the processor at hand.
 *
 * OFFSKY_HAVE_AVX2 tells that they were also compiled with -mavx2 -mfma -DOFFSKY_ISA=avx2.
 */
#include "average.h"
#include "subtract.h"

#define DECLARE(isa)                                                                          \
    size_t offsky_average_bytes_##isa(const struct offsky_stack *, const struct offsky_rule *, \
                                      const struct offsky_result *);                          \
    struct offsky_counts offsky_average_##isa(const struct offsky_stack *,                    \
                                              const struct offsky_rule *, size_t, size_t,     \
                                              const struct offsky_result *, void *);          \
    struct offsky_left offsky_subtract_##isa(const struct offsky_rows *,                      \
                                             const struct offsky_average_rows *,              \
                                             const struct offsky_subtraction *, size_t,       \
                                             size_t, const struct offsky_rows *)
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
offsky_average_bytes(const struct offsky_stack *stack,
                     const struct offsky_rule *rule,
                     const struct offsky_result *result)
{
    return CALL(offsky_average_bytes, stack, rule, result);
}

struct offsky_counts
offsky_average(const struct offsky_stack *stack,
               const struct offsky_rule *rule,
               size_t first,
               size_t last,
               const struct offsky_result *result,
               void *scratch)
{
    return CALL(offsky_average, stack, rule, first, last, result, scratch);
}

struct offsky_left
offsky_subtract(const struct offsky_rows *target,
                const struct offsky_average_rows *average,
                const struct offsky_subtraction *how,
                size_t n_planes,
                size_t n_pixels,
                const struct offsky_rows *out)
{
    return CALL(offsky_subtract, target, average, how, n_planes, n_pixels, out);
}
