/* Threads that compute one convolution together, so that its weights come from memory once and not once for each. */

#ifndef TEAM_H
#define TEAM_H

#include <sched.h>
#include <stdatomic.h>

#define MAX_THREADS 64 /* beside the one that asks */
#define MAX_TEAM (MAX_THREADS + 1)

/* What each member brings to a convolution: its image group's input, output and signs. */
typedef struct {
    int size;
    atomic_int arrived, round;
    const float *in[MAX_TEAM];
    float *out[MAX_TEAM];
    void *signs[MAX_TEAM];
} Team;

/* Looks at others before it lets the system run somebody else. */
#define PATIENCE 4000

static inline void breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Until all members have come; what they wrote before is seen after. */
static void meet(Team *team) {
    const int round = atomic_load_explicit(&team->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->round, round + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&team->round, memory_order_acquire) == round; looks++) {
        if (looks < PATIENCE) breathe();
        else sched_yield();
    }
}

#endif
