/* Gradients by weights: sums over images and pixels of the gradient by an output times the input at a tap. */

#ifndef LEARNING_H
#define LEARNING_H

#include "convolution.h"

/* Output pixels whose gradients of a tile and inputs of a few channels stay in the first-level cache. */
#define NEAREST 64
/* Input channels of a tile: TILE times as many sums stay in registers. */
#define INPUTS (V == 16 ? 4 : 2)

typedef float quad __attribute__((vector_size(16)));
typedef int32_t quad_order __attribute__((vector_size(16)));

static inline quad folded(vec v) {
    quad parts[V / 4], sum;
    memcpy(parts, &v, sizeof v);
    sum = parts[0];
    for (int i = 1; i < V / 4; i++) sum += parts[i];
    return sum;
}

/* Each vector's sum over its lanes; of the first `count` of four. */
static inline quad sums_of(const vec *v, const int count) {
    const quad a = folded(v[0]), b = count > 1 ? folded(v[1]) : a;
    const quad c = count > 2 ? folded(v[2]) : a, d = count > 3 ? folded(v[3]) : a;
    const quad_order low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, even = {0, 1, 4, 5}, odd = {2, 3, 6, 7};
    const quad ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
    const quad cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
    return __builtin_shuffle(ab, cd, even) + __builtin_shuffle(ab, cd, odd);
}

/* Where a tap's input and the gradient meet: rows of pixels in some groups. Steps are in vectors. */
typedef struct {
    const vec *gradient, *in; /* of the first pixel */
    int groups, rows, pixels;
    int64_t gradient_group, gradient_row, in_group, in_row;
    int gradient_pixel, in_pixel;
} Overlap;

/* Adds the sums of outs x ins channels to weights, outputs `by_out` apart. outs, ins: known when compiled. */
static inline __attribute__((always_inline)) void add_sums(const int outs, const int ins, const Overlap *o,
                                                           float *weights, int64_t by_out) {
    vec sums[TILE][4];
#pragma GCC unroll 6
    for (int j = 0; j < outs; j++)
#pragma GCC unroll 4
        for (int i = 0; i < ins; i++) sums[j][i] = zero_vec;
    for (int g = 0; g < o->groups; g++)
        for (int y = 0; y < o->rows; y++) {
            const vec *gradient = o->gradient + g * o->gradient_group + y * o->gradient_row;
            const vec *in = o->in + g * o->in_group + y * o->in_row;
            for (int x = 0; x < o->pixels; x++, gradient += o->gradient_pixel, in += o->in_pixel) {
#pragma GCC unroll 6
                for (int j = 0; j < outs; j++) {
                    const vec by_output = gradient[j];
#pragma GCC unroll 4
                    for (int i = 0; i < ins; i++) sums[j][i] += by_output * in[i];
                }
            }
        }
#pragma GCC unroll 6
    for (int j = 0; j < outs; j++) {
        quad total = {0};
        memcpy(&total, weights + j * by_out, ins * sizeof(float));
        total += sums_of(sums[j], ins);
        memcpy(weights + j * by_out, &total, ins * sizeof(float));
    }
}

static void add_tile(int outs, int ins, const Overlap *o, float *weights, int64_t by_out) {
#define INS(outs, n) case n: add_sums(outs, n, o, weights, by_out); break;
#if V == 16
#define OUTS(n) case n: switch (ins) { INS(n, 1) INS(n, 2) INS(n, 3) INS(n, 4) } break;
#else
#define OUTS(n) case n: switch (ins) { INS(n, 1) INS(n, 2) } break;
#endif
    switch (outs) { OUTS(1) OUTS(2) OUTS(3) OUTS(4) OUTS(5) OUTS(6) }
#undef INS
#undef OUTS
}

/* A tile's channels of some pixels, side by side: where they lie far apart they push each other out of the cache. */
static void pack(const vec *from, int64_t group_size, int groups, int pixels, int step, int outs, vec *to) {
    for (int g = 0; g < groups; g++, from += group_size)
        for (int p = 0; p < pixels; p++, to += outs) memcpy(to, from + (int64_t)p * step, outs * sizeof(vec));
}

static int most(int a, int b) { return a > b ? a : b; }
static int least(int a, int b) { return a < b ? a : b; }

/* Adds to weights (out, tap, in) and bias (out) their gradients. in: as `convolve` reads it; gradient: [groups][output
   pixel][cout][V]. */
static void weigh(int cin, int cout, int kernel, int pad, int height, int width, int groups, const float *in, int stride,
                  const float *gradient, float *weights, float *bias) {
    const int oh = height + 2 * pad - kernel + 1, ow = width + 2 * pad - kernel + 1, taps = kernel * kernel;
    const int rows = least(oh, most(1, NEAREST / ow)), at_once = rows < oh ? 1 : most(1, NEAREST / (oh * ow));
    Overlap o = {.in_group = (int64_t)height * width * stride, .in_row = (int64_t)width * stride, .in_pixel = stride};
    vec packed[at_once * rows * ow * TILE];
    for (int g = 0; g < groups; g += at_once)
        for (int top = 0; top < oh; top += rows)
            for (int first = 0; first < cout; first += TILE) {
                const int outs = least(TILE, cout - first), below = least(top + rows, oh);
                pack((const vec *)gradient + ((int64_t)g * oh + top) * ow * cout + first, (int64_t)oh * ow * cout,
                     least(at_once, groups - g), (below - top) * ow, cout, outs, packed);
                o.gradient_pixel = outs;
                o.gradient_row = (int64_t)ow * outs;
                o.gradient_group = (below - top) * o.gradient_row;
                for (int c = 0; c < cin; c += INPUTS)
                    for (int t = 0; t < taps; t++) {
                        const int dy = t / kernel - pad, dx = t % kernel - pad;
                        const int y = most(top, -dy), x = most(0, -dx);
                        o.groups = least(at_once, groups - g);
                        o.rows = least(below, height - dy) - y;
                        o.pixels = least(ow, width - dx) - x;
                        if (o.rows <= 0 || o.pixels <= 0) continue;
                        o.gradient = packed + (y - top) * o.gradient_row + x * outs;
                        o.in = (const vec *)in + g * o.in_group + (y + dy) * o.in_row + (x + dx) * stride + c;
                        add_tile(outs, least(INPUTS, cin - c), &o, weights + ((int64_t)first * taps + t) * cin + c,
                                 (int64_t)cin * taps);
                    }
            }
    for (int c = 0; c < cout; c++) {
        vec sum = zero_vec;
        for (int64_t p = 0; p < (int64_t)groups * oh * ow; p++) sum += ((const vec *)gradient)[p * cout + c];
        bias[c] += sums_of(&sum, 1)[0];
    }
}

/* Weights (out, in, tap) as `convolve` reads them, and their transpose: channels exchanged, taps reversed. */
static void lay(int cin, int cout, int taps, const float *plain, float *tiled, float *adjoint) {
    for (int o = 0; o < cout; o++)
        for (int c = 0; c < cin; c++)
            for (int t = 0; t < taps; t++) {
                const float weight = plain[((int64_t)o * cin + c) * taps + t];
                tiled[(((int64_t)(o / TILE) * taps + t) * cin + c) * TILE + o % TILE] = weight;
                adjoint[(((int64_t)(c / TILE) * taps + taps - 1 - t) * cout + o) * TILE + c % TILE] = weight;
            }
}

#endif
