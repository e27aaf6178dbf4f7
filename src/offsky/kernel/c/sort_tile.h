/* Counting and sorting whole tiles, for one precision of the samples.
 *
 * Included twice by average.c, after tile_rows.h.
 */

/* Samples of each pixel that are there. */
ALWAYS_INLINE void
NAME(count_samples)(const SAMPLE *samples, size_t n, SAMPLE_BITS *restrict count)
{
    memset(count, 0, WIDTH * sizeof *count);
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < WIDTH; p++)
            count[p] += samples[r * WIDTH + p] == samples[r * WIDTH + p];
}

/* Sort all columns of a tile. */
static NEVER_INLINE void
NAME(sort_rows)(SAMPLE *rows, size_t n)
{
    NAME(sort_columns)(rows, n, WIDTH);
}

/* The tile with its columns sorted, missing samples to the end. */
ALWAYS_INLINE void
NAME(sort_tile)(const SAMPLE *samples, size_t n, SAMPLE *restrict sorted)
{
    for (size_t i = 0; i < n * WIDTH; i++)
        sorted[i] = samples[i] == samples[i] ? samples[i] : (SAMPLE)HUGE_VAL;
    NAME(sort_rows)(sorted, n);
}

/* Median of the first `count` of a sorted column of the tile. */
ALWAYS_INLINE double
NAME(column_median)(const SAMPLE *sorted, size_t count)
{
    const double upper = (double)sorted[count / 2 * WIDTH];
    return count % 2 ? upper : 0.5 * (upper + (double)sorted[(count / 2 - 1) * WIDTH]);
}
