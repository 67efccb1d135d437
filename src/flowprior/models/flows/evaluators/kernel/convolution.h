/* Convolutions with stride 1 on [image group][pixel][channel][V], and depth to space. */

#ifndef CONVOLUTION_H
#define CONVOLUTION_H

#include <string.h>
#include "flow.h"
#include "vectors.h"

#define MAX_TAPS (MAX_KERNEL * MAX_KERNEL)
/* Weights that stay in the first-level cache while all their outputs of a pixel are computed, in floats. */
#define RESIDENT 6144
/* How far ahead weights are asked for, in floats: where each meets few pixels, they come from memory. */
#define AHEAD 768

/* What follows a convolution: nothing; max(0, .), with or without a note of its signs; zero where such a note, or the
   value itself that was positive, says so. `signs` holds that: bytes, -1 where positive; for GATED the values. */
enum { PLAIN, RELU, NOTED_RELU, MASKED, GATED };

/* All of a tile. */
#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5)

/* The taps that at least one of two pixels has: their numbers, and where each pixel's channels lie. */
typedef struct {
    int count, number[MAX_TAPS];
    const float *at[2][MAX_TAPS];
} Taps;

static inline void tile(const Taps *taps, int cin, const float *weights, const float *bias, vec *out_a, vec *out_b) {
#define DECLARE(j) vec a##j = splat(bias[j]), b##j = a##j;
    EACH(DECLARE)
    for (int t = 0; t < taps->count; t++) {
        const vec *a = (const vec *)taps->at[0][t], *b = (const vec *)taps->at[1][t];
        const float *weight = weights + (int64_t)taps->number[t] * cin * TILE;
        for (int c = 0; c < cin; c++, weight += TILE) {
            const vec xa = a[c], xb = b[c];
            __builtin_prefetch(weight + AHEAD);
#define STEP(j) { const vec w = splat(weight[j]); a##j += w * xa; b##j += w * xb; }
            EACH(STEP)
        }
    }
#define STORE(j) out_a[j] = a##j; out_b[j] = b##j;
    EACH(STORE)
}

/* Two tiles of one pixel, for the last of an odd number of pixels. */
static inline void twin_tile(const Taps *taps, int cin, const float *weights, int64_t tile_size, const float *bias,
                             vec *out_a, vec *out_b) {
#define DECLARE_TWIN(j) vec a##j = splat(bias[j]), b##j = splat(bias[TILE + j]);
    EACH(DECLARE_TWIN)
    for (int t = 0; t < taps->count; t++) {
        const vec *x = (const vec *)taps->at[0][t];
        const float *weight = weights + (int64_t)taps->number[t] * cin * TILE;
        for (int c = 0; c < cin; c++, weight += TILE) {
            const vec value = x[c];
            __builtin_prefetch(weight + AHEAD);
            __builtin_prefetch(weight + tile_size + AHEAD);
#define STEP_TWIN(j) a##j += splat(weight[j]) * value; b##j += splat(weight[tile_size + j]) * value;
            EACH(STEP_TWIN)
        }
    }
    EACH(STORE)
}

/* One pixel's results of a tile, through the epilogue, to `place` of the output. */
static inline void finish(const vec *result, int count, int epilogue, float *out, void *signs, int64_t place) {
    for (int j = 0; j < count; j++, place += V) {
        vec r = result[j];
        int8_t *note = (int8_t *)signs + place;
        if (epilogue == RELU || epilogue == NOTED_RELU) {
            const ivec positive = r > 0.0f;
            r = (vec)((ivec)r & positive);
            if (epilogue == NOTED_RELU) *(bvec *)note = __builtin_convertvector(positive, bvec);
        } else if (epilogue == MASKED) {
            r = (vec)((ivec)r & __builtin_convertvector(*(const bvec *)note, ivec));
        } else if (epilogue == GATED) {
            r = (vec)((ivec)r & (*(const vec *)((const float *)signs + place) > 0.0f));
        }
        *(vec *)(out + place) = r;
    }
}

static const float no_bias[MAX_CHANNELS + TILE];
static const float border[MAX_CHANNELS * V] __attribute__((aligned(64)));

/* Where an output pixel's taps lie in the input map, or `border`. in: of each group. */
typedef struct {
    int kernel, pad, height, width, stride;
    const float *const *in;
} Map;

static inline const float *tap_of(const Map *map, int group, int y, int x, int tap) {
    const int sy = y + tap / map->kernel - map->pad, sx = x + tap % map->kernel - map->pad;
    if (sy < 0 || sy >= map->height || sx < 0 || sx >= map->width) return border;
    return map->in[group] + ((int64_t)sy * map->width + sx) * map->stride * V;
}

/* The maps of some groups: in: [pixel][stride channels][V], of which the first cin are read; out: [pixel][cout][V]. */
typedef struct {
    int count;
    const float *const *in;
    float *const *out;
    void *const *signs;
} Groups;

/* Computes output channels of tiles [from, to).
   Two pixels are computed at a time: the same one of two groups where there are several, so that at the border of a
   map both lack the same taps, and no work is done for them. */
static void convolve(int cin, int cout, int kernel, int pad, int height, int width, const Groups *groups,
                     const float *weight, const float *bias, int stride, int epilogue, int from, int to) {
    const Map map = {kernel, pad, height, width, stride, groups->in};
    const int oh = height + 2 * pad - kernel + 1, ow = width + 2 * pad - kernel + 1, area = oh * ow;
    const int tiles = to - from, pixels = groups->count * area;
    const int64_t tile_size = (int64_t)kernel * kernel * cin * TILE;
    /* As many tiles as stay in the cache serve all pixels, then the next ones. */
    const int per_sweep = tile_size * tiles <= RESIDENT ? tiles : tile_size < RESIDENT ? (int)(RESIDENT / tile_size) : 1;
    for (int first_tile = from; first_tile < to; first_tile += per_sweep) {
        const int last_tile = first_tile + per_sweep < to ? first_tile + per_sweep : to;
        for (int p = 0; p < pixels; p += 2) {
            const int q = p + 1 < pixels ? p + 1 : p;
            const int group[2] = {p % groups->count, q % groups->count};
            const int pixel[2] = {p / groups->count, q / groups->count};
            Taps taps = {.count = 0};
            for (int t = 0; t < kernel * kernel; t++) {
                const float *a = tap_of(&map, group[0], pixel[0] / ow, pixel[0] % ow, t);
                const float *b = tap_of(&map, group[1], pixel[1] / ow, pixel[1] % ow, t);
                if (a == border && b == border) continue;
                taps.number[taps.count] = t;
                taps.at[0][taps.count] = a;
                taps.at[1][taps.count++] = b;
            }
            int k = first_tile;
            for (; p == q && k + 1 < last_tile; k += 2) {
                vec result[2][TILE];
                twin_tile(&taps, cin, weight + k * tile_size, tile_size, bias + k * TILE, result[0], result[1]);
                for (int which = 0; which < 2; which++) {
                    const int first = (k + which) * TILE, count = cout - first < TILE ? cout - first : TILE;
                    const int64_t place = ((int64_t)pixel[0] * cout + first) * V;
                    finish(result[which], count, epilogue, groups->out[group[0]], groups->signs[group[0]], place);
                }
            }
            for (; k < last_tile; k++) {
                vec result[2][TILE];
                tile(&taps, cin, weight + k * tile_size, bias + k * TILE, result[0], result[1]);
                const int first = k * TILE, count = cout - first < TILE ? cout - first : TILE;
                for (int which = 0; which < (p == q ? 1 : 2); which++) {
                    const int64_t place = ((int64_t)pixel[which] * cout + first) * V;
                    finish(result[which], count, epilogue, groups->out[group[which]], groups->signs[group[which]],
                           place);
                }
            }
        }
    }
}

/* Depth to space by 2, of items of `size` bytes per channel: [h][w][4c] <-> [2h][2w][c]. */
static void shuffle(int groups, int h, int w, int c, int size, const char *from, char *to, int back) {
    for (int g = 0; g < groups; g++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int k = 0; k < 4; k++)
                    for (int i = 0; i < c; i++) {
                        const int64_t deep = ((((int64_t)g * h + y) * w + x) * 4 * c + 4 * i + k) * size;
                        const int64_t wide = ((((int64_t)g * 2 * h + 2 * y + k / 2) * 2 * w + 2 * x + k % 2) * c + i) * size;
                        if (back) memcpy(to + deep, from + wide, size);
                        else memcpy(to + wide, from + deep, size);
                    }
}

#endif
