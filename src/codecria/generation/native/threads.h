// What the threads of one step share: a barrier, and work handed out in pieces.
//
// A step has five barriers a layer, a microsecond or less each where every thread has a core. OpenMP's own would send
// threads to sleep in them, or keep them spinning behind the step; this one spins, and lets others run when it has
// spun for long. Work is handed out as it is done, for another program may hold one of the cores.
#pragma once
#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 4000

typedef struct {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int rounds;
    _Alignas(64) atomic_int next[2];
    int threads;
} Team;

static void team_begin(Team *team, int threads) {
    atomic_store(&team->arrived, 0);
    atomic_store(&team->rounds, 0);
    atomic_store(&team->next[0], 0);
    atomic_store(&team->next[1], 0);
    team->threads = threads;
}

// Wait for all threads. The work that comes next is handed out from its beginning: `round` is the caller's own count.
static inline void team_wait(Team *team, int *round) {
    int now = ++*round;
    if (atomic_fetch_add(&team->arrived, 1) + 1 == team->threads) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->next[(now + 1) & 1], 0);  // nobody takes from it before the barrier after this one
        atomic_store(&team->rounds, now);
        return;
    }
    for (int spins = 0; atomic_load(&team->rounds) < now; spins++) {
        if (spins < SPINS) _mm_pause();
        else sched_yield();
    }
}

// The first of the `pieces` that this thread does next.
static inline int team_take(Team *team, int round, int pieces) {
    return atomic_fetch_add(&team->next[round & 1], pieces);
}
