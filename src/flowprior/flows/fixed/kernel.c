/* A flow with fixed weights: both directions and their gradients with respect to the input, for many images.

   V images lie side by side in the lanes of a vector, so that every operation of the flow, on maps of any size, is
   plain vector arithmetic: activations are [image group][pixel][channel][V]. A convolution is a matrix of weights times
   the channels of each tap; one tile computes TILE output channels of two pixels in registers.

   A flow is an array of Op, made by program.py. Weights of a convolution are [tile][tap][cin][TILE], channels beyond
   the last are zero. Nothing here allocates beyond one scratch area per thread; what the backward pass needs goes into
   `saved`, which the caller owns. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define V 16
#else
#define V 8
#endif
#define TILE 6
#define MAX_TAPS 9
#define MAX_CONVS 4
#define MAX_THREADS 64
/* Weights that stay in the first-level cache while all their outputs of a pixel are computed, in floats. */
#define RESIDENT 6144
/* Bytes of a network's activations that stay in the second-level cache: couplings take so many image groups at once. */
#define NEAR 524288

typedef float vec __attribute__((vector_size(4 * V)));
typedef int32_t ivec __attribute__((vector_size(4 * V)));
typedef int8_t bvec __attribute__((vector_size(V)));

typedef struct {
    int32_t cin, cout, kernel, pad, height, width; /* height, width: of the input map */
    int32_t shuffle, relu;                         /* depth-to-space by 2 after it; max(0, .) after it */
    const float *weight, *bias, *adjoint;
} Conv;

enum { SQUEEZE, AFFINE, COUPLING, SPLIT };
enum { TANH, SIGMOID, ADDITIVE };

typedef struct {
    int32_t kind, channels, height, width; /* of the input, in the forward direction */
    int32_t haar;                          /* SQUEEZE: wavelet instead of reordering */
    int32_t rule, swap, convs;             /* COUPLING */
    int32_t keep, offset;                  /* SPLIT: channels carried on; where the rest begins in a latent */
    const Conv *network;                   /* COUPLING: the network; AFFINE: the matrix and its inverse */
} Op;

typedef struct {
    const Op *ops;
    int32_t count, channels, height, width, dimensions;
    float low, high;   /* the flow's own range */
    float log_det;     /* what does not depend on the image: the range, actnorms, matrices */
    int64_t widest;    /* floats per image of the largest activation, inside networks too */
} Flow;

static const vec zero_vec;

static inline vec splat(float value) { return zero_vec + value; }

static inline vec choose(ivec condition, vec yes, vec no) {
    return (vec)(((ivec)yes & condition) | ((ivec)no & ~condition));
}

/* exp by 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes, relative error below 2e-7); NaN stays NaN. */
static inline vec vexp(vec x) {
    const vec most = splat(88.0f), least = splat(-87.0f);
    x = choose(x > most, most, x);
    x = choose(x < least, least, x);
    const vec magic = splat(12582912.0f); /* adding and subtracting it rounds to an integer */
    const vec n = (x * 1.44269504f + magic) - magic;
    const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
}

static inline vec vlog(vec x) {
    /* x > 0 and normal: exponent and mantissa in [sqrt(1/2), sqrt(2)), then the atanh series. */
    ivec bits = (ivec)x - 0x3f3504f3;
    const ivec n = bits >> 23;
    const vec m = (vec)((bits & 0x007fffff) + 0x3f3504f3);
    const vec s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    vec p = splat(0.22222222f);
    p = p * s2 + 0.28571429f;
    p = p * s2 + 0.4f;
    p = p * s2 + 0.66666667f;
    p = p * s2 + 2.0f;
    return p * s + __builtin_convertvector(n, vec) * 0.69314718f;
}

static inline vec vlog1p_of_exp_minus(vec x) {
    /* log(1 + exp(-x)) = max(-x, 0) + log(1 + exp(-|x|)) */
    const ivec negative = x < 0.0f;
    return choose(negative, -x, zero_vec) + vlog(1.0f + vexp(choose(negative, x, -x)));
}

/* Log-scale, its derivative by the network's output, of one value. */
static inline void scale_of(int rule, vec raw, vec *log_scale, vec *derivative) {
    if (rule == TANH) {
        const vec e = vexp(choose(raw > 20.0f, splat(40.0f), 2.0f * raw));
        const vec t = (e - 1.0f) / (e + 1.0f);
        *log_scale = 1.5f * t;
        *derivative = 1.5f * (1.0f - t * t);
    } else {
        const vec shifted = raw + 2.0f;
        const vec grown = vlog1p_of_exp_minus(shifted);
        *log_scale = -grown;
        *derivative = 1.0f - vexp(-grown); /* 1 - sigmoid */
    }
}

/* ---- convolution ---- */

enum { PLAIN, RELU, MASKED };

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
#define STEP(j) { const vec w = splat(weight[j]); a##j += w * xa; b##j += w * xb; }
            EACH(STEP)
        }
    }
#define STORE(j) out_a[j] = a##j; out_b[j] = b##j;
    EACH(STORE)
}

/* One pixel's results of a tile, through the epilogue. mask: [pixel][channel][V] bytes, -1 where positive. */
static inline void finish(const vec *result, int count, int epilogue, float *out, int8_t *mask) {
    for (int j = 0; j < count; j++) {
        vec r = result[j];
        if (epilogue == RELU) {
            const ivec positive = r > 0.0f;
            r = (vec)((ivec)r & positive);
            *(bvec *)(mask + j * V) = __builtin_convertvector(positive, bvec);
        } else if (epilogue == MASKED) {
            r = (vec)((ivec)r & __builtin_convertvector(*(const bvec *)(mask + j * V), ivec));
        }
        ((vec *)out)[j] = r;
    }
}

static const float no_bias[4096];
static const float border[4096 * V] __attribute__((aligned(64)));

/* Where an output pixel's taps lie in the input map, or `border`. */
typedef struct {
    int kernel, pad, height, width, stride;
    const float *in;
} Map;

static inline const float *tap_of(const Map *map, int group, int y, int x, int tap) {
    const int sy = y + tap / map->kernel - map->pad, sx = x + tap % map->kernel - map->pad;
    if (sy < 0 || sy >= map->height || sx < 0 || sx >= map->width) return border;
    return map->in + (((int64_t)group * map->height + sy) * map->width + sx) * map->stride * V;
}

/* in: [groups][pixel][stride channels][V], of which the first cin are read.
   Two pixels are computed at a time: the same one of two groups where there are several, so that at the border of a
   map both lack the same taps, and no work is done for them. */
static void convolve(int cin, int cout, int kernel, int pad, int height, int width, int groups, const float *weight,
                     const float *bias, const float *in, int stride, float *out, int epilogue, int8_t *mask) {
    const Map map = {kernel, pad, height, width, stride, in};
    const int oh = height + 2 * pad - kernel + 1, ow = width + 2 * pad - kernel + 1, area = oh * ow;
    const int tiles = (cout + TILE - 1) / TILE, pixels = groups * area;
    const int64_t tile_size = (int64_t)kernel * kernel * cin * TILE;
    /* As many tiles as stay in the cache serve all pixels, then the next ones. */
    const int per_sweep = tile_size * tiles <= RESIDENT ? tiles : tile_size < RESIDENT ? (int)(RESIDENT / tile_size) : 1;
    for (int first_tile = 0; first_tile < tiles; first_tile += per_sweep) {
        const int last_tile = first_tile + per_sweep < tiles ? first_tile + per_sweep : tiles;
        for (int p = 0; p < pixels; p += 2) {
            const int q = p + 1 < pixels ? p + 1 : p;
            const int group[2] = {p % groups, q % groups}, pixel[2] = {p / groups, q / groups};
            Taps taps = {.count = 0};
            for (int t = 0; t < kernel * kernel; t++) {
                const float *a = tap_of(&map, group[0], pixel[0] / ow, pixel[0] % ow, t);
                const float *b = tap_of(&map, group[1], pixel[1] / ow, pixel[1] % ow, t);
                if (a == border && b == border) continue;
                taps.number[taps.count] = t;
                taps.at[0][taps.count] = a;
                taps.at[1][taps.count++] = b;
            }
            for (int k = first_tile; k < last_tile; k++) {
                vec result[2][TILE];
                tile(&taps, cin, weight + k * tile_size, bias + k * TILE, result[0], result[1]);
                const int first = k * TILE, count = cout - first < TILE ? cout - first : TILE;
                for (int which = 0; which < (p == q ? 1 : 2); which++) {
                    const int64_t place = (((int64_t)group[which] * area + pixel[which]) * cout + first) * V;
                    finish(result[which], count, epilogue, out + place, mask ? mask + place : 0);
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

/* ---- one thread's work on a chunk of image groups ---- */

typedef struct {
    const Flow *flow;
    int groups;
    float *here, *there, *net[3]; /* activations; each holds `widest` floats per image */
    char *cursor; /* in what passes leave for their gradients */
    vec *log_det; /* [groups] */
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

/* Of each changed value: its scale, what it became before the shift, and the derivative of its log-scale. */
static int64_t scale_values(const Op *op, int groups) {
    return (int64_t)groups * op->height * op->width * (op->channels / 2) * 3;
}

static void affine(Chunk *chunk, const Op *op, const Conv *matrix, int adjoint) {
    convolve(op->channels, op->channels, 1, 0, op->height, op->width, chunk->groups,
             adjoint ? matrix->adjoint : matrix->weight, adjoint ? no_bias : matrix->bias, chunk->here, op->channels,
             chunk->there, PLAIN, 0);
    swap_buffers(chunk);
}

/* The network's answer to the kept channels at `in`; relu masks are saved. Returns the buffer it lies in. */
static const float *ask(Chunk *chunk, const Op *op, const float *in) {
    int stride = op->channels;
    for (int i = 0; i < op->convs; i++) {
        const Conv *c = op->network + i;
        float *out = chunk->net[i % 2];
        int8_t *mask = c->relu ? take(chunk, out_values(c, chunk->groups) * V) : 0;
        convolve(c->cin, c->cout, c->kernel, c->pad, c->height, c->width, chunk->groups, c->weight, c->bias, in, stride,
                 out, c->relu ? RELU : PLAIN, mask);
        if (c->shuffle) {
            const int h = out_height(c), w = out_width(c);
            shuffle(chunk->groups, h, w, c->cout / 4, 4 * V, (char *)out, (char *)chunk->net[2], 0);
            memcpy(out, chunk->net[2], out_values(c, chunk->groups) * V * 4);
            if (mask) {
                shuffle(chunk->groups, h, w, c->cout / 4, V, (char *)mask, (char *)chunk->net[2], 0);
                memcpy(mask, chunk->net[2], out_values(c, chunk->groups) * V);
            }
        }
        in = out;
        stride = c->shuffle ? c->cout / 4 : c->cout;
    }
    return in;
}

/* The gradient by the kept channels, from that by the network's answer in net[2]; masks come back in reverse. */
static const float *ask_back(Chunk *chunk, const Op *op) {
    float *gradient = chunk->net[2];
    for (int i = op->convs - 1; i >= 0; i--) {
        const Conv *c = op->network + i;
        const int h = out_height(c), w = out_width(c);
        float *free_one = gradient == chunk->net[0] ? chunk->net[1] : chunk->net[0];
        if (c->shuffle) {
            shuffle(chunk->groups, h, w, c->cout / 4, 4 * V, (char *)gradient, (char *)free_one, 1);
            gradient = free_one;
            free_one = gradient == chunk->net[0] ? chunk->net[1] : chunk->net[0];
        }
        int8_t *mask = i && op->network[i - 1].relu ? give(chunk, out_values(op->network + i - 1, chunk->groups) * V) : 0;
        convolve(c->cout, c->cin, c->kernel, c->kernel - 1 - c->pad, h, w, chunk->groups, c->adjoint, no_bias, gradient,
                 c->cout, free_one, mask ? MASKED : PLAIN, mask);
        gradient = free_one;
    }
    return gradient;
}

/* Forward: changed * exp(s) + t. Inverse: (changed - t) * exp(-s). In place in `here`. */
static void couple_part(Chunk *chunk, const Op *op, int inverse) {
    const int half = op->channels / 2, area = op->height * op->width;
    const int kept = op->swap ? half : 0, changed = op->swap ? 0 : half;
    const vec *raw = (const vec *)ask(chunk, op, chunk->here + (int64_t)kept * V);
    const int per_pixel = op->rule == ADDITIVE ? half : 2 * half;
    vec *scales = op->rule == ADDITIVE ? 0 : take(chunk, scale_values(op, chunk->groups) * V * 4);
    for (int g = 0; g < chunk->groups; g++) {
        vec total = zero_vec;
        for (int p = 0; p < area; p++) {
            const vec *answer = raw + ((int64_t)g * area + p) * per_pixel;
            vec *x = (vec *)chunk->here + ((int64_t)g * area + p) * op->channels + changed;
            if (op->rule == ADDITIVE) {
                for (int c = 0; c < half; c++) x[c] = inverse ? x[c] - answer[c] : x[c] + answer[c];
                continue;
            }
            for (int c = 0; c < half; c++) {
                vec log_scale, derivative;
                scale_of(op->rule, answer[c], &log_scale, &derivative);
                const vec shift = answer[half + c];
                const vec scale = vexp(inverse ? -log_scale : log_scale);
                const vec moved = (inverse ? x[c] - shift : x[c]) * scale;
                x[c] = inverse ? moved : moved + shift;
                total += log_scale;
                scales[0] = scale;
                scales[1] = moved;
                scales[2] = derivative;
                scales += 3;
            }
        }
        chunk->log_det[g] += inverse ? -total : total;
    }
}

/* Gradient through `couple_part`, in place in `here`; log_det holds the gradient by the log-determinant. */
static void couple_back_part(Chunk *chunk, const Op *op, int inverse) {
    const int half = op->channels / 2, area = op->height * op->width;
    const int kept = op->swap ? half : 0, changed = op->swap ? 0 : half;
    const int per_pixel = op->rule == ADDITIVE ? half : 2 * half;
    const vec *scales = op->rule == ADDITIVE ? 0 : give(chunk, scale_values(op, chunk->groups) * V * 4);
    for (int g = 0; g < chunk->groups; g++) {
        const vec by_log_det = chunk->log_det[g];
        for (int p = 0; p < area; p++) {
            vec *answer = (vec *)chunk->net[2] + ((int64_t)g * area + p) * per_pixel;
            vec *x = (vec *)chunk->here + ((int64_t)g * area + p) * op->channels + changed;
            if (op->rule == ADDITIVE) {
                for (int c = 0; c < half; c++) answer[c] = inverse ? -x[c] : x[c];
                continue;
            }
            for (int c = 0; c < half; c++, scales += 3) {
                const vec gradient = x[c], by_scale = gradient * scales[1] + by_log_det;
                x[c] = gradient * scales[0];
                answer[c] = (inverse ? -by_scale : by_scale) * scales[2];
                answer[half + c] = inverse ? -x[c] : gradient;
            }
        }
    }
    const vec *more = (const vec *)ask_back(chunk, op);
    for (int64_t q = 0; q < (int64_t)chunk->groups * area; q++) {
        vec *x = (vec *)chunk->here + q * op->channels + kept;
        for (int c = 0; c < half; c++) x[c] += more[q * half + c];
    }
}

/* Image groups that a coupling takes at once. */
static int part_of(const Op *op) {
    int64_t most = 1;
    for (int i = 0; i < op->convs; i++) {
        const int64_t bytes = out_values(op->network + i, 1) * V * 4;
        if (bytes > most) most = bytes;
    }
    return most < NEAR ? (int)(NEAR / most) : 1;
}

static int64_t saved_by(const Op *op, int groups) {
    int64_t total = 0;
    for (int i = 0; i < op->convs; i++)
        if (op->network[i].relu) total += aligned(out_values(op->network + i, groups) * V);
    return op->rule == ADDITIVE ? total : total + aligned(scale_values(op, groups) * V * 4);
}

/* A coupling on all groups, a part at a time; gradients take the parts back in reverse. */
static void couple(Chunk *chunk, const Op *op, int inverse, int gradient) {
    const int part = part_of(op), parts = (chunk->groups + part - 1) / part;
    const int64_t values = (int64_t)op->height * op->width * op->channels * V;
    for (int i = 0; i < parts; i++) {
        const int first = (gradient ? parts - 1 - i : i) * part;
        Chunk now = *chunk;
        now.groups = chunk->groups - first < part ? chunk->groups - first : part;
        now.here = chunk->here + first * values;
        now.log_det = chunk->log_det + first;
        if (gradient) couple_back_part(&now, op, inverse);
        else couple_part(&now, op, inverse);
        chunk->cursor = now.cursor;
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
                    if (!op->haar) {
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

/* ---- between rows of images or latents and lanes ---- */

/* Channels [from, channels) of `here` <-> rows[image][offset + (channel - from) * area + pixel]. */
static void rows_out(Chunk *chunk, int channels, int from, int area, float scale, float shift, float *rows, int dimensions,
                     int offset, int images) {
    for (int image = 0; image < images; image++) {
        const float *lane = chunk->here + (int64_t)(image / V) * area * channels * V + image % V;
        float *row = rows + (int64_t)image * dimensions + offset;
        for (int c = from; c < channels; c++)
            for (int p = 0; p < area; p++) *row++ = lane[((int64_t)p * channels + c) * V] * scale + shift;
    }
}

static void rows_in(Chunk *chunk, int channels, int from, int area, float scale, float shift, const float *rows,
                    int dimensions, int offset, int images) {
    for (int lane = 0; lane < chunk->groups * V; lane++) {
        /* Lanes beyond the last image repeat it. */
        const float *row = rows + (int64_t)(lane < images ? lane : images - 1) * dimensions + offset;
        float *to = chunk->here + (int64_t)(lane / V) * area * channels * V + lane % V;
        for (int c = from; c < channels; c++)
            for (int p = 0; p < area; p++) to[((int64_t)p * channels + c) * V] = *row++ * scale + shift;
    }
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

/* ---- passes ---- */

enum { FORWARD, FORWARD_GRADIENT, INVERSE, INVERSE_GRADIENT };

/* Towards latents: FORWARD of images, INVERSE_GRADIENT of gradients. */
static void to_latents(Chunk *chunk, int pass, const float *images_in, float *latents, int images) {
    const Flow *flow = chunk->flow;
    const int gradient = pass == INVERSE_GRADIENT;
    const float span = flow->high - flow->low;
    rows_in(chunk, flow->channels, 0, flow->height * flow->width, gradient ? 1.0f / span : span,
            gradient ? 0.0f : flow->low, images_in, flow->dimensions, 0, images);
    for (int i = 0; i < flow->count; i++) {
        const Op *op = flow->ops + i;
        const int area = op->height * op->width;
        switch (op->kind) {
            case SQUEEZE: squeeze(chunk, op, 0); break;
            case AFFINE: affine(chunk, op, op->network + gradient, gradient); break;
            case COUPLING: couple(chunk, op, gradient, gradient); break;
            case SPLIT:
                rows_out(chunk, op->channels, op->keep, area, 1.0f, 0.0f, latents, flow->dimensions, op->offset, images);
                if (op->keep) carry(chunk, op->channels, op->keep, area, 0);
        }
    }
}

/* Towards images: INVERSE of latents, FORWARD_GRADIENT of gradients. */
static void to_images(Chunk *chunk, int pass, const float *latents, float *images_out, int images) {
    const Flow *flow = chunk->flow;
    const int gradient = pass == FORWARD_GRADIENT;
    const float span = flow->high - flow->low;
    for (int i = flow->count - 1; i >= 0; i--) {
        const Op *op = flow->ops + i;
        const int area = op->height * op->width;
        switch (op->kind) {
            case SQUEEZE: squeeze(chunk, op, 1); break;
            case AFFINE: affine(chunk, op, op->network + !gradient, gradient); break;
            case COUPLING: couple(chunk, op, !gradient, gradient); break;
            case SPLIT:
                if (op->keep) carry(chunk, op->channels, op->keep, area, 1);
                rows_in(chunk, op->channels, op->keep, area, 1.0f, 0.0f, latents, flow->dimensions, op->offset, images);
        }
    }
    rows_out(chunk, flow->channels, 0, flow->height * flow->width, gradient ? span : 1.0f / span,
             gradient ? 0.0f : -flow->low / span, images_out, flow->dimensions, 0, images);
}

/* Bytes that a pass saves for its gradient, of a chunk of image groups. */
int64_t saved_bytes(const Flow *flow, int groups) {
    int64_t total = 0;
    for (int i = 0; i < flow->count; i++) {
        const Op *op = flow->ops + i;
        if (op->kind != COUPLING) continue;
        for (int first = 0, part = part_of(op); first < groups; first += part)
            total += saved_by(op, groups - first < part ? groups - first : part);
    }
    return total;
}

typedef struct {
    const Flow *flow;
    int pass, images, groups_at_once, failed;
    const float *in, *log_det_in;
    float *out, *log_det_out;
    char *saved;
    int next; /* first group that nobody has taken */
    pthread_mutex_t lock;
} Work;

static void *worker(void *argument) {
    Work *work = argument;
    const Flow *flow = work->flow;
    const int groups = (work->images + V - 1) / V;
    const int64_t floats = flow->widest * work->groups_at_once * V;
    float *scratch = 0;
    if (posix_memalign((void **)&scratch, 64, (5 * floats + work->groups_at_once * V) * sizeof(float))) {
        work->failed = 1;
        return 0;
    }
    for (;;) {
        pthread_mutex_lock(&work->lock);
        const int first = work->next;
        work->next += work->groups_at_once;
        pthread_mutex_unlock(&work->lock);
        if (first >= groups) break;
        Chunk chunk = {.flow = flow, .groups = groups - first < work->groups_at_once ? groups - first : work->groups_at_once};
        chunk.here = scratch;
        chunk.there = scratch + floats;
        for (int i = 0; i < 3; i++) chunk.net[i] = scratch + (2 + i) * floats;
        chunk.log_det = (vec *)(scratch + 5 * floats);
        chunk.cursor = work->saved + first / work->groups_at_once * saved_bytes(flow, work->groups_at_once);
        const int gradient = work->pass == FORWARD_GRADIENT || work->pass == INVERSE_GRADIENT;
        /* Gradients take back, last first, what the pass before them left. */
        if (gradient) chunk.cursor += saved_bytes(flow, chunk.groups);
        const int start = first * V, left = work->images - start;
        const int images = left < chunk.groups * V ? left : chunk.groups * V;
        float *log_det = (float *)chunk.log_det;
        for (int lane = 0; lane < chunk.groups * V; lane++)
            log_det[lane] = gradient ? (lane < images ? work->log_det_in[start + lane] : 0.0f) : 0.0f;
        const float *in = work->in + (int64_t)start * flow->dimensions;
        float *out = work->out + (int64_t)start * flow->dimensions;
        if (work->pass == FORWARD || work->pass == INVERSE_GRADIENT) to_latents(&chunk, work->pass, in, out, images);
        else to_images(&chunk, work->pass, in, out, images);
        if (!gradient)
            for (int lane = 0; lane < images; lane++)
                work->log_det_out[start + lane] = log_det[lane] + (work->pass == FORWARD ? flow->log_det : -flow->log_det);
    }
    free(scratch);
    return 0;
}

/* Images beside each other in a vector. */
int lanes(void) { return V; }

/* Run a pass over all images. in: images or latents, or for a gradient pass the gradient by its output;
   log_det_in: the gradient by the log-determinant. Returns 0, or 1 if memory ran out. */
int run(const Flow *flow, int pass, int images, int groups_at_once, int threads, const float *in, const float *log_det_in,
        float *out, float *log_det_out, char *saved) {
    Work work = {flow, pass, images, groups_at_once, 0, in, log_det_in, out, log_det_out, saved, 0, PTHREAD_MUTEX_INITIALIZER};
    pthread_t others[MAX_THREADS];
    int started = 0;
    while (started < threads - 1 && started < MAX_THREADS && !pthread_create(others + started, 0, worker, &work)) started++;
    worker(&work);
    for (int i = 0; i < started; i++) pthread_join(others[i], 0);
    return work.failed;
}
