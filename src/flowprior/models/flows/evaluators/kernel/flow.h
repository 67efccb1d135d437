/* What Python and the kernel say to each other. Python reads this file too (interface.py): numbers, structs and
   functions alone, without macros. */

#ifndef FLOW_H
#define FLOW_H

#include <stdint.h>

/* Limits of convolutions: channels that one may read or write, and its side. */
enum { MAX_CHANNELS = 4096, MAX_KERNEL = 3 };

/* Output channels that are computed together: weights come in tiles of so many. Winograd's algorithm: products per tile
   and pair of channels; even sides of a map from which on it is faster. */
enum { TILE = 6, POINTS = 16, LEAST_SIDE = 8 };

typedef struct {
    int32_t cin, cout, kernel, pad, height, width; /* height, width: of the input map */
    int32_t shuffle, relu;                         /* depth-to-space by 2 after it; max(0, .) after it */
    float *weight, *bias, *adjoint;
    float *points, *adjoint_points; /* in place of weight and adjoint, where Winograd's algorithm computes it */
    int64_t gradient; /* where its weights' gradients begin, then its bias's */
} Conv;

/* Kinds of steps; HAAR: SQUEEZE by the wavelet instead of reordering. */
enum { SQUEEZE, HAAR, AFFINE, SCALE, COUPLING, SPLIT };
/* How a coupling bounds its log-scales. */
enum { TANH, SIGMOID, ADDITIVE };

typedef struct {
    int32_t kind, channels, height, width; /* of the input, in the forward direction */
    int32_t rule, swap, convs;             /* COUPLING */
    float scale_bias, scale_limit;         /* COUPLING by SIGMOID: added to its scales; its arguments end there */
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

/* Passes; a gradient is one more than what it is the gradient of. */
enum { FORWARD, FORWARD_GRADIENT, INVERSE, INVERSE_GRADIENT };

/* Images beside each other in a vector. */
int lanes(void);

/* Most threads that `run` takes. */
int most_threads(void);

/* Bytes that a pass saves for its gradient, of a chunk of image groups; learning: for gradients by weights as well. */
int64_t saved_bytes(const Flow *flow, int groups, int learning);

/* Bytes of the buffers that a thread needs for chunks of so many groups. */
int64_t scratch_bytes(const Flow *flow, int groups);

/* Write the weights of all convolutions and matrices into their places. plain: of each in turn, (out, in, tap), bias. */
void write_weights(const Flow *flow, const float *const *plain);

/* Run a pass over all images. in: images or latents, or for a gradient pass the gradient by its output;
   log_det_in: the gradient by the log-determinant; scratch: `scratch_bytes` for each thread. */
void run(const Flow *flow, int pass, int images, int groups_at_once, int threads, const float *in,
         const float *log_det_in, float *out, float *log_det_out, char *saved, char *scratch);

/* Latents and log-determinants of images, and the gradient by all weights, added to `gradients`: of
   sum(|z|^2 / 2 - log_det), or where by_latents and by_log_det are given, of what has these gradients; by_images: gets
   the gradient by images, or 0. On the calling thread; `saved` and `scratch` hold one chunk. */
void learn(const Flow *flow, int images, int groups_at_once, const float *in, const float *by_latents,
           const float *by_log_det, float *latents, float *log_det, float *by_images, float *gradients, char *saved,
           char *scratch);

#endif
