/* Registers of samples, and the few things to do with them that GNU C has no operator for
 * or that gcc makes several instructions of.
 *
 * A vector is one register of samples, of floats or of doubles; LANES doubles are one too,
 * as gcc spills wider vectors.  Whatever names an instruction also stands in plain GNU C,
 * for processors without AVX2.
 */
#ifndef OFFSKY_LANES_H
#define OFFSKY_LANES_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))

typedef double f64_lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t i64_lanes __attribute__((vector_size(LANES * sizeof(int64_t))));

typedef float f32_vector __attribute__((vector_size(sizeof(f64_lanes))));
typedef int32_t f32_bits __attribute__((vector_size(sizeof(f64_lanes))));
typedef f64_lanes f64_vector;
typedef i64_lanes f64_bits;

typedef uint32_t flags_vector __attribute__((vector_size(sizeof(f64_lanes))));
enum { flags_per_vector = 2 * LANES };

/* How many samples a vector holds. */
enum { f32_per_vector = 2 * LANES, f64_per_vector = LANES };

/* v where the mask is set, +0.0 elsewhere. */
ALWAYS_INLINE f64_lanes
where(i64_lanes mask, f64_lanes v)
{
    return (f64_lanes)((i64_lanes)v & mask);
}

/* The smaller and the larger of a and b; b where either is NaN. */
#ifdef __AVX2__
ALWAYS_INLINE f32_vector
f32_smaller(f32_vector a, f32_vector b)
{
    return (f32_vector)_mm256_min_ps((__m256)a, (__m256)b);
}

ALWAYS_INLINE f32_vector
f32_larger(f32_vector a, f32_vector b)
{
    return (f32_vector)_mm256_max_ps((__m256)a, (__m256)b);
}

ALWAYS_INLINE f64_vector
f64_smaller(f64_vector a, f64_vector b)
{
    return (f64_vector)_mm256_min_pd((__m256d)a, (__m256d)b);
}

ALWAYS_INLINE f64_vector
f64_larger(f64_vector a, f64_vector b)
{
    return (f64_vector)_mm256_max_pd((__m256d)a, (__m256d)b);
}
#else
ALWAYS_INLINE f32_vector
f32_smaller(f32_vector a, f32_vector b)
{
    const f32_bits of_a = a < b;
    return (f32_vector)(((f32_bits)a & of_a) | ((f32_bits)b & ~of_a));
}

ALWAYS_INLINE f32_vector
f32_larger(f32_vector a, f32_vector b)
{
    const f32_bits of_a = a > b;
    return (f32_vector)(((f32_bits)a & of_a) | ((f32_bits)b & ~of_a));
}

ALWAYS_INLINE f64_vector
f64_smaller(f64_vector a, f64_vector b)
{
    const f64_bits of_a = a < b;
    return (f64_vector)(((f64_bits)a & of_a) | ((f64_bits)b & ~of_a));
}

ALWAYS_INLINE f64_vector
f64_larger(f64_vector a, f64_vector b)
{
    const f64_bits of_a = a > b;
    return (f64_vector)(((f64_bits)a & of_a) | ((f64_bits)b & ~of_a));
}
#endif

/* The doubles of a vector: two packs of floats, one of doubles. */
typedef struct {
    f64_lanes low, high;
} f32_wide;
typedef struct {
    f64_lanes all;
} f64_wide;

/* LANES samples from memory, as doubles.  A loop, as gcc 12 makes one instruction of it
 * but several of __builtin_convertvector. */
ALWAYS_INLINE f64_lanes
f32_read(const float *from)
{
    f64_lanes v;
    for (int l = 0; l < LANES; l++)
        v[l] = (double)from[l];
    return v;
}

ALWAYS_INLINE f64_lanes
f64_read(const double *from)
{
    f64_lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

ALWAYS_INLINE f32_wide
f32_zero(void)
{
    return (f32_wide){{0.0}, {0.0}};
}

ALWAYS_INLINE f64_wide
f64_zero(void)
{
    return (f64_wide){{0.0}};
}

ALWAYS_INLINE f32_wide
f32_read_wide(const float *from)
{
    return (f32_wide){f32_read(from), f32_read(from + LANES)};
}

ALWAYS_INLINE f64_wide
f64_read_wide(const double *from)
{
    return (f64_wide){f64_read(from)};
}

ALWAYS_INLINE f32_wide
f32_widen(f32_vector v)
{
#ifdef __AVX2__
    return (f32_wide){(f64_lanes)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)),
                      (f64_lanes)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1))};
#else
    return (f32_wide){{(double)v[0], (double)v[1]}, {(double)v[2], (double)v[3]}};
#endif
}

ALWAYS_INLINE f64_wide
f64_widen(f64_vector v)
{
    return (f64_wide){v};
}

ALWAYS_INLINE void
f32_store_wide(double *out, f32_wide w)
{
    memcpy(out, &w.low, sizeof w.low);
    memcpy(out + LANES, &w.high, sizeof w.high);
}

ALWAYS_INLINE void
f64_store_wide(double *out, f64_wide w)
{
    memcpy(out, &w.all, sizeof w.all);
}

ALWAYS_INLINE f32_wide
f32_plus(f32_wide a, f32_wide b)
{
    return (f32_wide){a.low + b.low, a.high + b.high};
}

ALWAYS_INLINE f64_wide
f64_plus(f64_wide a, f64_wide b)
{
    return (f64_wide){a.all + b.all};
}

/* sum + x * x.  The square of a float is exact in double, so that fusing both operations
 * changes no bit. */
ALWAYS_INLINE f32_wide
f32_plus_square(f32_wide sum, f32_wide x)
{
#ifdef __FMA__
    return (f32_wide){
        (f64_lanes)_mm256_fmadd_pd((__m256d)x.low, (__m256d)x.low, (__m256d)sum.low),
        (f64_lanes)_mm256_fmadd_pd((__m256d)x.high, (__m256d)x.high, (__m256d)sum.high),
    };
#else
    return (f32_wide){sum.low + x.low * x.low, sum.high + x.high * x.high};
#endif
}

ALWAYS_INLINE f64_wide
f64_plus_square(f64_wide sum, f64_wide x)
{
    return (f64_wide){sum.all + x.all * x.all};
}

/* A bit for every sample of a vector whose mask is set, the lowest the first. */
ALWAYS_INLINE unsigned
f32_set(f32_bits mask)
{
#ifdef __AVX2__
    return (unsigned)_mm256_movemask_ps((__m256)mask);
#else
    unsigned set = 0;
    for (int l = 0; l < f32_per_vector; l++)
        set |= (unsigned)(mask[l] & 1) << l;
    return set;
#endif
}

ALWAYS_INLINE unsigned
f64_set(f64_bits mask)
{
#ifdef __AVX2__
    return (unsigned)_mm256_movemask_pd((__m256d)mask);
#else
    unsigned set = 0;
    for (int l = 0; l < f64_per_vector; l++)
        set |= (unsigned)(mask[l] & 1) << l;
    return set;
#endif
}

/* Whether all are finite. */
ALWAYS_INLINE int
f32_all_finite(f32_wide w)
{
    const i64_lanes finite = (w.low - w.low == 0.0) & (w.high - w.high == 0.0);
    return f64_set(finite) == (1u << LANES) - 1;
}

ALWAYS_INLINE int
f64_all_finite(f64_wide w)
{
    return f64_set(w.all - w.all == 0.0) == (1u << LANES) - 1;
}

/* Flags with their bytes in the other order. */
ALWAYS_INLINE flags_vector
swapped(flags_vector v)
{
#ifdef __AVX2__
    const __m256i order = _mm256_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, 12,
                                          13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    return (flags_vector)_mm256_shuffle_epi8((__m256i)v, order);
#else
    return v << 24 | (v << 8 & 0xff0000) | (v >> 8 & 0xff00) | v >> 24;
#endif
}

#endif
