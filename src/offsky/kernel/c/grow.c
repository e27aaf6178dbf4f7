/* Growing of what is rejected to its neighbours; see average.h for the contract.
 *
 * twin_grow.py has the formulas.  Bits tell which samples lie next to a rejected one; of these
 * few, those above a bound from below of what they must exceed are looked at in double.
 */
#include "average.h"
#include "column.h"

#include <string.h>

/* One pass over some rows. */
struct growth {
    const struct offsky_stack *stack;
    const struct offsky_rule *rule;
    const struct offsky_marks *marks;
    double above;
    size_t pass;
    double *x, *scaled; /* (n,): samples and ERR of a pixel */
    float *least_reach, *most_reach; /* (n,): bounds of what a sample must be above the mean, of
                                        the typical ERR */
    uint64_t *near;    /* (n, words): what of a row lies next to a rejected sample */
    uint64_t *fresh;   /* (n, words): what this pass looks at */
    uint64_t *last;    /* (words,): pixels of a row from which the pass before took a sample */
    uint64_t *changed; /* (words,): and from which any growing took one */
    uint64_t *done;    /* (words,): pixels of a row that this pass has settled */
};

/* The next array of a scratch, from `memory` (NULL to count only). */
static void *
take(char *memory, size_t *used, size_t bytes)
{
    void *place = memory ? (void *)(memory + *used) : NULL;
    *used += (bytes + 63) / 64 * 64;
    return place;
}

static size_t
lay_out(struct growth *g, char *memory, size_t n, size_t words)
{
    size_t used = 0;
    g->x = take(memory, &used, n * sizeof(double));
    g->scaled = take(memory, &used, n * sizeof(double));
    g->least_reach = take(memory, &used, n * sizeof(float));
    g->most_reach = take(memory, &used, n * sizeof(float));
    g->near = take(memory, &used, n * words * sizeof(uint64_t));
    g->fresh = take(memory, &used, n * words * sizeof(uint64_t));
    g->last = take(memory, &used, words * sizeof(uint64_t));
    g->changed = take(memory, &used, words * sizeof(uint64_t));
    g->done = take(memory, &used, words * sizeof(uint64_t));
    return used;
}

size_t
offsky_grow_bytes(const struct offsky_stack *stack, const struct offsky_marks *marks)
{
    struct growth g;
    return lay_out(&g, NULL, stack->n_exposures, marks->words);
}

/* One sample, adjusted, NaN where it is not finite; as NAME(load_floats) has it. */
static inline __attribute__((always_inline)) double
sample_of(const struct offsky_plane *plane, size_t i)
{
    const int adjusts = plane->factor != 1.0 || plane->offset != 0.0;
    double value;
    if (!plane->pixels)
        return (double)NAN;
    if (plane->kind == OFFSKY_F32) {
        uint32_t bits = ((const uint32_t *)plane->pixels)[i];
        float x;
        bits = plane->swap ? __builtin_bswap32(bits) : bits;
        memcpy(&x, &bits, sizeof x);
        if (adjusts)
            x = x * (float)plane->factor + (plane->offset != 0.0 ? (float)plane->offset : -0.0F);
        value = (double)x;
    } else {
        uint64_t bits = ((const uint64_t *)plane->pixels)[i];
        bits = plane->swap ? __builtin_bswap64(bits) : bits;
        memcpy(&value, &bits, sizeof value);
        value = value * plane->factor + (plane->offset != 0.0 ? plane->offset : -0.0);
    }
    return value - value == 0.0 ? value : (double)NAN;
}

static inline __attribute__((always_inline)) void
prefetch_sample(const struct offsky_plane *plane, size_t i)
{
    if (plane->pixels)
        __builtin_prefetch((const char *)plane->pixels + i * (plane->kind == OFFSKY_F32 ? 4 : 8));
}

/* Whether a sample is left out by a mask or by its flags. */
static int
is_left_out(const struct offsky_stack *stack, const struct offsky_rule *rule, size_t r, size_t i)
{
    if (stack->skip && stack->skip[r].pixels && ((const unsigned char *)stack->skip[r].pixels)[i])
        return 1;
    if (rule->flags == OFFSKY_OR || !stack->dq || !stack->dq[r].pixels)
        return 0;
    const uint32_t bits = ((const uint32_t *)stack->dq[r].pixels)[i];
    return (((stack->dq[r].swap ? __builtin_bswap32(bits) : bits) ^ stack->dq[r].flip) &
            rule->bad_bits) != 0;
}

/* A row of the bits of a pass. */
static uint64_t *
bits_of(const struct growth *g, size_t pass, size_t r, size_t row)
{
    const struct offsky_marks *m = g->marks;
    return m->bits + ((pass * g->stack->n_exposures + r) * m->n_rows + row) * m->words;
}

/* Whether an earlier pass rejected a sample. */
static int
is_rejected(const struct growth *g, size_t r, size_t row, size_t column)
{
    uint64_t word = 0;
    for (size_t pass = 0; pass < g->pass; pass++)
        word |= bits_of(g, pass, r, row)[column / 64];
    return (int)(word >> column % 64 & 1);
}

/* What passes [from, pass) rejected of an exposure in a row and those beside it, and next to it. */
static void
spread(const struct growth *g, size_t from, size_t r, size_t row, uint64_t *near)
{
    const size_t words = g->marks->words;
    memset(near, 0, words * sizeof *near);
    for (size_t pass = from; pass < g->pass; pass++)
        for (size_t y = row ? row - 1 : 0; y <= row + 1 && y < g->marks->n_rows; y++) {
            const uint64_t *bits = bits_of(g, pass, r, y);
            for (size_t w = 0; w < words; w++)
                near[w] |= bits[w];
        }
    uint64_t before = 0;
    for (size_t w = 0; w < words; w++) {
        const uint64_t here = near[w], after = w + 1 < words ? near[w + 1] : 0;
        near[w] = here | here << 1 | before >> 63 | here >> 1 | after << 63;
        before = here;
    }
    if (g->marks->nx % 64)
        near[words - 1] &= (UINT64_C(1) << g->marks->nx % 64) - 1;
}

/* The typical ERR of a pixel; see typical_errors(). */
static double
typical_error(const struct offsky_stack *stack, const double *x, size_t i, double *scaled)
{
    const size_t n = stack->n_exposures;
    long known = 0;
    for (size_t r = 0; r < n; r++) {
        const double e = x[r] == x[r] ? sample_of(&stack->err[r], i) : 0.0;
        if (e > 0.0)
            scaled[known++] = stack->depths ? e * stack->depths[r] : e;
    }
    if (known == 0)
        return HUGE_VAL;
    if (known == 2) {
        const double least = scaled[0] < scaled[1] ? scaled[0] : scaled[1];
        const double most = scaled[0] < scaled[1] ? scaled[1] : scaled[0];
        return 0.5 * ((most < 2.0 * least ? most : 2.0 * least) + least);
    }
    return median_by_selection(scaled, known);
}

/* Tell what of a pixel goes; pixel `i` of the planes. */
static void
grow_pixel(const struct growth *g, size_t row, size_t column, size_t i)
{
    const struct offsky_stack *stack = g->stack;
    const size_t n = stack->n_exposures, word = column / 64, bit = column % 64;
    const long least = g->rule->min_keep > 1 ? g->rule->min_keep : 1;
    double total = 0.0, sum = 0.0;
    long count = 0, n_gone = 0;
    for (size_t r = 0; r < n; r++) {
        g->x[r] = is_left_out(stack, g->rule, r, i) ? (double)NAN : sample_of(&stack->sci[r], i);
        if (g->x[r] != g->x[r] || is_rejected(g, r, row, column))
            continue;
        const double weight = stack->depths ? stack->depths[n + r] : 1.0;
        total += weight;
        sum += weight * g->x[r];
        count++;
    }
    const double mean = sum / total;
    const struct offsky_marks *m = g->marks;
    const float *bounds = m->bounds + row * m->nx + column;
    const double least_error = bounds[m->n_rows * m->nx], most_error = bounds[3 * m->n_rows * m->nx];
    double typical = (double)NAN;
    for (size_t r = 0; r < n; r++) {
        const double off = g->x[r] - mean;
        const double weight = stack->depths ? stack->depths[n + r] : 1.0;
        const double square = off * off * weight;
        if (!(off > 0.0) || !(g->near[r * m->words + word] >> bit & 1) ||
            is_rejected(g, r, row, column) ||
            square <= g->above * g->above * (least_error * least_error))
            continue;
        if (!(square > g->above * g->above * (most_error * most_error))) {
            if (typical != typical)
                typical = typical_error(stack, g->x, i, g->scaled);
            if (!(square > g->above * g->above * (typical * typical)))
                continue;
        }
        bits_of(g, g->pass, r, row)[word] |= UINT64_C(1) << bit;
        n_gone++;
    }
    if (n_gone && count - n_gone < least)
        for (size_t r = 0; r < n; r++)
            bits_of(g, g->pass, r, row)[word] &= ~(UINT64_C(1) << bit);
}

/* Look at those samples of an exposure in a row that may go. */
static void
grow_exposure(const struct growth *g, size_t r, size_t row)
{
    const struct offsky_marks *m = g->marks;
    const size_t size = m->n_rows * m->nx, start = (row - m->offset) * m->nx;
    const float *bounds = m->bounds + row * m->nx;
    uint64_t *goes = bits_of(g, g->pass, r, row);
    for (size_t w = 0; w < m->words; w++)
        for (uint64_t left = g->fresh[r * m->words + w] & ~g->done[w]; left; left &= left - 1) {
            const uint64_t bit = left & -left;
            const size_t c = 64 * w + (size_t)__builtin_ctzll(left);
            const double x = sample_of(&g->stack->sci[r], start + c);
            /* The mean can only fall: what bounds it from above stays. */
            const double surely = (double)(bounds[2 * size + c] +
                                           g->most_reach[r] * bounds[3 * size + c]);
            const double maybe = (double)(bounds[c] + g->least_reach[r] * bounds[size + c]);
            if (g->rule->min_keep <= 1 && x > surely) {
                if (!is_left_out(g->stack, g->rule, r, start + c))
                    goes[w] |= bit;
            } else if (x == x && (g->changed[w] & bit || !(x <= maybe))) {
                g->done[w] |= bit;
                grow_pixel(g, row, c, start + c);
            }
        }
}

static void
grow_row(const struct growth *g, size_t row)
{
    const size_t n = g->stack->n_exposures, words = g->marks->words;
    memset(g->done, 0, words * sizeof *g->done);
    memset(g->last, 0, words * sizeof *g->last);
    memset(g->changed, 0, words * sizeof *g->changed);
    for (size_t r = 0; r < n; r++) {
        spread(g, 0, r, row, g->near + r * words);
        for (size_t pass = 1; pass < g->pass; pass++)
            for (size_t w = 0; w < words; w++) {
                const uint64_t gone = bits_of(g, pass, r, row)[w];
                g->changed[w] |= gone;
                g->last[w] |= pass == g->pass - 1 ? gone : 0;
            }
    }
    for (size_t r = 0; r < n; r++) {
        /* A pass before has looked at old neighbours, unless the pixel changed. */
        uint64_t *fresh = g->fresh + r * words;
        spread(g, g->pass - 1, r, row, fresh);
        for (size_t w = 0; w < words; w++) {
            uint64_t gone = 0;
            for (size_t pass = 0; pass < g->pass; pass++)
                gone |= bits_of(g, pass, r, row)[w];
            fresh[w] |= g->near[r * words + w] & g->last[w];
            fresh[w] &= ~gone;
            /* They lie apart, and nothing else would fetch them in time. */
            for (uint64_t left = fresh[w]; left; left &= left - 1)
                prefetch_sample(&g->stack->sci[r],
                                (row - g->marks->offset) * g->marks->nx + 64 * w +
                                    (size_t)__builtin_ctzll(left));
        }
    }
    for (size_t r = 0; r < n; r++)
        grow_exposure(g, r, row);
}

void
offsky_grow(const struct offsky_stack *stack,
            const struct offsky_rule *rule,
            double above,
            size_t pass,
            size_t first,
            size_t last,
            const struct offsky_marks *marks,
            void *memory)
{
    struct growth g = {.stack = stack, .rule = rule, .marks = marks, .above = above, .pass = pass};
    const size_t n = stack->n_exposures;
    lay_out(&g, memory, n, marks->words);
    for (size_t r = 0; r < n; r++) {
        const double weight = stack->depths ? stack->depths[n + r] : 1.0;
        const double reach = above / sqrt(weight);
        g.least_reach[r] = reach < 1e30 ? (float)(reach * (1.0 - 1e-6)) : 0.0F;
        g.most_reach[r] = reach < 1e30 ? (float)(reach * (1.0 + 1e-6)) : HUGE_VALF;
    }
    for (size_t row = first; row < last; row++)
        grow_row(&g, row);
}
