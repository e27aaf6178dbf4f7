/* Averages of those pixels that growing has changed; see average.h for the contract.
 *
 * They are gathered, a tile at a time, into planes of their own, which are averaged as any others.
 */
#include "tile.h"

enum { N_KINDS = 6 };

/* A tile of pixels that are gathered: `count` of them, at `places` of the planes. */
struct gathered {
    size_t *places;
    struct offsky_plane *planes[N_KINDS], *skip; /* (n,) each, of WIDTH pixels */
    char *pixels[N_KINDS];
    size_t row_bytes[N_KINDS]; /* of a row of `pixels` */
    unsigned char *skipped; /* (n, WIDTH) */
    void *sci, *err, *variances[2], **shares; /* the results of the tile */
    char *share_pixels;
    uint32_t *dq;
    uint16_t *n_kept;
    int64_t *n_rejected; /* (n,): nothing is rejected here */
    void *average;       /* scratch of the average */
};

static void
kinds_of(const struct offsky_stack *stack, const struct offsky_plane *kinds[N_KINDS])
{
    kinds[0] = stack->sci;
    kinds[1] = stack->err;
    kinds[2] = stack->dq;
    kinds[3] = stack->variances[0];
    kinds[4] = stack->variances[1];
    kinds[5] = stack->covers;
}

static size_t
item_bytes(enum offsky_kind kind)
{
    return kind == OFFSKY_F64 ? 8 : kind == OFFSKY_U8 ? 1 : 4;
}

/* The rule of the average again: what is rejected is left out. */
static struct offsky_rule
without_rejection(const struct offsky_rule *rule)
{
    struct offsky_rule again = *rule;
    again.method = OFFSKY_NONE;
    return again;
}

/* Lay out the arrays in `memory` (NULL to count only); returns their bytes. */
static size_t
lay_out(struct gathered *s,
        char *memory,
        const struct offsky_stack *stack,
        const struct offsky_rule *rule,
        const struct offsky_result *result)
{
    const size_t n = stack->n_exposures, real = result->wide ? sizeof(double) : sizeof(float);
    const struct offsky_plane *kinds[N_KINDS];
    const struct offsky_rule again = without_rejection(rule);
    size_t used = 0;
    kinds_of(stack, kinds);
    TAKE(places, WIDTH * sizeof(size_t));
    for (int k = 0; k < N_KINDS; k++) {
        size_t widest = 0;
        for (size_t r = 0; kinds[k] && r < n; r++)
            widest = item_bytes(kinds[k][r].kind) > widest ? item_bytes(kinds[k][r].kind) : widest;
        s->row_bytes[k] = WIDTH * widest;
        TAKE(planes[k], kinds[k] ? n * sizeof(struct offsky_plane) : 0);
        TAKE(pixels[k], n * s->row_bytes[k]);
    }
    TAKE(skip, n * sizeof(struct offsky_plane));
    TAKE(skipped, n * WIDTH);
    TAKE(sci, WIDTH * real);
    TAKE(err, WIDTH * real);
    TAKE(variances[0], WIDTH * real);
    TAKE(variances[1], WIDTH * real);
    TAKE(dq, WIDTH * sizeof(uint32_t));
    TAKE(n_kept, WIDTH * sizeof(uint16_t));
    TAKE(n_rejected, n * sizeof(int64_t));
    TAKE(shares, result->n_groups * sizeof(void *));
    TAKE(share_pixels, result->n_groups * WIDTH * real);
    TAKE(average, offsky_average_bytes(stack, &again, result));
    return used;
}

size_t
offsky_amend_bytes(const struct offsky_stack *stack,
                   const struct offsky_rule *rule,
                   const struct offsky_result *result)
{
    struct gathered s;
    return lay_out(&s, NULL, stack, rule, result);
}

/* Copy pixels at some places to the beginning of another plane, or back. */
static void
gather(const void *from, size_t bytes, const size_t *places, size_t count, void *to)
{
    if (bytes == 8)
        for (size_t p = 0; p < count; p++)
            ((uint64_t *)to)[p] = ((const uint64_t *)from)[places[p]];
    else if (bytes == 4)
        for (size_t p = 0; p < count; p++)
            ((uint32_t *)to)[p] = ((const uint32_t *)from)[places[p]];
    else
        for (size_t p = 0; p < count; p++)
            ((unsigned char *)to)[p] = ((const unsigned char *)from)[places[p]];
}

static void
scatter(const void *from, size_t bytes, const size_t *places, size_t count, void *to)
{
    if (bytes == 8)
        for (size_t p = 0; p < count; p++)
            ((uint64_t *)to)[places[p]] = ((const uint64_t *)from)[p];
    else if (bytes == 4)
        for (size_t p = 0; p < count; p++)
            ((uint32_t *)to)[places[p]] = ((const uint32_t *)from)[p];
    else
        for (size_t p = 0; p < count; p++)
            ((uint16_t *)to)[places[p]] = ((const uint16_t *)from)[p];
}

/* Whether a pass from `first` to `last` rejected a sample. */
static int
rejects_at(const struct offsky_marks *m, size_t n, size_t first, size_t last, size_t r, size_t place)
{
    const size_t row = place / m->nx + m->offset, column = place % m->nx;
    uint64_t word = 0;
    for (size_t pass = first; pass <= last; pass++)
        word |= m->bits[((pass * n + r) * m->n_rows + row) * m->words + column / 64];
    return (int)(word >> column % 64 & 1);
}

/* Whether the ERR of some sample may be missing. */
static int
may_miss_err(const struct offsky_plane *err, size_t n, size_t count)
{
    for (size_t r = 0; r < n; r++) {
        int any = !err[r].pixels || err[r].kind != OFFSKY_F32;
        const uint32_t *bits = err[r].pixels;
        for (size_t p = 0; !any && p < count; p++) {
            const uint32_t b = err[r].swap ? __builtin_bswap32(bits[p]) : bits[p];
            any |= (b & 0x7f800000U) == 0x7f800000U;
        }
        if (any)
            return 1;
    }
    return 0;
}

/* Leave out what passes up to `last` rejected, and what is left out anyway. */
static void
fill_skip(const struct gathered *s, const struct offsky_stack *stack, const struct offsky_marks *marks,
          size_t last, size_t count)
{
    const size_t n = stack->n_exposures;
    for (size_t r = 0; r < n; r++) {
        const unsigned char *skip = stack->skip ? stack->skip[r].pixels : NULL;
        unsigned char *out = s->skipped + r * WIDTH;
        for (size_t p = 0; p < count; p++)
            out[p] = (unsigned char)(rejects_at(marks, n, 0, last, r, s->places[p]) |
                                     (skip ? skip[s->places[p]] != 0 : 0));
    }
}

/* Average the gathered pixels, and store them; returns at how many ERR is estimated more. */
static int64_t
average_gathered(const struct gathered *s,
                 const struct offsky_stack *stack,
                 const struct offsky_rule *rule,
                 const struct offsky_result *result,
                 size_t count)
{
    const size_t n = stack->n_exposures, real = result->wide ? sizeof(double) : sizeof(float);
    const struct offsky_marks *marks = result->marks;
    const struct offsky_rule again = without_rejection(rule);
    const struct offsky_plane *kinds[N_KINDS];
    kinds_of(stack, kinds);
    for (int k = 0; k < N_KINDS; k++)
        for (size_t r = 0; kinds[k] && r < n; r++) {
            const size_t bytes = item_bytes(kinds[k][r].kind);
            void *to = s->pixels[k] + r * s->row_bytes[k];
            s->planes[k][r] = kinds[k][r];
            if (!kinds[k][r].pixels)
                continue;
            gather(kinds[k][r].pixels, bytes, s->places, count, to);
            s->planes[k][r].pixels = to;
        }
    for (size_t r = 0; r < n; r++)
        s->skip[r] = (struct offsky_plane){.pixels = s->skipped + r * WIDTH, .kind = OFFSKY_U8};
    const struct offsky_stack own = {
        .n_exposures = n,
        .sci = s->planes[0],
        .err = kinds[1] ? s->planes[1] : NULL,
        .dq = kinds[2] ? s->planes[2] : NULL,
        .variances = {kinds[3] ? s->planes[3] : NULL, kinds[4] ? s->planes[4] : NULL},
        .covers = kinds[5] ? s->planes[5] : NULL,
        .skip = s->skip,
        .weights = stack->weights,
        .median_factors = stack->median_factors,
    };
    const struct offsky_result to = {
        .wide = result->wide,
        .sci = s->sci,
        .err = result->err ? s->err : NULL,
        .variances = {result->variances[0] ? s->variances[0] : NULL,
                      result->variances[1] ? s->variances[1] : NULL},
        .dq = result->dq ? s->dq : NULL,
        .n_kept = s->n_kept,
        .n_rejected = s->n_rejected,
        .n_groups = result->n_groups,
        .groups = result->groups,
        .shares = s->shares,
    };
    for (size_t g = 0; g < result->n_groups; g++)
        s->shares[g] = s->share_pixels + g * WIDTH * real;
    int64_t estimated = 0;
    if (result->err && own.err && may_miss_err(own.err, n, count)) {
        fill_skip(s, stack, marks, 0, count);
        estimated -= offsky_average(&own, &again, 0, count, &to, s->average).n_err_estimated;
    }
    fill_skip(s, stack, marks, marks->n_passes, count);
    estimated += offsky_average(&own, &again, 0, count, &to, s->average).n_err_estimated;

    scatter(s->sci, real, s->places, count, result->sci);
    scatter(s->n_kept, sizeof(uint16_t), s->places, count, result->n_kept);
    if (result->err && stack->err)
        scatter(s->err, real, s->places, count, result->err);
    if (result->dq && stack->dq)
        scatter(s->dq, sizeof(uint32_t), s->places, count, result->dq);
    for (int i = 0; i < 2; i++)
        if (result->variances[i] && stack->variances[i])
            scatter(s->variances[i], real, s->places, count, result->variances[i]);
    for (size_t g = 0; g < result->n_groups; g++)
        scatter(s->shares[g], real, s->places, count, result->shares[g]);
    return estimated;
}

int64_t
offsky_amend(const struct offsky_stack *stack,
             const struct offsky_rule *rule,
             size_t first,
             size_t last,
             const struct offsky_result *result,
             void *memory)
{
    struct gathered s;
    const struct offsky_marks *m = result->marks;
    const size_t n = stack->n_exposures;
    int64_t estimated = 0;
    size_t count = 0;
    lay_out(&s, memory, stack, rule, result);
    memset(s.n_rejected, 0, n * sizeof *s.n_rejected);
    for (size_t row = first; row < last; row++)
        for (size_t w = 0; w < m->words; w++) {
            uint64_t changed = 0;
            for (size_t r = 0; r < n; r++) {
                uint64_t grown = 0;
                for (size_t pass = 1; pass <= m->n_passes; pass++)
                    grown |= m->bits[((pass * n + r) * m->n_rows + row) * m->words + w];
                result->n_rejected[r] += __builtin_popcountll(grown);
                changed |= grown;
            }
            for (; changed; changed &= changed - 1) {
                s.places[count++] =
                    (row - m->offset) * m->nx + 64 * w + (size_t)__builtin_ctzll(changed);
                if (count == WIDTH) {
                    estimated += average_gathered(&s, stack, rule, result, count);
                    count = 0;
                }
            }
        }
    if (count)
        estimated += average_gathered(&s, stack, rule, result, count);
    return estimated;
}
