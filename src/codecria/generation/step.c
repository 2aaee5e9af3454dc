// Products of a few tokens with weights of four and eight bits, and what stands before and after them in a block.
//
// Tokens are rounded to eight bits in groups of 32 with a scale each, as llama.cpp does, so that sums are whole numbers
// and one instruction (AVX512-VNNI) adds 64 products. 16 rows of weights lie interleaved, a row to a lane:
//
//   int4   block of 16 rows: for each group 4 x [16 rows][4 inputs], inputs 0..15 in low and 16..31 in high nibbles;
//          then, in a table of its own, for each group 16 scales and 16 zeros (bfloat16): (code - 8) * scale + zero
//   int8   block of 16 rows: for each 4 inputs [16 rows][4 inputs], code + 128; a scale for each row (bfloat16)
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define GROUP 32
#define MOST_TOKENS 8
#define MOST_INPUTS 32768

typedef uint16_t bf16;

static inline float wide(bf16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static inline bf16 narrow(float number) {
    uint32_t bits;
    memcpy(&bits, &number, 4);
    if (number != number) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline __m512 wide16(const bf16 *numbers) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)numbers)), 16));
}

typedef struct {
    int8_t codes[MOST_INPUTS];
    float scales[MOST_INPUTS / GROUP];
    float sums[MOST_INPUTS / GROUP];  // of the group's rounded numbers
} Token;

static _Thread_local Token own_tokens[MOST_TOKENS];

// exp in loops that vectorise: 2^whole * 2^part, relative error below 1e-6.
static inline float exponential(float x) {
    float turns = fminf(fmaxf(x * 1.44269504f, -126), 126), whole = rintf(turns), part = (turns - whole) * 0.69314718f;
    float power = 1 + part * (1 + part * (0.5f + part * (0.16666667f + part * (0.041666667f + part * 0.0083333333f))));
    int32_t bits = ((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return power * scale;
}

// One token's inputs: normalised where there is a norm, silu(first half) * second half where gated; rounded.
static void prepare(Token *token, const bf16 *x, int inputs, const bf16 *norm, float eps, int gated) {
    static _Thread_local float numbers[MOST_INPUTS];
    if (gated) {
        for (int i = 0; i < inputs; i++) {
            float gate = wide(x[i]);
            numbers[i] = gate / (1 + exponential(-gate)) * wide(x[inputs + i]);
        }
    } else {
        for (int i = 0; i < inputs; i++) numbers[i] = wide(x[i]);
    }
    if (norm) {
        float square = 0;
        for (int i = 0; i < inputs; i++) square += numbers[i] * numbers[i];
        float scale = 1 / sqrtf(square / inputs + eps);
        for (int i = 0; i < inputs; i++) numbers[i] *= scale * wide(norm[i]);
    }
    for (int g = 0; g < inputs / GROUP; g++) {
        const float *group = numbers + g * GROUP;
        float most = 0;
        for (int i = 0; i < GROUP; i++) most = fmaxf(most, fabsf(group[i]));
        // fmaxf passes over what is no number; a token with one must not look sound.
        int broken = 0;
        for (int i = 0; i < GROUP; i++) broken |= group[i] != group[i];
        float scale = broken ? NAN : most / 127;
        float inverse = scale > 0 ? 1 / scale : 0;
        int sum = 0;
        for (int i = 0; i < GROUP; i++) {
            int code = (int)lrintf(group[i] * inverse);
            token->codes[g * GROUP + i] = (int8_t)code;
            sum += code;
        }
        token->scales[g] = scale;
        token->sums[g] = scale * sum;
    }
}

// The processor's own fetching ahead stops at the end of each 4 kB.
#define AHEAD(place) _mm_prefetch((const char *)(place) + 3072, _MM_HINT_T0)
#define INLINE static inline __attribute__((always_inline))

INLINE void rows4(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, __m512 *sums) {
    const __m512i low_bits = _mm512_set1_epi8(15);
    for (int g = 0; g < groups; g++, w += 256, table += 32) {
        __m512i low[MOST_TOKENS], high[MOST_TOKENS];
        for (int t = 0; t < count; t++) low[t] = high[t] = _mm512_setzero_si512();
        for (int s = 0; s < 4; s++) {
            AHEAD(w + 64 * s);
            __m512i pairs = _mm512_loadu_si512(w + 64 * s);
            __m512i first = _mm512_and_si512(pairs, low_bits);
            __m512i second = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low_bits);
            for (int t = 0; t < count; t++) {
                const int32_t *x = (const int32_t *)(tokens[t].codes + g * GROUP) + s;
                low[t] = _mm512_dpbusd_epi32(low[t], first, _mm512_set1_epi32(x[0]));
                high[t] = _mm512_dpbusd_epi32(high[t], second, _mm512_set1_epi32(x[4]));
            }
        }
        AHEAD(table);
        __m512 scale = wide16(table);
        __m512 base = _mm512_fnmadd_ps(_mm512_set1_ps(8), scale, wide16(table + 16));
        for (int t = 0; t < count; t++) {
            __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(low[t], high[t]));
            __m512 step = _mm512_mul_ps(scale, _mm512_set1_ps(tokens[t].scales[g]));
            sums[t] = _mm512_fmadd_ps(whole, step, sums[t]);
            sums[t] = _mm512_fmadd_ps(base, _mm512_set1_ps(tokens[t].sums[g]), sums[t]);
        }
    }
}

INLINE void rows8(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, __m512 *sums) {
    for (int g = 0; g < groups; g++, w += 512) {
        __m512i even[MOST_TOKENS], odd[MOST_TOKENS];
        for (int t = 0; t < count; t++) even[t] = odd[t] = _mm512_setzero_si512();
        for (int s = 0; s < 8; s += 2) {
            AHEAD(w + 64 * s);
            AHEAD(w + 64 * s + 64);
            __m512i first = _mm512_loadu_si512(w + 64 * s), second = _mm512_loadu_si512(w + 64 * s + 64);
            for (int t = 0; t < count; t++) {
                const int32_t *x = (const int32_t *)(tokens[t].codes + g * GROUP) + s;
                even[t] = _mm512_dpbusd_epi32(even[t], first, _mm512_set1_epi32(x[0]));
                odd[t] = _mm512_dpbusd_epi32(odd[t], second, _mm512_set1_epi32(x[1]));
            }
        }
        for (int t = 0; t < count; t++) {
            __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t]));
            sums[t] = _mm512_fmadd_ps(whole, _mm512_set1_ps(tokens[t].scales[g]), sums[t]);
            sums[t] = _mm512_sub_ps(sums[t], _mm512_set1_ps(128 * tokens[t].sums[g]));
        }
    }
    __m512 scale = wide16(table);
    for (int t = 0; t < count; t++) sums[t] = _mm512_mul_ps(sums[t], scale);
}

INLINE void block(int bits, const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, __m512 *sums) {
    for (int t = 0; t < count; t++) sums[t] = _mm512_setzero_ps();
    if (bits == 4) rows4(tokens, count, w, table, groups, sums);
    else rows8(tokens, count, w, table, groups, sums);
}

// out [n, outputs] = prepared x [n, inputs, twice that when gated] times the matrix, and `added` where it is not null.
void product(int bits, int n, int inputs, int outputs, const uint8_t *weights, const bf16 *table, const bf16 *x,
             const bf16 *norm, float eps, int gated, const bf16 *added, bf16 *out, int threads) {
    int groups = inputs / GROUP;
    long block_bytes = (long)inputs * 2 * bits, block_table = bits == 4 ? groups * 32 : 16;
    Token *tokens = own_tokens;
    for (int t = 0; t < n; t++) prepare(tokens + t, x + (long)t * inputs * (1 + gated), inputs, norm, eps, gated);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int b = 0; b < outputs / 16; b++) {
        const uint8_t *w = weights + b * block_bytes;
        const bf16 *own = table + b * block_table;
        __m512 sums[MOST_TOKENS];
        // Each count has code of its own, so that the sums stay in registers.
        switch (bits * 16 + n) {
#define CASES(bits) \
    case bits * 16 + 1: block(bits, tokens, 1, w, own, groups, sums); break; \
    case bits * 16 + 2: block(bits, tokens, 2, w, own, groups, sums); break; \
    case bits * 16 + 3: block(bits, tokens, 3, w, own, groups, sums); break; \
    case bits * 16 + 4: block(bits, tokens, 4, w, own, groups, sums); break; \
    case bits * 16 + 5: block(bits, tokens, 5, w, own, groups, sums); break; \
    case bits * 16 + 6: block(bits, tokens, 6, w, own, groups, sums); break; \
    case bits * 16 + 7: block(bits, tokens, 7, w, own, groups, sums); break; \
    case bits * 16 + 8: block(bits, tokens, 8, w, own, groups, sums); break;
            CASES(4)
            CASES(8)
        }
        for (int t = 0; t < n; t++) {
            float numbers[16];
            _mm512_storeu_ps(numbers, sums[t]);
            long place = (long)t * outputs + b * 16;
            for (int r = 0; r < 16; r++) out[place + r] = narrow(numbers[r] + (added ? wide(added[place + r]) : 0));
        }
    }
}

// The transposed matrix as bfloat16 [inputs, outputs].
void widen(int bits, int inputs, int outputs, const uint8_t *weights, const bf16 *table, bf16 *out, int threads) {
    int groups = inputs / GROUP;
    long block_bytes = (long)inputs * 2 * bits, block_table = bits == 4 ? groups * 32 : 16;
    const __m512i mask = _mm512_set1_epi32(bits == 4 ? 15 : 255), centre = _mm512_set1_epi32(bits == 4 ? 8 : 128);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int b = 0; b < outputs / 16; b++) {
        for (int g = 0; g < groups; g++) {
            const uint8_t *w = weights + b * block_bytes + g * 64 * bits;
            const bf16 *own = table + b * block_table + (bits == 4 ? g * 32 : 0);
            __m512 scale = wide16(own), zero = bits == 4 ? wide16(own + 16) : _mm512_setzero_ps();
            for (int i = 0; i < GROUP; i++) {
                int step = bits == 4 ? i / 4 % 4 : i / 4, shift = i % 4 * 8 + (bits == 4 && i >= 16 ? 4 : 0);
                __m512i quads = _mm512_srl_epi32(_mm512_loadu_si512(w + step * 64), _mm_cvtsi32_si128(shift));
                __m512i codes = _mm512_sub_epi32(_mm512_and_si512(quads, mask), centre);
                __m512i number = _mm512_castps_si512(_mm512_fmadd_ps(_mm512_cvtepi32_ps(codes), scale, zero));
                __m512i odd = _mm512_and_si512(_mm512_srli_epi32(number, 16), _mm512_set1_epi32(1));
                number = _mm512_add_epi32(_mm512_add_epi32(number, odd), _mm512_set1_epi32(0x7fff));
                __m256i narrowed = _mm512_cvtepi32_epi16(_mm512_srli_epi32(number, 16));
                _mm256_storeu_si256((void *)(out + ((long)g * GROUP + i) * outputs + b * 16), narrowed);
            }
        }
    }
}

// Turn the first `turned` of `heads` heads of each token by its position, in place; x [n, heads, width].
void rotate(int n, int heads, int turned, int width, bf16 *x, const float *cosines, const float *sines) {
    int half = width / 2;
    for (int t = 0; t < n; t++) {
        const float *c = cosines + (long)t * width, *s = sines + (long)t * width;
        for (int h = 0; h < turned; h++) {
            bf16 *head = x + ((long)t * heads + h) * width;
            for (int i = 0; i < half; i++) {
                float first = wide(head[i]), second = wide(head[half + i]);
                head[i] = narrow(first * c[i] - second * s[i]);
                head[half + i] = narrow(second * c[i] + first * s[i]);
            }
        }
    }
}
