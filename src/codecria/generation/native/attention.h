// Attention of a few tokens over keys and values that lie in runs of slots.
//
// The runs are cut into pieces that threads take; for each piece and each key-value head, what every query takes from
// it is kept with the largest score and the sum of exponentials, and joined afterwards.
#pragma once
#include "numbers.h"

#define KEYS 32  // attended at a time, by all queries

// A run of slots in one memory, the same in each layer. Places count slots from the layer's beginning.
typedef struct {
    int kind, seen, first_view;
    const void *const *stored;   // a layer's keys and values
    void *const *scales;         // float16, a slot's own, where they are int8
    long keys_at, values_at;     // of the first head's slot 0
    long head_slots;             // from a head to the next
    int start;
} Run;

// A token that attends a run: it sees the slots from `start` up to `stop`.
typedef struct {
    int token, stop;
} View;

// Slots of a run that are attended in one go. `partials`: where its results begin, for each head [views][group][head_dim + 2].
typedef struct {
    int run, from, to;
    long partials;
} Piece;

INLINE __m256 stored8(int kind, const void *stored, long place) {
    if (kind == FLOAT32) return _mm256_loadu_ps((const float *)stored + place);
    if (kind == BFLOAT16) return widen8((const bf16 *)stored + place);
    __m128i codes = _mm_loadl_epi64((const void *)((const int8_t *)stored + place));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

// Ask for what is read `KEYS` slots later. The processor does not fetch ahead over the ends of pages by itself, and
// there is one every 32 slots of a usual head.
INLINE void fetch_later(int kind, const void *stored, long place, int width) {
    int bytes = kind == FLOAT32 ? 4 : kind == BFLOAT16 ? 2 : 1;
    _mm_prefetch((const char *)stored + (place + (long)KEYS * width) * bytes, _MM_HINT_T0);
}

// Scores of `queries` (1 to 4) queries with up to eight keys, [query][key]; behind the last key they are no scores.
INLINE void score8(int kind, int queries, const float *const *query, const void *stored, long place, int count, int width,
                   __m256 *scores) {
    __m256 sums[4][8];
    for (int k = 0; k < 8; k += 2) {
        // Of an odd number the last one is taken twice: what lies behind it may be no numbers.
        int last = count - 1, one = k < last ? k : last, other = k + 1 < last ? k + 1 : last;
        long first = place + (long)one * width, second = place + (long)other * width;
        __m256 lows[4], highs[4];
        for (int q = 0; q < queries; q++) lows[q] = highs[q] = _mm256_setzero_ps();
        for (int i = 0; i < width; i += 8) {
            __m256 low = stored8(kind, stored, first + i), high = stored8(kind, stored, second + i);
            if (i % 32 == 0) fetch_later(kind, stored, first + i, width), fetch_later(kind, stored, second + i, width);
            for (int q = 0; q < queries; q++) {
                __m256 x = _mm256_loadu_ps(query[q] + i);
                lows[q] = _mm256_fmadd_ps(x, low, lows[q]);
                highs[q] = _mm256_fmadd_ps(x, high, highs[q]);
            }
        }
        for (int q = 0; q < queries; q++) sums[q][k] = lows[q], sums[q][k + 1] = highs[q];
    }
    for (int q = 0; q < queries; q++) scores[q] = sums8(sums[q]);
}

// What the queries take from `count` values is added to what they have.
INLINE void take_values(int kind, int queries, float (*shares)[KEYS], const void *stored, long place, int count, int width,
                        float *const *out) {
    for (int i = 0; i < width; i += 16) {
        __m256 sums[4][2];
        for (int q = 0; q < queries; q++) {
            sums[q][0] = _mm256_loadu_ps(out[q] + i);
            sums[q][1] = _mm256_loadu_ps(out[q] + i + 8);
        }
        for (int k = 0; k < count; k++) {
            long at = place + (long)k * width + i;
            __m256 low = stored8(kind, stored, at), high = stored8(kind, stored, at + 8);
            if (i % 32 == 0) fetch_later(kind, stored, at, width);
            for (int q = 0; q < queries; q++) {
                __m256 share = _mm256_set1_ps(shares[q][k]);
                sums[q][0] = _mm256_fmadd_ps(share, low, sums[q][0]);
                sums[q][1] = _mm256_fmadd_ps(share, high, sums[q][1]);
            }
        }
        for (int q = 0; q < queries; q++) {
            _mm256_storeu_ps(out[q] + i, sums[q][0]);
            _mm256_storeu_ps(out[q] + i + 8, sums[q][1]);
        }
    }
}

// Eight scales of keys or values, of which `count` are there.
INLINE __m256 scales8(const uint16_t *scales, int count) {
    uint16_t some[8] = {0};
    memcpy(some, scales, (count < 8 ? count : 8) * sizeof(uint16_t));
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)some));
}

// Scores become shares of exp, and what the query took before shrinks to the new largest score. result: [width + 2].
INLINE void share_out(__m256 *scores, int blocks, int width, float *shares, float *result) {
    float *most = result + width, *sum = result + width + 1;
    __m256 top = _mm256_set1_ps(*most), total = _mm256_setzero_ps();
    for (int b = 0; b < blocks; b++) top = _mm256_max_ps(top, scores[b]);
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    float largest = fmaxf(half[0], half[1]);
    for (int b = 0; b < blocks; b++) {
        __m256 share = exponential8(_mm256_sub_ps(scores[b], _mm256_set1_ps(largest)));
        _mm256_storeu_ps(shares + b * 8, share);
        total = _mm256_add_ps(total, share);
    }
    if (largest > *most) {
        __m256 shrink = exponential8(_mm256_set1_ps(*most - largest));
        *sum *= _mm256_cvtss_f32(shrink);
        for (int i = 0; i < width; i += 8) {
            _mm256_storeu_ps(result + i, _mm256_mul_ps(_mm256_loadu_ps(result + i), shrink));
        }
        *most = largest;
    }
    *sum += sum8(total);
}

// `queries` of one token over `count` slots, at most `KEYS`, of one head.
INLINE void attend_slots(int kind, int queries, const Run *run, int layer, long key_slot, long value_slot, int count,
                         const float *const *query, int width, float *const *out) {
    _Alignas(32) float shares[4][KEYS];
    __m256 scores[4][KEYS / 8], block[4];
    const void *stored = run->stored[layer];
    const uint16_t *scales = kind == INT8 ? run->scales[layer] : NULL;
    int blocks = (count + 7) / 8;
    for (int b = 0; b < blocks; b++) {
        int left = count - 8 * b;
        score8(kind, queries, query, stored, (key_slot + 8 * b) * width, left < 8 ? left : 8, width, block);
        for (int q = 0; q < queries; q++) {
            if (kind == INT8) block[q] = _mm256_mul_ps(block[q], scales8(scales + key_slot + 8 * b, left));
            if (left < 8) {
                __m256 places = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
                __m256 unseen = _mm256_cmp_ps(places, _mm256_set1_ps(left), _CMP_GE_OQ);
                block[q] = _mm256_blendv_ps(block[q], _mm256_set1_ps(-1e30f), unseen);
            }
            scores[q][b] = block[q];
        }
    }
    for (int q = 0; q < queries; q++) share_out(scores[q], blocks, width, shares[q], out[q]);
    for (int b = 0; kind == INT8 && b < blocks; b++) {
        __m256 scale = scales8(scales + value_slot + 8 * b, count - 8 * b);
        for (int q = 0; q < queries; q++) _mm256_store_ps(shares[q] + 8 * b, _mm256_mul_ps(_mm256_load_ps(shares[q] + 8 * b), scale));
    }
    take_values(kind, queries, shares, stored, value_slot * width, count, width, out);
}

// Code of their own for the forms and the usual widths of a head.
#define WIDTHS(kind, queries) \
    if (width == 64) attend_slots(kind, queries, run, layer, key_slot, value_slot, visible, query, 64, out); \
    else if (width == 128) attend_slots(kind, queries, run, layer, key_slot, value_slot, visible, query, 128, out); \
    else attend_slots(kind, queries, run, layer, key_slot, value_slot, visible, query, width, out)
#define FORMS(queries) \
    if (run->kind == FLOAT32) { WIDTHS(FLOAT32, queries); } \
    else if (run->kind == BFLOAT16) { WIDTHS(BFLOAT16, queries); } \
    else { WIDTHS(INT8, queries); }

// One piece, one key-value head. queries: [token][heads][width], turned and scaled; `group` heads share the keys.
static void attend_piece(const Piece *piece, const Run *run, const View *views, int layer, int head, const float *queries,
                         long token_width, int group, int width, float *partials) {
    long count = (long)run->seen * group;
    float *results = partials + piece->partials + head * count * (width + 2);
    for (long q = 0; q < count; q++) {
        float *result = results + q * (width + 2);
        memset(result, 0, width * sizeof(float));
        result[width] = -1e30f;
        result[width + 1] = 0;
    }
    for (int from = piece->from; from < piece->to; from += KEYS) {
        int slots = piece->to - from < KEYS ? piece->to - from : KEYS;
        long key_slot = run->keys_at + head * run->head_slots + from;
        long value_slot = run->values_at + head * run->head_slots + from;
        for (int view = 0; view < run->seen; view++) {
            const View *seen = views + run->first_view + view;
            int visible = seen->stop - from < slots ? seen->stop - from : slots;
            if (visible <= 0) continue;
            const float *own = queries + seen->token * token_width + (long)head * group * width;
            float *result = results + (long)view * group * (width + 2);
            for (int q = 0, some; q < group; q += some) {
                int left = group - q;
                some = left > 3 ? 4 : left == 3 ? 3 : 1;
                const float *query[4];
                float *out[4];
                for (int j = 0; j < some; j++) {
                    query[j] = own + (long)(q + j) * width;
                    out[j] = result + (long)(q + j) * (width + 2);
                }
                switch (some) {
                case 1: FORMS(1); break;
                case 3: FORMS(3); break;
                default: FORMS(4);
                }
            }
        }
    }
}

// What one query took from all pieces. results: [count] of [width + 2].
static void join(const float *const *results, int count, int width, float *out) {
    float most = -1e30f, sum = 0;
    for (int p = 0; p < count; p++) most = fmaxf(most, results[p][width]);
    memset(out, 0, width * sizeof(float));
    for (int p = 0; p < count; p++) {
        float share = exponential1(results[p][width] - most);
        sum += share * results[p][width + 1];
        for (int i = 0; i < width; i += 8) {
            __m256 part = _mm256_mul_ps(_mm256_set1_ps(share), _mm256_loadu_ps(results[p] + i));
            _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_loadu_ps(out + i), part));
        }
    }
    for (int i = 0; i < width; i++) out[i] /= sum;
}

// Store a new token's key or value of one head.
static void store_slot(const Run *run, int layer, long slot, int width, const float *numbers) {
    void *stored = (void *)run->stored[layer];
    long place = slot * width;
    if (run->kind == FLOAT32) {
        memcpy((float *)stored + place, numbers, width * sizeof(float));
    } else if (run->kind == BFLOAT16) {
        for (int i = 0; i < width; i += 8) _mm_storeu_si128((void *)((bf16 *)stored + place + i), narrow8(_mm256_loadu_ps(numbers + i)));
    } else {
        float most = 0;
        int broken = 0;
        for (int i = 0; i < width; i++) {
            most = fmaxf(most, fabsf(numbers[i]));
            broken |= numbers[i] != numbers[i];
        }
        uint16_t half = _cvtss_sh(broken ? NAN : fmaxf(most / 127, 0x1p-24f), _MM_FROUND_TO_NEAREST_INT);
        ((uint16_t *)run->scales[layer])[slot] = half;
        float scale = _cvtsh_ss(half);
        for (int i = 0; i < width; i++) {
            float code = rintf(numbers[i] / scale);
            ((int8_t *)stored)[place + i] = (int8_t)fminf(fmaxf(code, -127), 127);  // NaN: -127, times a NaN
        }
    }
}
