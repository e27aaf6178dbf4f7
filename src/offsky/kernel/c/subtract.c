/* Subtraction of an average from rows of a target, in one pass; see subtract.h.
 *
 * Compiled once for each instruction set, as average.c is.  A tile of pixels at a time is
 * turned into doubles, changed, and rounded back.  For the difference of two floats that
 * gives what their own precision gives, since 53 bits are more than twice 24 and two (S. A.
 * Figueroa, When is double rounding innocuous?, SIGNUM 1995).
 */
#include "subtract.h"

#include "tile.h"

enum { TILE = 256, DO_NOT_USE = 1 };

/* A tile of the average: what it adds to a target.  Masks have all bits set, or none. */
struct addition {
    double level[TILE];      /* 0 where there is none */
    float float_level[TILE]; /* the same, where the average is `of_floats` */
    double poisson[TILE], rnoise[TILE], total[TILE];
    int64_t uncovered[TILE], known[TILE];
    int any_uncovered, of_floats;
};

ALWAYS_INLINE int64_t
is_finite(double x)
{
    return -(int64_t)(x - x == 0.0);
}

/* Pixels as doubles, and back, rounded; `swap` is a constant. */
#define DEFINE_CONVERSIONS(read_name, write_name, REAL, BITS, as_real, swapped_bits)          \
    ALWAYS_INLINE void read_name(const void *pixels, size_t count, int swap,                  \
                                 double *restrict values)                                     \
    {                                                                                         \
        const BITS *restrict in = pixels;                                                     \
        for (size_t p = 0; p < count; p++)                                                    \
            values[p] = (double)as_real(swap ? swapped_bits(in[p]) : in[p]);                  \
    }                                                                                         \
    ALWAYS_INLINE void write_name(void *pixels, size_t count, int swap,                       \
                                  const double *restrict values)                              \
    {                                                                                         \
        BITS *restrict out = pixels;                                                          \
        for (size_t p = 0; p < count; p++) {                                                  \
            const REAL value = (REAL)values[p];                                               \
            BITS bits;                                                                        \
            memcpy(&bits, &value, sizeof bits);                                               \
            out[p] = swap ? swapped_bits(bits) : bits;                                        \
        }                                                                                     \
    }
DEFINE_CONVERSIONS(read_floats, write_floats, float, uint32_t, as_float, __builtin_bswap32)
DEFINE_CONVERSIONS(read_doubles, write_doubles, double, uint64_t, as_double, __builtin_bswap64)

static NEVER_INLINE void
read_reals(const void *pixels, enum offsky_kind kind, int swap, size_t count, double *values)
{
    if (kind == OFFSKY_F64 && swap)
        read_doubles(pixels, count, 1, values);
    else if (kind == OFFSKY_F64)
        read_doubles(pixels, count, 0, values);
    else if (swap)
        read_floats(pixels, count, 1, values);
    else
        read_floats(pixels, count, 0, values);
}

static NEVER_INLINE void
write_reals(void *pixels, enum offsky_kind kind, int swap, size_t count, const double *values)
{
    if (kind == OFFSKY_F64 && swap)
        write_doubles(pixels, count, 1, values);
    else if (kind == OFFSKY_F64)
        write_doubles(pixels, count, 0, values);
    else if (swap)
        write_floats(pixels, count, 1, values);
    else
        write_floats(pixels, count, 0, values);
}

static size_t
item_bytes(enum offsky_kind kind)
{
    return kind == OFFSKY_F64 ? sizeof(double) : sizeof(float);
}

/* Where a plane's pixel is. */
static char *
place(const struct offsky_image *image, size_t plane, size_t pixel)
{
    const ptrdiff_t i = (ptrdiff_t)plane * image->stride + (ptrdiff_t)pixel;
    return (char *)image->pixels + i * (ptrdiff_t)item_bytes(image->kind);
}

static void
read_plane(const struct offsky_plane *plane, size_t start, size_t count, double *values)
{
    const char *pixels = (const char *)plane->pixels + start * item_bytes(plane->kind);
    read_reals(pixels, plane->kind, 0, count, values);
}

/* The variances that the average adds: the whole, from its ERR or else from its shares, and
 * the shares.  Where these are not known the whole goes to read noise.  A target with
 * one of the two variances takes all there.  Returns the pixels whose error is not known. */
static NEVER_INLINE int64_t
find_variances(const struct offsky_average_rows *average,
               const struct offsky_rows *target,
               size_t start,
               size_t count,
               struct addition *add)
{
    const int has_poisson = target->reals[OFFSKY_VAR_POISSON].pixels != NULL;
    const int has_rnoise = target->reals[OFFSKY_VAR_RNOISE].pixels != NULL;
    const int has_shares = average->variances[0].pixels && average->variances[1].pixels;
    double *poisson = add->poisson, *rnoise = add->rnoise, *total = add->total;
    int64_t n_unknown = 0;
    read_plane(&average->err, start, count, total);
    for (size_t p = 0; p < count; p++)
        total[p] *= total[p];
    if (has_shares) {
        read_plane(&average->variances[0], start, count, poisson);
        read_plane(&average->variances[1], start, count, rnoise);
        for (size_t p = 0; p < count; p++) {
            const double whole = total[p], sum = poisson[p] + rnoise[p];
            const int64_t told = is_finite(sum);
            total[p] = is_finite(whole) ? whole : sum;
            poisson[p] = told ? poisson[p] : 0.0;
            rnoise[p] = told ? rnoise[p] : whole;
        }
    } else {
        memset(poisson, 0, count * sizeof *poisson);
        memcpy(rnoise, total, count * sizeof *rnoise);
    }
    for (size_t p = 0; p < count; p++)
        n_unknown += ~add->uncovered[p] & ~is_finite(total[p]) & 1;
    if (has_poisson || has_rnoise)
        for (size_t p = 0; p < count; p++)
            total[p] = poisson[p] + rnoise[p];
    if (!has_rnoise)
        memcpy(poisson, total, count * sizeof *poisson);
    else if (!has_poisson)
        memcpy(rnoise, total, count * sizeof *rnoise);
    for (size_t p = 0; p < count; p++)
        add->known[p] = ~add->uncovered[p] & is_finite(total[p]);
    return n_unknown;
}

/* NaN where there is no average. */
ALWAYS_INLINE void
blank(const struct addition *add, size_t count, double *values)
{
    for (size_t p = 0; p < count; p++)
        values[p] = add->uncovered[p] ? (double)NAN : values[p];
}

/* A variance of the target plus that of the average (`share` NULL: nothing), as it is to be
 * stored; `sum` grows by it. */
ALWAYS_INLINE void
add_share(const struct addition *add,
          const double *share,
          enum offsky_kind kind,
          size_t count,
          double *restrict values,
          double *restrict sum)
{
    if (share)
        for (size_t p = 0; p < count; p++)
            values[p] = add->known[p] ? values[p] + share[p] : values[p];
    if (kind == OFFSKY_F32)
        for (size_t p = 0; p < count; p++)
            values[p] = (double)(float)values[p];
    for (size_t p = 0; p < count; p++)
        sum[p] += values[p];
}

/* ERR of the target with that of the average in it: the root of the sum of its variances, or
 * where that is not finite of the squares of both. */
ALWAYS_INLINE void
add_errors(const struct addition *add,
           int has_variances,
           const double *restrict sum,
           size_t count,
           double *restrict values)
{
    for (size_t p = 0; p < count; p++) {
        const double old = values[p];
        const double of_sum = sqrt(sum[p]);
        double error = sqrt(old * old + add->total[p]);
        if (has_variances)
            error = is_finite(of_sum) ? of_sum : error;
        values[p] = add->known[p] & is_finite(old) ? error : old;
    }
}

/* Change, or copy, what a subtraction does to one plane's ERR and variances. */
static NEVER_INLINE void
change_errors(const struct offsky_rows *target,
              const struct addition *add,
              const struct offsky_subtraction *how,
              size_t plane,
              size_t start,
              size_t count,
              const struct offsky_rows *out)
{
    /* ERR last: it needs the variances. */
    static const enum offsky_real order[] = {OFFSKY_VAR_POISSON, OFFSKY_VAR_RNOISE,
                                             OFFSKY_VAR_FLAT, OFFSKY_ERR};
    const double *const shares[] = {add->poisson, add->rnoise, NULL};
    const int blanks = how->blank && add->any_uncovered;
    const int has_variances = target->reals[OFFSKY_VAR_POISSON].pixels ||
                              target->reals[OFFSKY_VAR_RNOISE].pixels;
    double values[TILE], sum[TILE] = {0.0};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct offsky_image *from = &target->reals[order[i]], *to = &out->reals[order[i]];
        if (!from->pixels)
            continue;
        char *source = place(from, plane, start), *destination = place(to, plane, start);
        if (!how->propagate && !blanks) {
            if (source != destination)
                memcpy(destination, source, count * item_bytes(from->kind));
            continue;
        }
        read_reals(source, from->kind, from->swap, count, values);
        if (how->propagate && order[i] == OFFSKY_ERR)
            add_errors(add, has_variances, sum, count, values);
        else if (how->propagate)
            add_share(add, shares[i], from->kind, count, values, sum);
        if (blanks)
            blank(add, count, values);
        write_reals(destination, from->kind, from->swap, count, values);
    }
}

/* The flags of one plane, with those of the average (NULL: none), and of what is blanked. */
static NEVER_INLINE void
change_flags(const struct offsky_image *from,
             const struct offsky_image *to,
             const uint32_t *flags,
             const struct addition *add,
             const struct offsky_subtraction *how,
             size_t plane,
             size_t start,
             size_t count)
{
    const uint32_t *in = (const uint32_t *)place(from, plane, start);
    uint32_t *dq = (uint32_t *)place(to, plane, start);
    const uint32_t flip = how->flip;
    if (in != dq)
        memcpy(dq, in, count * sizeof *dq);
    if (flags && from->swap)
        for (size_t p = 0; p < count; p++)
            dq[p] = __builtin_bswap32(((__builtin_bswap32(dq[p]) ^ flip) | flags[p]) ^ flip);
    else if (flags)
        for (size_t p = 0; p < count; p++)
            dq[p] = ((dq[p] ^ flip) | flags[p]) ^ flip;
    if (!how->blank || !add->any_uncovered)
        return;
    const uint32_t bit = from->swap ? __builtin_bswap32(DO_NOT_USE) : DO_NOT_USE;
    const uint32_t bit_flip = from->swap ? __builtin_bswap32(flip) : flip;
    for (size_t p = 0; p < count; p++)
        if (add->uncovered[p])
            dq[p] = ((dq[p] ^ bit_flip) | bit) ^ bit_flip;
}

/* Floats minus floats, in their own precision: what the difference in double rounds to.
 * `swap` is a constant. */
ALWAYS_INLINE void
subtract_floats(const void *source, void *destination, const float *restrict level, size_t count,
                int swap)
{
    const uint32_t *in = source;
    uint32_t *out = destination;
    for (size_t p = 0; p < count; p++) {
        const float left = as_float(swap ? __builtin_bswap32(in[p]) : in[p]) - level[p];
        uint32_t bits;
        memcpy(&bits, &left, sizeof bits);
        out[p] = swap ? __builtin_bswap32(bits) : bits;
    }
}

/* Clear the mask of pixels at which a plane of the target is finite; looked at only where it
 * is set. */
static NEVER_INLINE void
find_values(const struct offsky_image *sci, const char *pixels, size_t count, int64_t *no_value)
{
    double values[TILE];
    read_reals(pixels, sci->kind, sci->swap, count, values);
    for (size_t p = 0; p < count; p++)
        no_value[p] &= ~is_finite(values[p]);
}

/* The target's SCI minus the average. */
static NEVER_INLINE void
change_samples(const struct offsky_image *from,
               const struct offsky_image *to,
               const struct addition *add,
               int blanks,
               size_t plane,
               size_t start,
               size_t count)
{
    const char *source = place(from, plane, start);
    char *destination = place(to, plane, start);
    double values[TILE];
    if (add->of_floats && !blanks && from->kind == OFFSKY_F32) {
        if (from->swap)
            subtract_floats(source, destination, add->float_level, count, 1);
        else
            subtract_floats(source, destination, add->float_level, count, 0);
        return;
    }
    read_reals(source, from->kind, from->swap, count, values);
    for (size_t p = 0; p < count; p++)
        values[p] -= add->level[p];
    if (blanks)
        blank(add, count, values);
    write_reals(destination, from->kind, from->swap, count, values);
}

/* Take a tile of the average; 0 is subtracted where it has no sample. */
static NEVER_INLINE void
take_levels(const struct offsky_average_rows *average,
            size_t start,
            size_t count,
            struct addition *add)
{
    const uint16_t *n_kept = average->n_kept + start;
    int64_t any = 0;
    for (size_t p = 0; p < count; p++) {
        add->uncovered[p] = -(int64_t)(n_kept[p] == 0);
        any |= add->uncovered[p];
    }
    add->any_uncovered = any != 0;
    add->of_floats = average->sci.kind == OFFSKY_F32;
    if (add->of_floats) {
        const float *sci = (const float *)average->sci.pixels + start;
        for (size_t p = 0; p < count; p++)
            add->float_level[p] = n_kept[p] ? sci[p] : 0.0F;
        for (size_t p = 0; p < count; p++)
            add->level[p] = (double)add->float_level[p];
    } else {
        const double *sci = (const double *)average->sci.pixels + start;
        for (size_t p = 0; p < count; p++)
            add->level[p] = n_kept[p] ? sci[p] : 0.0;
    }
}

struct offsky_left
FOR_ISA(offsky_subtract)(const struct offsky_rows *target,
                         const struct offsky_average_rows *average,
                         const struct offsky_subtraction *how,
                         size_t n_planes,
                         size_t n_pixels,
                         const struct offsky_rows *out)
{
    struct addition add;
    struct offsky_left left = {0, 0};
    const struct offsky_image *from = &target->reals[OFFSKY_SCI], *to = &out->reals[OFFSKY_SCI];
    for (size_t start = 0; start < n_pixels; start += TILE) {
        const size_t count = n_pixels - start < TILE ? n_pixels - start : TILE;
        int64_t no_value[TILE];
        take_levels(average, start, count, &add);
        const int any = add.any_uncovered;
        if (any)
            memcpy(no_value, add.uncovered, count * sizeof *no_value);
        if (how->propagate)
            left.n_err_unknown += find_variances(average, target, start, count, &add);
        for (size_t plane = 0; plane < n_planes; plane++) {
            if (any)
                find_values(from, place(from, plane, start), count, no_value);
            change_samples(from, to, &add, any && how->blank, plane, start, count);
            change_flags(&target->dq, &out->dq, average->dq ? average->dq + start : NULL, &add,
                         how, plane, start, count);
            change_errors(target, &add, how, plane, start, count, out);
        }
        for (size_t p = 0; any && p < count; p++)
            left.n_no_value -= no_value[p];
    }
    return left;
}
