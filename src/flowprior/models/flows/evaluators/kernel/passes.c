/* A flow whose weights stand still for a pass: both directions, their gradients by the input, and the gradient of the
   likelihood by all weights, for many images.

   V images lie side by side in the lanes of a vector, so that every operation of the flow, on maps of any size, is
   plain vector arithmetic: activations are [image group][pixel][channel][V]. A convolution is a matrix of weights times
   the channels of each tap; one tile computes TILE output channels of two pixels in registers.

   A flow is an array of Op, made by program.py. Weights of a convolution are [tile][tap][cin][TILE] (by
   Winograd's algorithm: [tile][point][cin][TILE]), channels beyond the last are zero. The caller owns `scratch`, a
   thread's buffers, and `saved`, what the backward pass needs.

   Threads take groups of images, each for itself. Where each takes one at a time, those of a round are a team:
   convolutions whose weights come from memory they compute together, each some output channels of all groups. */

#include <pthread.h>

#include "coupling.h"

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
                    int dimensions, int offset, int images, int gradient) {
    for (int lane = 0; lane < chunk->groups * V; lane++) {
        /* Lanes beyond the last image repeat it, but add nothing to sums over images. */
        const float *row = rows + (int64_t)(lane < images ? lane : images - 1) * dimensions + offset;
        const float by = gradient && lane >= images ? 0.0f : scale;
        float *to = chunk->here + (int64_t)(lane / V) * area * channels * V + lane % V;
        for (int c = from; c < channels; c++)
            for (int p = 0; p < area; p++) to[((int64_t)p * channels + c) * V] = *row++ * by + shift;
    }
}

/* Towards latents: FORWARD of images, INVERSE_GRADIENT of gradients. */
static void to_latents(Chunk *chunk, int pass, const float *images_in, float *latents, int images) {
    const Flow *flow = chunk->flow;
    const int gradient = pass == INVERSE_GRADIENT;
    const float span = flow->high - flow->low;
    rows_in(chunk, flow->channels, 0, flow->height * flow->width, gradient ? 1.0f / span : span,
            gradient ? 0.0f : flow->low, images_in, flow->dimensions, 0, images, gradient);
    for (int i = 0; i < flow->count; i++) {
        const Op *op = flow->ops + i;
        const int area = op->height * op->width;
        switch (op->kind) {
            case SQUEEZE:
            case HAAR: squeeze(chunk, op, 0); break;
            case AFFINE: affine(chunk, op, op->network + gradient, gradient); break;
            case SCALE: scale(chunk, op, op->network + gradient, gradient); break;
            case COUPLING: couple(chunk, op, gradient, gradient); break;
            case SPLIT:
                rows_out(chunk, op->channels, op->keep, area, 1.0f, 0.0f, latents, flow->dimensions, op->offset, images);
                if (op->keep) carry(chunk, op->channels, op->keep, area, 0);
        }
    }
}

/* Towards images: INVERSE of latents, FORWARD_GRADIENT of gradients; images_out: 0 where nobody asks for them. */
static void to_images(Chunk *chunk, int pass, const float *latents, float *images_out, int images) {
    const Flow *flow = chunk->flow;
    const int gradient = pass == FORWARD_GRADIENT;
    const float span = flow->high - flow->low;
    for (int i = flow->count - 1; i >= 0; i--) {
        const Op *op = flow->ops + i;
        const int area = op->height * op->width;
        switch (op->kind) {
            case SQUEEZE:
            case HAAR: squeeze(chunk, op, 1); break;
            case AFFINE: affine(chunk, op, op->network + !gradient, gradient); break;
            case SCALE: scale(chunk, op, op->network + !gradient, gradient); break;
            case COUPLING: couple(chunk, op, !gradient, gradient); break;
            case SPLIT:
                if (op->keep) carry(chunk, op->channels, op->keep, area, 1);
                rows_in(chunk, op->channels, op->keep, area, 1.0f, 0.0f, latents, flow->dimensions, op->offset, images,
                        gradient);
        }
    }
    if (!images_out) return;
    rows_out(chunk, flow->channels, 0, flow->height * flow->width, gradient ? span : 1.0f / span,
             gradient ? 0.0f : -flow->low / span, images_out, flow->dimensions, 0, images);
}

int64_t saved_bytes(const Flow *flow, int groups, int learning) {
    int64_t total = 0;
    for (int i = 0; i < flow->count; i++) {
        const Op *op = flow->ops + i;
        if ((op->kind == AFFINE || op->kind == SCALE) && learning) total += aligned(affine_bytes(op, groups));
        if (op->kind != COUPLING) continue;
        for (int first = 0, part = part_of(op); first < groups; first += part)
            total += saved_by(op, groups - first < part ? groups - first : part, learning);
    }
    return total;
}

static int64_t room_bytes(const Flow *flow) {
    return flow->most_channels ? POINTS * point_size(flow->most_channels) * (int64_t)sizeof(vec) : 0;
}

int64_t scratch_bytes(const Flow *flow, int groups) {
    return aligned((5 * flow->widest + 1) * groups * V * (int64_t)sizeof(float)) + room_bytes(flow);
}

/* A chunk of so many groups with its buffers in `scratch`. */
static Chunk new_chunk(const Flow *flow, int groups, char *scratch) {
    const int64_t floats = flow->widest * groups * V;
    Chunk chunk = {.flow = flow, .groups = groups, .here = (float *)scratch};
    chunk.there = chunk.here + floats;
    for (int i = 0; i < 3; i++) chunk.net[i] = chunk.here + (2 + i) * floats;
    chunk.log_det = (vec *)(chunk.here + 5 * floats);
    chunk.room = chunk.log_det + groups;
    return chunk;
}

typedef struct {
    const Flow *flow;
    int pass, images, groups_at_once;
    const float *in, *log_det_in;
    float *out, *log_det_out;
    char *saved, *scratch;
    int threads, next; /* threads that have begun; first group that nobody has taken */
    pthread_mutex_t lock;
    Team *teams; /* for each round of one group per thread; 0 where threads work apart */
    int members; /* threads, of which a team has as many as there are groups left */
} Work;

/* A pass over the chunk that begins at group `first`. */
static void pass_over(const Work *work, int first, char *scratch, Team *team, int member) {
    const Flow *flow = work->flow;
    Chunk chunk = new_chunk(flow, work->groups_at_once, scratch);
    chunk.team = team;
    chunk.member = member;
    chunk.groups = least((work->images + V - 1) / V - first, work->groups_at_once);
    chunk.cursor = work->saved + first / work->groups_at_once * saved_bytes(flow, work->groups_at_once, 0);
    const int gradient = work->pass == FORWARD_GRADIENT || work->pass == INVERSE_GRADIENT;
    /* Gradients take back, last first, what the pass before them left. */
    if (gradient) chunk.cursor += saved_bytes(flow, chunk.groups, 0);
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

static void *worker(void *argument) {
    Work *work = argument;
    const int groups = (work->images + V - 1) / V;
    pthread_mutex_lock(&work->lock);
    const int member = work->threads++;
    pthread_mutex_unlock(&work->lock);
    char *scratch = work->scratch + member * scratch_bytes(work->flow, work->groups_at_once);
    for (int first = member; work->teams && first < groups; first += work->members)
        pass_over(work, first, scratch, work->teams + first / work->members, member);
    while (!work->teams) {
        pthread_mutex_lock(&work->lock);
        const int first = work->next;
        work->next += work->groups_at_once;
        pthread_mutex_unlock(&work->lock);
        if (first >= groups) break;
        pass_over(work, first, scratch, 0, 0);
    }
    return 0;
}

/* Whether a team pays: some convolution's weights are worth fetching once for all its groups. */
static int has_shared(const Flow *flow) {
    for (int i = 0; i < flow->count; i++)
        for (int k = 0; flow->ops[i].kind == COUPLING && k < flow->ops[i].convs; k++)
            if (is_shared(flow->ops[i].network + k)) return 1;
    return 0;
}

int lanes(void) { return V; }

int most_threads(void) { return MAX_TEAM; }

void run(const Flow *flow, int pass, int images, int groups_at_once, int threads, const float *in,
         const float *log_det_in, float *out, float *log_det_out, char *saved, char *scratch) {
    Work work = {flow, pass, images, groups_at_once, in, log_det_in, out, log_det_out, saved, scratch, 0, 0,
                 PTHREAD_MUTEX_INITIALIZER, 0, 0};
    const int groups = (images + V - 1) / V, wanted = least(least(threads, MAX_TEAM), groups);
    pthread_t others[MAX_THREADS];
    int started = 0;
    /* Nobody begins before it is known how many there are. */
    pthread_mutex_lock(&work.lock);
    while (started < wanted - 1 && !pthread_create(others + started, 0, worker, &work)) started++;
    work.members = started + 1;
    if (started && groups_at_once == 1 && has_shared(flow)) {
        const int rounds = (groups + started) / work.members;
        work.teams = calloc(rounds, sizeof(Team));
        for (int i = 0; work.teams && i < rounds; i++)
            work.teams[i].size = least(work.members, groups - i * work.members);
    }
    pthread_mutex_unlock(&work.lock);
    worker(&work);
    for (int i = 0; i < started; i++) pthread_join(others[i], 0);
    free(work.teams);
}

void write_weights(const Flow *flow, const float *const *plain) {
    for (int i = 0; i < flow->count; i++) {
        const Op *op = flow->ops + i;
        for (int k = 0; k < op->convs; k++, plain += 2) {
            const Conv *c = op->network + k;
            if (c->points) {
                lay_points(c->cin, c->cout, plain[0], 9 * c->cin, 9, 0, c->points);
                lay_points(c->cout, c->cin, plain[0], 9, 9 * c->cin, 1, c->adjoint_points);
            } else {
                lay(c->cin, c->cout, c->kernel * c->kernel, plain[0], c->weight, c->adjoint);
            }
            memcpy(c->bias, plain[1], (size_t)c->cout * sizeof(float));
        }
    }
}

void learn(const Flow *flow, int images, int groups_at_once, const float *in, const float *by_latents,
           const float *by_log_det, float *latents, float *log_det, float *by_images, float *gradients, char *saved,
           char *scratch) {
    for (int start = 0; start < images; start += groups_at_once * V) {
        Chunk chunk = new_chunk(flow, groups_at_once, scratch);
        const int count = least(images - start, groups_at_once * V);
        chunk.groups = (count + V - 1) / V;
        chunk.cursor = saved;
        chunk.gradients = gradients;
        float *lane_log_det = (float *)chunk.log_det, *rows = latents + (int64_t)start * flow->dimensions;
        memset(lane_log_det, 0, (size_t)chunk.groups * V * sizeof(float));
        to_latents(&chunk, FORWARD, in + (int64_t)start * flow->dimensions, rows, count);
        for (int lane = 0; lane < chunk.groups * V; lane++) {
            if (lane < count) log_det[start + lane] = lane_log_det[lane] + flow->log_det;
            lane_log_det[lane] = lane >= count ? 0.0f : by_log_det ? by_log_det[start + lane] : -1.0f;
        }
        /* The gradient of |z|^2 / 2 is z. */
        const float *by_rows = by_latents ? by_latents + (int64_t)start * flow->dimensions : rows;
        to_images(&chunk, FORWARD_GRADIENT, by_rows, by_images ? by_images + (int64_t)start * flow->dimensions : 0, count);
    }
}
