/* One thread's work on a chunk of image groups: its buffers, and the layers that are not couplings. */

#ifndef LAYERS_H
#define LAYERS_H

#include <stdlib.h>
#include "convolution.h"
#include "learning.h"
#include "team.h"
#include "winograd.h"

typedef struct {
    const Flow *flow;
    int groups;
    float *here, *there, *net[3]; /* activations; each holds `widest` floats per image */
    char *cursor; /* in what passes leave for their gradients */
    vec *log_det; /* [groups] */
    vec *room;    /* for Winograd's algorithm */
    float *gradients; /* by all weights, added to while learning; else 0 */
    Team *team;       /* of threads with one group each, or 0 */
    int member;
} Chunk;

static void swap_buffers(Chunk *chunk) {
    float *keep = chunk->here;
    chunk->here = chunk->there;
    chunk->there = keep;
}

static int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

static void *take(Chunk *chunk, int64_t bytes) {
    void *place = chunk->cursor;
    chunk->cursor += aligned(bytes);
    return place;
}

static void *give(Chunk *chunk, int64_t bytes) { return chunk->cursor -= aligned(bytes); }

static int out_height(const Conv *c) { return c->height + 2 * c->pad - c->kernel + 1; }
static int out_width(const Conv *c) { return c->width + 2 * c->pad - c->kernel + 1; }
static int64_t out_values(const Conv *c, int groups) {
    return (int64_t)groups * out_height(c) * out_width(c) * c->cout;
}

static int64_t weights_of(const Conv *c) { return (int64_t)c->cout * c->cin * c->kernel * c->kernel; }

/* Weights from which on a convolution on small maps is computed by the whole team, and the most pixels of those. */
#define SHARED_WEIGHTS 32768
#define SHARED_PIXELS 16

/* Whether its weights, not the maps, are what comes from memory. */
static int is_shared(const Conv *c) {
    return !c->points && weights_of(c) >= SHARED_WEIGHTS && c->height * c->width <= SHARED_PIXELS;
}

/* A convolution, whichever way it is computed; adjoint: its transpose, without bias. */
static void apply(Chunk *chunk, const Conv *c, int adjoint, const float *in, int stride, float *out, int epilogue,
                  void *signs) {
    const int cin = adjoint ? c->cout : c->cin, cout = adjoint ? c->cin : c->cout;
    const int height = adjoint ? out_height(c) : c->height, width = adjoint ? out_width(c) : c->width;
    const int pad = adjoint ? c->kernel - 1 - c->pad : c->pad, tiles = (cout + TILE - 1) / TILE;
    const float *bias = adjoint ? no_bias : c->bias, *weight = adjoint ? c->adjoint : c->weight;
    Team *team = chunk->team;
    if (team && is_shared(c)) {
        team->in[chunk->member] = in;
        team->out[chunk->member] = out;
        team->signs[chunk->member] = signs;
        meet(team);
        const Groups groups = {team->size, team->in, team->out, team->signs};
        convolve(cin, cout, c->kernel, pad, height, width, &groups, weight, bias, stride, epilogue,
                 tiles * chunk->member / team->size, tiles * (chunk->member + 1) / team->size);
        meet(team);
        return;
    }
    const int64_t out_size = (int64_t)(height + 2 * pad - c->kernel + 1) * (width + 2 * pad - c->kernel + 1) * cout * V;
    const int64_t in_size = (int64_t)height * width * stride * V;
    const float *ins[chunk->groups];
    float *outs[chunk->groups];
    void *notes[chunk->groups];
    for (int g = 0; g < chunk->groups; g++) {
        ins[g] = in + g * in_size;
        outs[g] = out + g * out_size;
        /* Bytes, or values that are a convolution's input. */
        notes[g] = (char *)signs + g * out_size * (epilogue == GATED ? (int64_t)sizeof(float) : 1);
    }
    const Groups groups = {chunk->groups, ins, outs, notes};
    if (c->points)
        convolve_points(cin, cout, height, width, &groups, adjoint ? c->adjoint_points : c->points, bias, stride, epilogue,
                        chunk->room);
    else
        convolve(cin, cout, c->kernel, pad, height, width, &groups, weight, bias, stride, epilogue, 0, tiles);
}

static int64_t affine_bytes(const Op *op, int groups) {
    return (int64_t)groups * op->height * op->width * op->channels * V * 4;
}

static void affine(Chunk *chunk, const Op *op, const Conv *matrix, int adjoint) {
    const int64_t bytes = affine_bytes(op, chunk->groups);
    if (chunk->gradients && !adjoint) memcpy(take(chunk, bytes), chunk->here, bytes);
    if (chunk->gradients && adjoint) {
        float *by_weights = chunk->gradients + matrix->gradient;
        weigh(op->channels, op->channels, 1, 0, op->height, op->width, chunk->groups, give(chunk, bytes), op->channels,
              chunk->here, by_weights, by_weights + weights_of(matrix), (vec *)chunk->there);
    }
    apply(chunk, matrix, adjoint, chunk->here, op->channels, chunk->there, PLAIN, 0);
    swap_buffers(chunk);
}

/* Each channel by itself: an affine map with a diagonal matrix, which is its own adjoint. */
static void scale(Chunk *chunk, const Op *op, const Conv *map, int adjoint) {
    const int channels = op->channels;
    const int64_t bytes = affine_bytes(op, chunk->groups), pixels = (int64_t)chunk->groups * op->height * op->width;
    vec *x = (vec *)chunk->here;
    if (chunk->gradients && !adjoint) memcpy(take(chunk, bytes), x, bytes);
    const vec *before = chunk->gradients && adjoint ? give(chunk, bytes) : 0;
    for (int c = 0; c < channels; c++) {
        const vec factor = splat(map->weight[c]), shift = splat(adjoint ? 0.0f : map->bias[c]);
        vec by_factor = zero_vec, by_shift = zero_vec;
        for (int64_t p = c; p < pixels * channels; p += channels) {
            if (before) {
                by_factor += x[p] * before[p];
                by_shift += x[p];
            }
            x[p] = x[p] * factor + shift;
        }
        if (before) {
            chunk->gradients[map->gradient + c] += sums_of(&by_factor, 1)[0];
            chunk->gradients[map->gradient + channels + c] += sums_of(&by_shift, 1)[0];
        }
    }
}

/* 2x2 pixels to four times the channels, by reordering or by the orthonormal Haar wavelet; and back. */
static void squeeze(Chunk *chunk, const Op *op, int back) {
    const int c = op->channels, h = op->height / 2, w = op->width / 2;
    for (int g = 0; g < chunk->groups; g++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                const int64_t corner = ((int64_t)g * op->height + 2 * y) * op->width + 2 * x;
                const int64_t wide[4] = {corner * c, (corner + 1) * c, (corner + op->width) * c,
                                         (corner + op->width + 1) * c};
                const int64_t deep = (((int64_t)g * h + y) * w + x) * 4 * c;
                const vec *from = (const vec *)chunk->here;
                vec *to = (vec *)chunk->there;
                for (int i = 0; i < c; i++) {
                    if (op->kind != HAAR) {
                        for (int k = 0; k < 4; k++) {
                            if (back) to[wide[k] + i] = from[deep + 4 * i + k];
                            else to[deep + 4 * i + k] = from[wide[k] + i];
                        }
                        continue;
                    }
                    /* The 4x4 matrix is symmetric and its own inverse. */
                    vec v[4];
                    for (int k = 0; k < 4; k++) v[k] = back ? from[deep + k * c + i] : from[wide[k] + i];
                    const vec top = v[0] + v[1], bottom = v[2] + v[3], left = v[0] - v[1], right = v[2] - v[3];
                    const vec out[4] = {0.5f * (top + bottom), 0.5f * (left + right), 0.5f * (top - bottom),
                                        0.5f * (left - right)};
                    for (int k = 0; k < 4; k++) to[back ? wide[k] + i : deep + k * c + i] = out[k];
                }
            }
    swap_buffers(chunk);
}

/* Carried channels between a level's full width and its own: `wide` channels <-> the first `keep`. */
static void carry(Chunk *chunk, int wide, int keep, int area, int widen) {
    const int64_t pixels = (int64_t)chunk->groups * area;
    for (int64_t p = 0; p < pixels; p++) {
        if (widen) memcpy(chunk->there + p * wide * V, chunk->here + p * keep * V, (size_t)keep * V * 4);
        else memcpy(chunk->there + p * keep * V, chunk->here + p * wide * V, (size_t)keep * V * 4);
    }
    swap_buffers(chunk);
}

#endif
