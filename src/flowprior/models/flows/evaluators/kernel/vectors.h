/* V images side by side: the vector type, and exp and log of vectors. */

#ifndef VECTORS_H
#define VECTORS_H

#include <stdint.h>

/* As many as one register holds; -DV=16, 8 or 4 asks for another width, which compilers make of several or of parts. */
#ifndef V
#if defined(__AVX512F__)
#define V 16
#elif defined(__AVX__)
#define V 8
#else
#define V 4
#endif
#endif

typedef float vec __attribute__((vector_size(4 * V)));
typedef int32_t ivec __attribute__((vector_size(4 * V)));
typedef int8_t bvec __attribute__((vector_size(V)));

static const vec zero_vec;

/* Minus, since x - 0 is x: x + 0 is not for x = -0, and would be computed beside every multiply-add. */
static inline vec splat(float value) { return value - zero_vec; }

/* Keeps a loaded value in its register: compilers load it again for every use, and loads are what there is least of. */
#if V == 16 && defined(__AVX512F__)
#define KEEP(value) __asm__("" : "+v"(value))
#elif (V == 8 && defined(__AVX__)) || (V == 4 && defined(__SSE2__))
#define KEEP(value) __asm__("" : "+x"(value))
#elif V == 4 && defined(__aarch64__)
#define KEEP(value) __asm__("" : "+w"(value))
#else
#define KEEP(value)
#endif

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

#endif
