/* Gradients by weights: sums over images and pixels of the gradient by an output times the input at a tap. */

#ifndef LEARNING_H
#define LEARNING_H

#include "convolution.h"

/* Output pixels whose gradients of a tile and inputs of a few channels stay in the first-level cache. */
#define NEAREST 64
/* Input channels of a tile: TILE times as many sums stay in registers. */
#define INPUTS (V == 16 ? 4 : 2)

typedef float quad __attribute__((vector_size(16)));

/* Four of the eight values of a and b, by number. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef PICK /* gcc before 12 */
typedef int32_t quad_order __attribute__((vector_size(16)));
#define PICK(a, b, ...) __builtin_shuffle(a, b, (quad_order){__VA_ARGS__})
#endif

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
    const quad ab = PICK(a, b, 0, 4, 1, 5) + PICK(a, b, 2, 6, 3, 7);
    const quad cd = PICK(c, d, 0, 4, 1, 5) + PICK(c, d, 2, 6, 3, 7);
    return PICK(ab, cd, 0, 1, 4, 5) + PICK(ab, cd, 2, 3, 6, 7);
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
                    vec by_output = gradient[j];
                    KEEP(by_output);
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

/* Counts that the compiler knows: loops over them go away. */
#define BY_COUNT(count, M) switch (count) { M(1) M(2) M(3) M(4) M(5) M(6) }

static void add_tile(int outs, int ins, const Overlap *o, float *weights, int64_t by_out) {
#define INS(outs, n) case n: add_sums(outs, n, o, weights, by_out); break;
#if V == 16
#define OUTS(n) case n: switch (ins) { INS(n, 1) INS(n, 2) INS(n, 3) INS(n, 4) } break;
#else
#define OUTS(n) case n: switch (ins) { INS(n, 1) INS(n, 2) } break;
#endif
    BY_COUNT(outs, OUTS)
#undef INS
#undef OUTS
}

/* A few channels of some pixels, side by side: where they lie far apart they push each other out of the cache. */
static inline __attribute__((always_inline)) void pack_few(const vec *from, int64_t group_size, int groups, int pixels,
                                                           int step, const int count, vec *to) {
    for (int g = 0; g < groups; g++)
        for (int p = 0; p < pixels; p++, to += count)
#pragma GCC unroll 6
            for (int j = 0; j < count; j++) to[j] = from[g * group_size + (int64_t)p * step + j];
}

static void pack(const vec *from, int64_t group_size, int groups, int pixels, int step, int count, vec *to) {
#define PACK(n) case n: pack_few(from, group_size, groups, pixels, step, n, to); break;
    BY_COUNT(count, PACK)
#undef PACK
}

/* Adds to each channel's number the sum over lanes and pixels. */
static inline __attribute__((always_inline)) void sum_few(const vec *packed, int pixels, const int count, float *to) {
    vec sums[TILE];
#pragma GCC unroll 6
    for (int j = 0; j < count; j++) sums[j] = zero_vec;
    for (int p = 0; p < pixels; p++, packed += count)
#pragma GCC unroll 6
        for (int j = 0; j < count; j++) sums[j] += packed[j];
#pragma GCC unroll 6
    for (int j = 0; j < count; j++) to[j] += sums_of(sums + j, 1)[0];
}

static void sum_pixels(const vec *packed, int pixels, int count, float *to) {
#define SUM(n) case n: sum_few(packed, pixels, n, to); break;
    BY_COUNT(count, SUM)
#undef SUM
}

static int most(int a, int b) { return a > b ? a : b; }
static int least(int a, int b) { return a < b ? a : b; }

/* Adds to weights (out, tap, in) and bias (out) their gradients. in: as `convolve` reads it; gradient: [groups][output
   pixel][cout][V], for which there is as much room. */
static void weigh(int cin, int cout, int kernel, int pad, int height, int width, int groups, const float *in, int stride,
                  const float *gradient, float *weights, float *bias, vec *room) {
    const int oh = height + 2 * pad - kernel + 1, ow = width + 2 * pad - kernel + 1, taps = kernel * kernel;
    const int rows = least(oh, most(1, NEAREST / ow)), at_once = rows < oh ? 1 : most(1, NEAREST / (oh * ow));
    const int64_t in_size = (int64_t)height * width * stride, out_size = (int64_t)oh * ow * cout;
    vec inputs[at_once * (rows + kernel - 1) * width * INPUTS];
    for (int g = 0; g < groups; g += at_once)
        for (int top = 0; top < oh; top += rows) {
            /* The gradient of these rows, a tile after the other, then a few inputs of the rows that they are made from. */
            const int below = least(top + rows, oh), here = least(at_once, groups - g), area = (below - top) * ow;
            const int in_top = most(0, top - pad), in_below = least(height, below - pad + kernel - 1);
            for (int first = 0; first < cout; first += TILE) {
                const int outs = least(TILE, cout - first);
                vec *packed = room + (int64_t)first * here * area;
                pack((const vec *)gradient + g * out_size + (int64_t)top * ow * cout + first, out_size, here, area, cout,
                     outs, packed);
                sum_pixels(packed, here * area, outs, bias + first);
            }
            for (int c = 0; c < cin; c += INPUTS) {
                const int ins = least(INPUTS, cin - c);
                pack((const vec *)in + g * in_size + (int64_t)in_top * width * stride + c, in_size, here,
                     (in_below - in_top) * width, stride, ins, inputs);
                Overlap o = {.groups = here, .in_pixel = ins, .in_row = (int64_t)width * ins};
                o.in_group = (in_below - in_top) * o.in_row;
                for (int first = 0; first < cout; first += TILE) {
                    const int outs = least(TILE, cout - first);
                    o.gradient_pixel = outs;
                    o.gradient_row = (int64_t)ow * outs;
                    o.gradient_group = (int64_t)area * outs;
                    for (int t = 0; t < taps; t++) {
                        const int dy = t / kernel - pad, dx = t % kernel - pad;
                        const int y = most(top, -dy), x = most(0, -dx);
                        o.rows = least(below, height - dy) - y;
                        o.pixels = least(ow, width - dx) - x;
                        if (o.rows <= 0 || o.pixels <= 0) continue;
                        o.gradient = room + (int64_t)first * here * area + (y - top) * o.gradient_row + x * outs;
                        o.in = inputs + (y + dy - in_top) * o.in_row + (x + dx) * ins;
                        add_tile(outs, ins, &o, weights + ((int64_t)first * taps + t) * cin + c, (int64_t)cin * taps);
                    }
                }
            }
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
