// One pass of a Llama model over a few new tokens, whole, on some threads.
//
// The stream stays in float32 between the layers, whatever the weights are. Every layer has four phases with a barrier
// behind each: queries, keys and values; attention; back to the stream; and the feed-forward's two products.
#include <omp.h>
#include <stdlib.h>

#include "attention.h"
#include "products.h"
#include "threads.h"

typedef struct {
    const void *input_norm, *middle_norm;
    Matrix inward, outward, gate_up, down;
} Layer;

typedef struct {
    int layers, width, inner, heads, kv_heads, head_width, norm_kind;
    float eps;
    const void *norm;
    Matrix embedding, head;
    const Layer *layer;
} Model;

// A new token: what it is, where its keys and values go, and whether its scores are wanted.
typedef struct {
    int id, position, run, slot, scored;
} New;

typedef struct {
    int tokens, runs, threads;
    const New *news;
    const Run *run;
    const View *view;
    const float *cosines, *sines;  // [positions][head_width / 2]
    float *logits;                 // [scored tokens][vocabulary]
} Pass;

typedef struct {
    Model model;
    void *memory;
    long bytes;
    Team team;
} Step;

// Memory of a pass, cut out of one allocation.
typedef struct {
    char *next;
    long taken;
} Arena;

static void *cut(Arena *arena, long bytes) {
    char *place = arena->next ? arena->next + arena->taken : NULL;
    arena->taken += (bytes + 63) & ~63L;
    return place;
}

typedef struct {
    float *stream;    // [tokens][width]
    float *heads;     // [tokens][heads + 2 kv_heads][head_width]
    float *inner;     // [tokens][inner]
    float *partials;
    Token *tokens;    // shared by the threads
    Piece *pieces;
    int piece_count;
    const float **results;  // [tokens][heads][pieces that the token sees]
    int *counts;            // [tokens]
    int *first;             // [tokens]: of its results
    int most_results;
} Work;

static int largest(int a, int b) { return a > b ? a : b; }

static Token *cut_tokens(Arena *arena, int tokens, const Model *m, int ranks) {
    int most = (largest(largest(m->width, m->inner), m->heads * m->head_width) + 15) / 16 * 16;
    Token *made = cut(arena, tokens * sizeof(Token));
    for (int t = 0; t < tokens; t++) {
        Token token;
        token.numbers = cut(arena, most * sizeof(float));
        token.halves = cut(arena, most * sizeof(bf16));
        token.codes = cut(arena, most);
        token.sizes = cut(arena, most);
        token.scales = cut(arena, most / GROUP * sizeof(float) + 4);
        token.sums = cut(arena, most / GROUP * sizeof(float) + 4);
        token.ranks = cut(arena, (ranks + 8) * sizeof(float));
        if (arena->next) made[t] = token;
    }
    return made;
}

// Pieces of 256 slots, of more only where a thread would have more than eight of a head. They begin at the same slots
// whatever else is in the pass, so a token's sums are taken in the same order alone and behind guesses.
static int most_pieces(const Pass *pass) { return 8 * pass->threads; }

static int cut_pieces(const Pass *pass, const Model *m, Piece *pieces, long *partials) {
    int count = 0;
    long at = 0;
    for (int r = 0; r < pass->runs; r++) {
        const Run *run = pass->run + r;
        if (!run->seen) continue;
        int stop = 0;
        for (int v = 0; v < run->seen; v++) stop = largest(stop, pass->view[run->first_view + v].stop);
        int size = 256;
        while (stop - run->start > (long)most_pieces(pass) * size) size *= 2;
        for (int from = run->start; from < stop; from += size) {
            if (pieces) pieces[count] = (Piece){r, from, stop - from < size ? stop : from + size, at};
            at += (long)m->heads * run->seen * (m->head_width + 2);
            count++;
        }
    }
    *partials = at;
    return count;
}

static void plan(Work *work, Arena *arena, const Pass *pass, const Model *m, Token **own) {
    int n = pass->tokens, ranks = 0;
    for (int l = 0; l < m->layers; l++) {
        const Layer *layer = m->layer + l;
        ranks = largest(ranks, largest(largest(layer->inward.rank, layer->outward.rank), largest(layer->gate_up.rank, layer->down.rank)));
    }
    long partials;
    work->piece_count = cut_pieces(pass, m, NULL, &partials);
    work->pieces = cut(arena, work->piece_count * sizeof(Piece));
    if (arena->next) cut_pieces(pass, m, work->pieces, &partials);
    work->stream = cut(arena, (long)n * m->width * sizeof(float));
    work->heads = cut(arena, (long)n * (m->heads + 2 * m->kv_heads) * m->head_width * sizeof(float));
    work->inner = cut(arena, (long)n * m->inner * sizeof(float));
    work->partials = cut(arena, partials * sizeof(float));
    work->tokens = cut_tokens(arena, n, m, ranks);
    for (int thread = 0; thread < pass->threads; thread++) own[thread] = cut_tokens(arena, 1, m, ranks);
    work->counts = cut(arena, n * sizeof(int));
    work->first = cut(arena, n * sizeof(int));
    long results = 0;
    for (int p = 0, r = 0; r < pass->runs; r++) {
        int parts = 0;
        if (arena->next) while (p < work->piece_count && work->pieces[p].run == r) p++, parts++;
        else if (pass->run[r].seen) parts = most_pieces(pass);
        results += (long)parts * pass->run[r].seen;
    }
    work->results = cut(arena, results * m->heads * sizeof(float *));
    if (!arena->next) return;
    // Where each token's results will lie: for each of its heads one in each piece that it sees.
    int place = 0;
    for (int t = 0; t < n; t++) {
        int count = 0;
        for (int h = 0; h < m->heads; h++) {
            int found = 0;
            for (int p = 0; p < work->piece_count; p++) {
                const Piece *piece = work->pieces + p;
                const Run *run = pass->run + piece->run;
                int group = m->heads / m->kv_heads;
                for (int v = 0; v < run->seen; v++) {
                    if (pass->view[run->first_view + v].token != t) continue;
                    long at = piece->partials + ((long)(h / group * run->seen + v) * group + h % group) * (m->head_width + 2);
                    work->results[place + h * count + found++] = work->partials + at;
                }
            }
            count = found;  // the same for every head; the first one, at offset 0, tells it
        }
        work->counts[t] = count;
        work->first[t] = place;
        place += count * m->heads;
    }
}

// The tokens that this thread multiplies with: a lone one is prepared by every thread for itself, which costs less
// than waiting for each other; more are shared out.
typedef struct {
    const Pass *pass;
    const Model *model;
    Work *work;
    Team *team;
    Token *own;
    int round;
} Thread;

typedef void (*Fill)(const Thread *thread, int layer, int t, float *numbers);

static const Token *prepared(Thread *thread, const Matrix *matrix, int layer, Fill fill) {
    int n = thread->pass->tokens;
    if (n == 1) {
        fill(thread, layer, 0, thread->own->numbers);
        prepare(thread->own, matrix);
        return thread->own;
    }
    Token *tokens = thread->work->tokens;
    for (int t; (t = team_take(thread->team, thread->round, 1)) < n;) {
        fill(thread, layer, t, tokens[t].numbers);
        prepare(tokens + t, matrix);
    }
    team_wait(thread->team, &thread->round);
    return tokens;
}

static void fill_stream(const Thread *thread, int t, const void *norm, float *numbers) {
    const Model *m = thread->model;
    memcpy(numbers, thread->work->stream + (long)t * m->width, m->width * sizeof(float));
    normalise(numbers, m->width, m->norm_kind, norm, m->eps);
}

static void fill_input(const Thread *thread, int layer, int t, float *numbers) {
    fill_stream(thread, t, thread->model->layer[layer].input_norm, numbers);
}

static void fill_middle(const Thread *thread, int layer, int t, float *numbers) {
    fill_stream(thread, t, thread->model->layer[layer].middle_norm, numbers);
}

static void fill_last(const Thread *thread, int layer, int t, float *numbers) {
    (void)layer;
    fill_stream(thread, t, thread->model->norm, numbers);
}

static void fill_attended(const Thread *thread, int layer, int t, float *numbers) {
    (void)layer;
    const Model *m = thread->model;
    const Work *work = thread->work;
    int count = work->counts[t];
    for (int h = 0; h < m->heads; h++) {
        join(work->results + work->first[t] + (long)h * count, count, m->head_width, numbers + (long)h * m->head_width);
    }
}

static void fill_inner(const Thread *thread, int layer, int t, float *numbers) {
    (void)layer;
    int inner = thread->model->inner;
    memcpy(numbers, thread->work->inner + (long)t * inner, inner * sizeof(float));
}

// Blocks that a thread takes at a time: enough to read memory in long runs, and eight turns a thread.
static int share(int blocks, int threads) { return largest(1, blocks / (8 * threads)); }

static void turn(float *head, int half, const float *c, const float *s, float scale) {
    for (int i = 0; i < half; i++) {
        float first = head[i], second = head[half + i];
        head[i] = (first * c[i] - second * s[i]) * scale;
        head[half + i] = (second * c[i] + first * s[i]) * scale;
    }
}

// Queries, keys and values, a head at a time: turned by position, queries scaled, keys and values stored.
static void run_inward(Thread *thread, int layer, float (*sums)[16]) {
    const Model *m = thread->model;
    const Pass *pass = thread->pass;
    const Matrix *matrix = &m->layer[layer].inward;
    const Token *tokens = prepared(thread, matrix, layer, fill_input);
    int width = m->head_width, all = m->heads + 2 * m->kv_heads, half = width / 2;
    for (int head; (head = team_take(thread->team, thread->round, 1)) < all;) {
        for (int b = 0; b < width / 16; b++) {
            rows16(matrix, head * (width / 16) + b, tokens, pass->tokens, sums);
            for (int t = 0; t < pass->tokens; t++) {
                memcpy(thread->work->heads + ((long)t * all + head) * width + b * 16, sums[t], 16 * sizeof(float));
            }
        }
        for (int t = 0; t < pass->tokens; t++) {
            const New *new = pass->news + t;
            float *numbers = thread->work->heads + ((long)t * all + head) * width;
            const float *c = pass->cosines + (long)new->position * half, *s = pass->sines + (long)new->position * half;
            if (head < m->heads) turn(numbers, half, c, s, 1 / sqrtf(width));
            else if (head < m->heads + m->kv_heads) turn(numbers, half, c, s, 1);
            if (head < m->heads) continue;
            const Run *run = pass->run + new->run;
            int kv = (head - m->heads) % m->kv_heads, is_value = head >= m->heads + m->kv_heads;
            long slot = (is_value ? run->values_at : run->keys_at) + kv * run->head_slots + new->slot;
            store_slot(run, layer, slot, width, numbers);
        }
    }
    team_wait(thread->team, &thread->round);
}

static void run_attention(Thread *thread, int layer) {
    const Model *m = thread->model;
    const Work *work = thread->work;
    int width = m->head_width, items = work->piece_count * m->kv_heads;
    long token_width = (long)(m->heads + 2 * m->kv_heads) * width;
    for (int i; (i = team_take(thread->team, thread->round, 1)) < items;) {
        const Piece *piece = work->pieces + i / m->kv_heads;
        attend_piece(piece, thread->pass->run + piece->run, thread->pass->view, layer, i % m->kv_heads, work->heads,
                     token_width, m->heads / m->kv_heads, width, work->partials);
    }
    team_wait(thread->team, &thread->round);
}

// A product that is added to the stream.
static void run_back(Thread *thread, int layer, const Matrix *matrix, Fill fill, float (*sums)[16]) {
    const Token *tokens = prepared(thread, matrix, layer, fill);
    int n = thread->pass->tokens, width = thread->model->width, blocks = width / 16, some = share(blocks, thread->team->threads);
    for (int from; (from = team_take(thread->team, thread->round, some)) < blocks;) {
        for (int b = from; b < from + some && b < blocks; b++) {
            rows16(matrix, b, tokens, n, sums);
            for (int t = 0; t < n; t++) {
                float *stream = thread->work->stream + (long)t * width + b * 16;
                for (int r = 0; r < 16; r++) stream[r] += sums[t][r];
            }
        }
    }
    team_wait(thread->team, &thread->round);
}

static void run_gate_up(Thread *thread, int layer, float (*sums)[16], float (*ups)[16]) {
    const Matrix *matrix = &thread->model->layer[layer].gate_up;
    const Token *tokens = prepared(thread, matrix, layer, fill_middle);
    int n = thread->pass->tokens, inner = thread->model->inner, blocks = inner / 16, some = share(blocks, thread->team->threads);
    for (int from; (from = team_take(thread->team, thread->round, some)) < blocks;) {
        for (int b = from; b < from + some && b < blocks; b++) {
            rows16(matrix, b, tokens, n, sums);
            rows16(matrix, blocks + b, tokens, n, ups);
            for (int t = 0; t < n; t++) {
                for (int i = 0; i < 16; i += 8) {
                    __m256 gate = _mm256_loadu_ps(sums[t] + i), up = _mm256_loadu_ps(ups[t] + i), one = _mm256_set1_ps(1);
                    __m256 below = _mm256_add_ps(one, exponential8(_mm256_sub_ps(_mm256_setzero_ps(), gate)));
                    float *out = thread->work->inner + (long)t * inner + b * 16 + i;
                    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_div_ps(gate, below), up));
                }
            }
        }
    }
    team_wait(thread->team, &thread->round);
}

static void run_head(Thread *thread, float (*sums)[16]) {
    const Matrix *matrix = &thread->model->head;
    const Pass *pass = thread->pass;
    int scored = 0;
    for (int t = 0; t < pass->tokens; t++) scored += pass->news[t].scored;
    if (!scored) return;
    // Those whose scores are wanted stand last.
    const Token *tokens = prepared(thread, matrix, 0, fill_last) + pass->tokens - scored;
    int blocks = matrix->outputs / 16, some = share(blocks, thread->team->threads);
    for (int from; (from = team_take(thread->team, thread->round, some)) < blocks;) {
        for (int b = from; b < from + some && b < blocks; b++) {
            rows16(matrix, b, tokens, scored, sums);
            for (int t = 0; t < scored; t++) {
                memcpy(pass->logits + (long)t * matrix->outputs + b * 16, sums[t], 16 * sizeof(float));
            }
        }
    }
}

// A step for one model; the tables it points to stay the caller's. NULL without memory.
Step *step_new(const Model *model) {
    // Its alignment is its barriers'; calloc promises less, and AVX512 moves fault then.
    Step *step = aligned_alloc(_Alignof(Step), sizeof(Step));
    if (!step) return NULL;
    memset(step, 0, sizeof(Step));
    step->model = *model;
    return step;
}

void step_free(Step *step) {
    free(step->memory);
    free(step);
}

// 0 where all is well, 1 without memory.
int step_run(Step *step, const Pass *pass) {
    const Model *m = &step->model;
    Work work;
    Token *own[pass->threads];
    Arena sizes = {NULL, 0};
    plan(&work, &sizes, pass, m, own);
    if (sizes.taken > step->bytes) {
        free(step->memory);
        step->bytes = 0;
        if (posix_memalign(&step->memory, 64, sizes.taken)) {
            step->memory = NULL;
            return 1;
        }
        step->bytes = sizes.taken;
    }
    Arena arena = {step->memory, 0};
    plan(&work, &arena, pass, m, own);
    for (int t = 0; t < pass->tokens; t++) read_row(&m->embedding, pass->news[t].id, work.stream + (long)t * m->width);
#pragma omp parallel num_threads(pass->threads)
    {
#pragma omp single
        team_begin(&step->team, omp_get_num_threads());
        Thread thread = {pass, m, &work, &step->team, own[omp_get_thread_num()], 0};
        float sums[pass->tokens][16], ups[pass->tokens][16];
        for (int layer = 0; layer < m->layers; layer++) {
            run_inward(&thread, layer, sums);
            run_attention(&thread, layer);
            run_back(&thread, layer, &m->layer[layer].outward, fill_attended, sums);
            run_gate_up(&thread, layer, sums, ups);
            run_back(&thread, layer, &m->layer[layer].down, fill_inner, sums);
        }
        run_head(&thread, sums);
    }
    return 0;
}

// x [n, inputs] times one matrix: out float32 [n, outputs].
int step_product(const Matrix *matrix, int n, int kind, const void *x, float *out, int threads) {
    Arena sizes = {NULL, 0};
    Model shape = {.width = matrix->inputs};
    cut_tokens(&sizes, n, &shape, matrix->rank);
    void *memory;
    if (posix_memalign(&memory, 64, sizes.taken)) return 1;
    Arena arena = {memory, 0};
    Token *tokens = cut_tokens(&arena, n, &shape, matrix->rank);
    for (int t = 0; t < n; t++) {
        for (int i = 0; i < matrix->inputs; i++) tokens[t].numbers[i] = read1(kind, x, (long)t * matrix->inputs + i);
        prepare(tokens + t, matrix);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int b = 0; b < matrix->outputs / 16; b++) {
        float sums[n][16];
        rows16(matrix, b, tokens, n, sums);
        for (int t = 0; t < n; t++) memcpy(out + (long)t * matrix->outputs + b * 16, sums[t], 16 * sizeof(float));
    }
    free(memory);
    return 0;
}

// The transposed matrix [inputs, outputs], float32 or bfloat16.
void step_widen(const Matrix *matrix, int kind, void *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int b = 0; b < matrix->outputs / 16; b++) {
        for (int g = 0; g < matrix->inputs / GROUP; g++) widen_group(matrix, b, g, kind, out);
    }
}
