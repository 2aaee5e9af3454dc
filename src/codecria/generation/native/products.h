// Products of a few tokens with a matrix, 16 rows at a time.
//
//   float32, bfloat16   rows one after the other
//   int8   16 rows interleaved: for each 4 inputs [16 rows][4 inputs], code + 128; a scale for each row (bfloat16)
//   int4   16 rows interleaved: for each group of 32 inputs 4 x [16 rows][4 inputs], inputs 0..15 in low and 16..31 in
//          high nibbles; then, in a table of its own, for each group 16 scales and 16 zeros (bfloat16):
//          (code - 8) * scale + zero
//
// For the two last, tokens are rounded to eight bits in groups of 32 with a scale each, as llama.cpp does, so that
// sums are whole numbers and one instruction adds 64 products (AVX512-VNNI) or 32 (AVX2). Beside any of them there may
// be an adapter: rank numbers of a token, and what each adds to the rows.
#pragma once
#include "numbers.h"

#define GROUP 32
#define TOGETHER 8  // tokens a block of rows is multiplied with while it is in the first cache

typedef struct {
    int kind, inputs, outputs, rank;
    const void *weights;
    const bf16 *table;
    const bf16 *down;  // [inputs, rank]
    const bf16 *up;    // [rank, outputs]
} Matrix;

typedef struct {
    float *numbers;
    bf16 *halves;             // the numbers in bfloat16
    int8_t *codes, *sizes;    // and the codes without their signs
    float *scales, *sums;  // of a group's codes, and of its rounded numbers
    float *ranks;
} Token;

static void normalise(float *numbers, int width, int kind, const void *weight, float eps) {
    __m256 square = _mm256_setzero_ps();
    for (int i = 0; i < width; i += 8) {
        __m256 x = _mm256_loadu_ps(numbers + i);
        square = _mm256_fmadd_ps(x, x, square);
    }
    float scale = 1 / sqrtf(sum8(square) / width + eps);
    for (int i = 0; i < width; i++) numbers[i] *= scale * read1(kind, weight, i);
}

// Round a token's numbers, and take its ranks, as the matrix needs them.
static void prepare(Token *token, const Matrix *matrix) {
    const float *numbers = token->numbers;
#ifdef __AVX512BF16__
    for (int i = 0; matrix->kind == BFLOAT16 && i < matrix->inputs; i += 16) {
        _mm256_storeu_si256((void *)(token->halves + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(numbers + i)));
    }
#endif
    for (int g = 0; matrix->kind >= INT8 && g < matrix->inputs / GROUP; g++) {
        const float *group = numbers + g * GROUP;
        __m256 part[4], most = _mm256_setzero_ps(), broken = most;
        for (int i = 0; i < 4; i++) {
            part[i] = _mm256_loadu_ps(group + 8 * i);
            most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), part[i]));
            broken = _mm256_or_ps(broken, _mm256_cmp_ps(part[i], part[i], _CMP_UNORD_Q));
        }
        __m128 half = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        half = _mm_max_ps(half, _mm_movehl_ps(half, half));
        // The maximum passes over what is no number; a token with one must not look sound.
        float scale = _mm256_movemask_ps(broken) ? NAN : fmaxf(half[0], half[1]) / 127;
        __m256 inverse = _mm256_set1_ps(scale > 0 ? 1 / scale : 0);
        __m256i whole[4], sum = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(part[i], inverse));
            sum = _mm256_add_epi32(sum, whole[i]);
        }
        __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
        packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((void *)(token->codes + g * GROUP), packed);
        _mm256_storeu_si256((void *)(token->sizes + g * GROUP), _mm256_abs_epi8(packed));
        token->scales[g] = scale;
        token->sums[g] = scale * sum8(_mm256_cvtepi32_ps(sum));
    }
    for (int r = 0; r < matrix->rank; r += 8) {
        __m256 sum = _mm256_setzero_ps();
        for (int i = 0; i < matrix->inputs; i++) {
            __m256 factor = widen8(matrix->down + (long)i * matrix->rank + r);
            sum = _mm256_fmadd_ps(_mm256_set1_ps(numbers[i]), factor, sum);
        }
        _mm256_storeu_ps(token->ranks + r, sum);
    }
}

// The processor's own fetching ahead stops at the end of each 4 kB.
#define AHEAD(place) _mm_prefetch((const char *)(place) + 3072, _MM_HINT_T0)

#ifdef __AVX512VNNI__

INLINE __m512 widen16(const bf16 *numbers) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)numbers)), 16));
}

INLINE void rows_int4(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, float (*out)[16]) {
    const __m512i low_bits = _mm512_set1_epi8(15);
    __m512 sums[TOGETHER];
    for (int t = 0; t < count; t++) sums[t] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++, w += 256, table += 32) {
        __m512i low[TOGETHER], high[TOGETHER];
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
        __m512 scale = widen16(table);
        __m512 base = _mm512_fnmadd_ps(_mm512_set1_ps(8), scale, widen16(table + 16));
        for (int t = 0; t < count; t++) {
            __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(low[t], high[t]));
            __m512 step = _mm512_mul_ps(scale, _mm512_set1_ps(tokens[t].scales[g]));
            sums[t] = _mm512_fmadd_ps(whole, step, sums[t]);
            sums[t] = _mm512_fmadd_ps(base, _mm512_set1_ps(tokens[t].sums[g]), sums[t]);
        }
    }
    for (int t = 0; t < count; t++) _mm512_storeu_ps(out[t], sums[t]);
}

INLINE void rows_int8(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, float (*out)[16]) {
    __m512 sums[TOGETHER];
    for (int t = 0; t < count; t++) sums[t] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++, w += 512) {
        __m512i even[TOGETHER], odd[TOGETHER];
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
    __m512 scale = widen16(table);
    for (int t = 0; t < count; t++) _mm512_storeu_ps(out[t], _mm512_mul_ps(sums[t], scale));
}

#else

// Rows 0..7 and 8..15 one after the other: 32 bytes of each 64.
INLINE void rows_int4(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, float (*out)[16]) {
    const __m256i low_bits = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256 sums[2][TOGETHER];
    for (int t = 0; t < count; t++) sums[0][t] = sums[1][t] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++, w += 256, table += 32) {
        for (int half = 0; half < 2; half++) {
            // Eight products of at most 2 * 15 * 127 fit into 16 bits.
            __m256i both[TOGETHER];
            for (int t = 0; t < count; t++) both[t] = _mm256_setzero_si256();
            for (int s = 0; s < 4; s++) {
                if (!half) AHEAD(w + 64 * s);
                __m256i pairs = _mm256_loadu_si256((const void *)(w + 64 * s + 32 * half));
                __m256i first = _mm256_and_si256(pairs, low_bits);
                __m256i second = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low_bits);
                for (int t = 0; t < count; t++) {
                    const int32_t *x = (const int32_t *)(tokens[t].codes + g * GROUP) + s;
                    __m256i one = _mm256_maddubs_epi16(first, _mm256_set1_epi32(x[0]));
                    __m256i other = _mm256_maddubs_epi16(second, _mm256_set1_epi32(x[4]));
                    both[t] = _mm256_add_epi16(both[t], _mm256_add_epi16(one, other));
                }
            }
            __m256 scale = widen8(table + 8 * half);
            __m256 base = _mm256_fnmadd_ps(_mm256_set1_ps(8), scale, widen8(table + 16 + 8 * half));
            for (int t = 0; t < count; t++) {
                __m256 whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(both[t], ones));
                __m256 step = _mm256_mul_ps(scale, _mm256_set1_ps(tokens[t].scales[g]));
                sums[half][t] = _mm256_fmadd_ps(whole, step, sums[half][t]);
                sums[half][t] = _mm256_fmadd_ps(base, _mm256_set1_ps(tokens[t].sums[g]), sums[half][t]);
            }
        }
        AHEAD(table);
    }
    for (int t = 0; t < count; t++) {
        _mm256_storeu_ps(out[t], sums[0][t]);
        _mm256_storeu_ps(out[t] + 8, sums[1][t]);
    }
}

INLINE void rows_int8(const Token *tokens, int count, const uint8_t *w, const bf16 *table, int groups, float (*out)[16]) {
    const __m256i ones = _mm256_set1_epi16(1), centre = _mm256_set1_epi8((char)0x80);
    __m256 sums[2][TOGETHER];
    for (int t = 0; t < count; t++) sums[0][t] = sums[1][t] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++, w += 512) {
        __m256i whole[2][TOGETHER];
        for (int t = 0; t < count; t++) whole[0][t] = whole[1][t] = _mm256_setzero_si256();
        for (int s = 0; s < 8; s++) {
            AHEAD(w + 64 * s);
            __m256i first = _mm256_xor_si256(_mm256_loadu_si256((const void *)(w + 64 * s)), centre);
            __m256i second = _mm256_xor_si256(_mm256_loadu_si256((const void *)(w + 64 * s + 32)), centre);
            for (int t = 0; t < count; t++) {
                // The instruction wants one factor without a sign, so the token's goes to the weights.
                __m256i x = _mm256_set1_epi32(((const int32_t *)(tokens[t].codes + g * GROUP))[s]);
                __m256i size = _mm256_set1_epi32(((const int32_t *)(tokens[t].sizes + g * GROUP))[s]);
                __m256i one = _mm256_maddubs_epi16(size, _mm256_sign_epi8(first, x));
                __m256i other = _mm256_maddubs_epi16(size, _mm256_sign_epi8(second, x));
                whole[0][t] = _mm256_add_epi32(whole[0][t], _mm256_madd_epi16(one, ones));
                whole[1][t] = _mm256_add_epi32(whole[1][t], _mm256_madd_epi16(other, ones));
            }
        }
        for (int t = 0; t < count; t++) {
            __m256 scale = _mm256_set1_ps(tokens[t].scales[g]);
            sums[0][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[0][t]), scale, sums[0][t]);
            sums[1][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[1][t]), scale, sums[1][t]);
        }
    }
    for (int t = 0; t < count; t++) {
        _mm256_storeu_ps(out[t], _mm256_mul_ps(sums[0][t], widen8(table)));
        _mm256_storeu_ps(out[t] + 8, _mm256_mul_ps(sums[1][t], widen8(table + 8)));
    }
}

#endif

INLINE __m256 weights8(int kind, const void *weights, long place) {
    return kind == FLOAT32 ? _mm256_loadu_ps((const float *)weights + place) : widen8((const bf16 *)weights + place);
}

// Eight rows with one token, or four with two or three: sums that do not wait for one another, each taken in the same
// order however many there are.
INLINE void rows_float(int kind, const Token *tokens, int count, int rows, const void *weights, long place, int inputs, float (*out)[16], int row) {
    __m256 sums[3][8];
    for (int t = 0; t < count; t++) for (int r = 0; r < rows; r++) sums[t][r] = _mm256_setzero_ps();
    for (int i = 0; i < inputs; i += 8) {
        for (int r = 0; r < rows; r++) {
            __m256 w = weights8(kind, weights, place + (long)r * inputs + i);
            for (int t = 0; t < count; t++) sums[t][r] = _mm256_fmadd_ps(w, _mm256_loadu_ps(tokens[t].numbers + i), sums[t][r]);
        }
    }
    for (int t = 0; t < count; t++) for (int r = 0; r < rows; r++) out[t][row + r] = sum8(sums[t][r]);
}

INLINE void rows_floats(int kind, const Token *tokens, int count, const Matrix *matrix, int block, float (*out)[16]) {
    long place = (long)block * 16 * matrix->inputs, row = matrix->inputs;
    const void *weights = matrix->weights;
    int t = 0;
    for (; t + 3 <= count; t += 3) {
        for (int r = 0; r < 16; r += 4) rows_float(kind, tokens + t, 3, 4, weights, place + r * row, matrix->inputs, out + t, r);
    }
    if (count - t == 2) {
        for (int r = 0; r < 16; r += 4) rows_float(kind, tokens + t, 2, 4, weights, place + r * row, matrix->inputs, out + t, r);
    } else if (count - t == 1) {
        for (int r = 0; r < 16; r += 8) rows_float(kind, tokens + t, 1, 8, weights, place + r * row, matrix->inputs, out + t, r);
    }
}

#ifdef __AVX512BF16__

INLINE __m256 fold(__m512 x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }

INLINE __m512bh halves32(__mmask32 some, const bf16 *numbers) {
    return (__m512bh)_mm512_maskz_loadu_epi16(some, numbers);
}

// Four rows with up to four tokens: one instruction adds 32 products. A sum is taken in the same order however many
// tokens there are.
INLINE void rows_halves(const Token *tokens, int count, const bf16 *weights, int inputs, float (*out)[16], int row) {
    __m512 sums[4][4];
    for (int t = 0; t < count; t++) for (int r = 0; r < 4; r++) sums[t][r] = _mm512_setzero_ps();
    for (int i = 0; i < inputs; i += 32) {
        __mmask32 some = inputs - i < 32 ? (1u << (inputs - i)) - 1 : 0xffffffffu;
        __m512bh w[4];
        for (int r = 0; r < 4; r++) w[r] = halves32(some, weights + (long)r * inputs + i);
        for (int t = 0; t < count; t++) {
            __m512bh x = halves32(some, tokens[t].halves + i);
            for (int r = 0; r < 4; r++) sums[t][r] = _mm512_dpbf16_ps(sums[t][r], w[r], x);
        }
    }
    for (int t = 0; t < count; t += 2) {
        __m256 x[8];
        for (int r = 0; r < 4; r++) {
            x[r] = fold(sums[t][r]);
            x[4 + r] = t + 1 < count ? fold(sums[t + 1][r]) : _mm256_setzero_ps();
        }
        __m256 both = sums8(x);
        _mm_storeu_ps(out[t] + row, _mm256_castps256_ps128(both));
        if (t + 1 < count) _mm_storeu_ps(out[t + 1] + row, _mm256_extractf128_ps(both, 1));
    }
}

INLINE void rows_bfloat16(const Token *tokens, int count, const Matrix *matrix, int block, float (*out)[16]) {
    const bf16 *weights = (const bf16 *)matrix->weights + (long)block * 16 * matrix->inputs;
    for (int from = 0; from < count; from += 4) {
        for (int row = 0; row < 16; row += 4) {
            const bf16 *four = weights + (long)row * matrix->inputs;
#define CALL(some) rows_halves(tokens + from, some, four, matrix->inputs, out + from, row)
            switch (count - from) {
            case 1: CALL(1); break;
            case 2: CALL(2); break;
            case 3: CALL(3); break;
            default: CALL(4);
            }
#undef CALL
        }
    }
}

#else

INLINE void rows_bfloat16(const Token *tokens, int count, const Matrix *matrix, int block, float (*out)[16]) {
    rows_floats(BFLOAT16, tokens, count, matrix, block, out);
}

#endif

// These counts have code of their own, so that the sums stay in registers.
#define COUNTS(call) \
    switch (count) { \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break; \
    case 4: call(4); break; \
    default: call(8); \
    }

// out [n][16] = n tokens times 16 rows of the matrix.
static void rows16(const Matrix *matrix, int block, const Token *tokens, int n, float (*out)[16]) {
    int groups = matrix->inputs / GROUP;
    for (int from = 0, count; from < n; from += count) {
        int left = n - from;
        count = matrix->kind < INT8 ? n : left >= TOGETHER ? TOGETHER : left > 4 ? 4 : left;
        const Token *some = tokens + from;
        float (*place)[16] = out + from;
        if (matrix->kind == INT4) {
            const uint8_t *w = (const uint8_t *)matrix->weights + (long)block * matrix->inputs * 8;
            const bf16 *table = matrix->table + (long)block * groups * 32;
#define CALL(count) rows_int4(some, count, w, table, groups, place)
            COUNTS(CALL)
#undef CALL
        } else if (matrix->kind == INT8) {
            const uint8_t *w = (const uint8_t *)matrix->weights + (long)block * matrix->inputs * 16;
            const bf16 *table = matrix->table + (long)block * 16;
#define CALL(count) rows_int8(some, count, w, table, groups, place)
            COUNTS(CALL)
#undef CALL
        } else if (matrix->kind == BFLOAT16) {
            rows_bfloat16(some, count, matrix, block, place);
        } else {
            rows_floats(FLOAT32, some, count, matrix, block, place);
        }
    }
    for (int r = 0; r < matrix->rank; r++) {
        const bf16 *up = matrix->up + (long)r * matrix->outputs + block * 16;
        __m256 low = widen8(up), high = widen8(up + 8);
        for (int t = 0; t < n; t++) {
            __m256 share = _mm256_set1_ps(tokens[t].ranks[r]);
            _mm256_storeu_ps(out[t], _mm256_fmadd_ps(low, share, _mm256_loadu_ps(out[t])));
            _mm256_storeu_ps(out[t] + 8, _mm256_fmadd_ps(high, share, _mm256_loadu_ps(out[t] + 8)));
        }
    }
}

// One row of a table.
static void read_row(const Matrix *table, int row, float *numbers) {
    int block = row / 16, r = row % 16;
    for (int i = 0; i < table->inputs; i++) {
        if (table->kind == INT8) {
            const uint8_t *w = (const uint8_t *)table->weights + ((long)block * table->inputs + i / 4 * 4) * 16;
            numbers[i] = (w[r * 4 + i % 4] - 128) * widen1(table->table[row]);
        } else {
            numbers[i] = read1(table->kind, table->weights, (long)row * table->inputs + i);
        }
    }
}

// The transposed matrix, float32 or bfloat16 [inputs, outputs]: 16 rows of one group.
static void widen_group(const Matrix *matrix, int block, int g, int kind, void *out) {
    int bits = matrix->kind == INT4 ? 4 : 8, groups = matrix->inputs / GROUP;
    const uint8_t *w = (const uint8_t *)matrix->weights + (long)block * matrix->inputs * 2 * bits + (long)g * 64 * bits;
    const bf16 *own = matrix->table + (bits == 4 ? ((long)block * groups + g) * 32 : (long)block * 16);
    const __m256i mask = _mm256_set1_epi32(bits == 4 ? 15 : 255), centre = _mm256_set1_epi32(bits == 4 ? 8 : 128);
    for (int half = 0; half < 2; half++) {
        __m256 scale = widen8(own + 8 * half), zero = bits == 4 ? widen8(own + 16 + 8 * half) : _mm256_setzero_ps();
        for (int i = 0; i < GROUP; i++) {
            int step = bits == 4 ? i / 4 % 4 : i / 4, shift = i % 4 * 8 + (bits == 4 && i >= 16 ? 4 : 0);
            __m256i quads = _mm256_loadu_si256((const void *)(w + step * 64 + 32 * half));
            quads = _mm256_srl_epi32(quads, _mm_cvtsi32_si128(shift));
            __m256i codes = _mm256_sub_epi32(_mm256_and_si256(quads, mask), centre);
            __m256 numbers = _mm256_fmadd_ps(_mm256_cvtepi32_ps(codes), scale, zero);
            long place = ((long)g * GROUP + i) * matrix->outputs + block * 16 + 8 * half;
            if (kind == FLOAT32) _mm256_storeu_ps((float *)out + place, numbers);
            else _mm_storeu_si128((void *)((bf16 *)out + place), narrow8(numbers));
        }
    }
}
