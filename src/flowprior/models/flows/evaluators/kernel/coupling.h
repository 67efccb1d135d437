/* Couplings: the network's answer, what it does to the changed half, and both their gradients. */

#ifndef COUPLING_H
#define COUPLING_H

#include "layers.h"

/* Bytes of a network's activations that stay in the second-level cache: couplings take so many image groups at once. */
#define NEAR 524288

/* Log-scale, its derivative by the network's output, of one value. */
static inline void scale_of(const Op *op, vec raw, vec *log_scale, vec *derivative) {
    if (op->rule == TANH) {
        const vec e = vexp(choose(raw > 20.0f, splat(40.0f), 2.0f * raw));
        const vec t = (e - 1.0f) / (e + 1.0f);
        *log_scale = 1.5f * t;
        *derivative = 1.5f * (1.0f - t * t);
    } else {
        const float end = op->scale_limit;
        const ivec below = raw < -end, above = raw > end;
        const vec shifted = choose(below, splat(-end), choose(above, splat(end), raw)) + 2.0f;
        const vec grown = vlog1p_of_exp_minus(shifted);
        *log_scale = -grown;
        const vec sigmoid = vexp(-grown);
        *derivative = 1.0f - sigmoid;
        if (op->scale_bias > 0.0f) {
            const vec scale = sigmoid + op->scale_bias;
            *log_scale = vlog(scale);
            *derivative *= sigmoid / scale;
        }
        *derivative = choose(below | above, zero_vec, *derivative);
    }
}

/* Of each changed value: its scale, what it became before the shift, and the derivative of its log-scale. */
static int64_t scale_values(const Op *op, int groups) {
    return (int64_t)groups * op->height * op->width * (op->channels / 2) * 3;
}

/* The network's answer to the kept channels at `in`; where a relu was positive is saved. Returns the buffer it lies in.
   While learning, what each convolution reads is saved instead. */
static const float *ask(Chunk *chunk, const Op *op, const float *in) {
    int stride = op->channels;
    if (chunk->gradients) {
        const int half = op->channels / 2;
        const int64_t pixels = (int64_t)chunk->groups * op->height * op->width;
        float *kept = take(chunk, pixels * half * V * 4);
        for (int64_t p = 0; p < pixels; p++) memcpy(kept + p * half * V, in + p * stride * V, (size_t)half * V * 4);
        in = kept;
        stride = half;
    }
    for (int i = 0; i < op->convs; i++) {
        const Conv *c = op->network + i;
        const int last = i == op->convs - 1;
        float *out = chunk->gradients && !last ? take(chunk, out_values(c, chunk->groups) * V * 4) : chunk->net[i % 2];
        int8_t *signs = c->relu && !chunk->gradients ? take(chunk, out_values(c, chunk->groups) * V) : 0;
        apply(chunk, c, 0, in, stride, out, signs ? NOTED_RELU : c->relu ? RELU : PLAIN, signs);
        if (c->shuffle) {
            const int h = out_height(c), w = out_width(c);
            shuffle(chunk->groups, h, w, c->cout / 4, 4 * V, (char *)out, (char *)chunk->net[2], 0);
            memcpy(out, chunk->net[2], out_values(c, chunk->groups) * V * 4);
            if (signs) {
                shuffle(chunk->groups, h, w, c->cout / 4, V, (char *)signs, (char *)chunk->net[2], 0);
                memcpy(signs, chunk->net[2], out_values(c, chunk->groups) * V);
            }
        }
        in = out;
        stride = c->shuffle ? c->cout / 4 : c->cout;
    }
    return in;
}

/* The gradient by the kept channels, from that by the network's answer in net[2]; what was saved comes back in reverse. */
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
        const int after_relu = i && op->network[i - 1].relu;
        int epilogue = PLAIN;
        void *signs = 0;
        if (chunk->gradients) {
            const float *read = give(chunk, (int64_t)chunk->groups * c->height * c->width * c->cin * V * 4);
            float *by_weights = chunk->gradients + c->gradient;
            weigh(c->cin, c->cout, c->kernel, c->pad, c->height, c->width, chunk->groups, read, c->cin, gradient, by_weights,
                  by_weights + weights_of(c), (vec *)free_one);
            if (after_relu) epilogue = GATED, signs = (void *)read;
        } else if (after_relu) {
            epilogue = MASKED, signs = give(chunk, out_values(op->network + i - 1, chunk->groups) * V);
        }
        apply(chunk, c, 1, gradient, c->cout, free_one, epilogue, signs);
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
                scale_of(op, answer[c], &log_scale, &derivative);
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

static int64_t saved_by(const Op *op, int groups, int learning) {
    int64_t total = 0;
    for (int i = 0; i < op->convs; i++) {
        const Conv *c = op->network + i;
        if (c->relu && !learning) total += aligned(out_values(c, groups) * V);
        if (learning) total += aligned((int64_t)groups * c->height * c->width * c->cin * V * 4);
    }
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

#endif
