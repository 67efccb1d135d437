/* What a flow is to the kernel: an array of steps, made by program.py and written down by written.py. */

#ifndef FLOW_H
#define FLOW_H

#include <stdint.h>

typedef struct {
    int32_t cin, cout, kernel, pad, height, width; /* height, width: of the input map */
    int32_t shuffle, relu;                         /* depth-to-space by 2 after it; max(0, .) after it */
    float *weight, *bias, *adjoint;
    float *points, *adjoint_points; /* in place of weight and adjoint, where Winograd's algorithm computes it */
    int64_t gradient; /* where its weights' gradients begin, then its bias's */
} Conv;

enum { SQUEEZE, AFFINE, COUPLING, SPLIT, SCALE };
enum { TANH, SIGMOID, ADDITIVE };

typedef struct {
    int32_t kind, channels, height, width; /* of the input, in the forward direction */
    int32_t haar;                          /* SQUEEZE: wavelet instead of reordering */
    int32_t rule, swap, convs;             /* COUPLING */
    int32_t keep, offset;                  /* SPLIT: channels carried on; where the rest begins in a latent */
    const Conv *network;                   /* COUPLING: the network; AFFINE, SCALE: the map and, but for learning, its inverse */
} Op;

typedef struct {
    const Op *ops;
    int32_t count, channels, height, width, dimensions;
    float low, high;   /* the flow's own range */
    float log_det;     /* what does not depend on the image: the range, actnorms, matrices */
    int32_t most_channels; /* of convolutions by Winograd's algorithm; 0: there are none */
    int64_t widest;    /* floats per image of the largest activation, inside networks too */
} Flow;

#endif
