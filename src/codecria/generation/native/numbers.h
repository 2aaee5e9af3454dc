// Numbers as they are stored and as they are computed with: always float32 in registers.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

// How a matrix, a norm, keys or values are stored. The same numbers as in native_step.py.
enum { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3 };

#define INLINE static inline __attribute__((always_inline))

INLINE float widen1(bf16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

INLINE bf16 narrow1(float number) {
    uint32_t bits;
    memcpy(&bits, &number, 4);
    if (number != number) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE __m256 widen8(const bf16 *numbers) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)numbers)), 16));
}

INLINE __m128i narrow8(__m256 numbers) {
    __m256i bits = _mm256_castps_si256(numbers);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
    bits = _mm256_permute4x64_epi64(_mm256_packus_epi32(bits, bits), 0xd8);
    return _mm256_castsi256_si128(bits);
}

INLINE float read1(int kind, const void *numbers, long place) {
    return kind == FLOAT32 ? ((const float *)numbers)[place] : widen1(((const bf16 *)numbers)[place]);
}

INLINE float sum8(__m256 x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// The sums of eight vectors, in their order.
INLINE __m256 sums8(const __m256 *x) {
    __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

// exp as 2^whole * 2^part, relative error below 1e-6. What is no number stays none: min and max would hide it, so it
// comes back by way of x * 0.
INLINE __m256 exponential8(__m256 x) {
    __m256 turns = _mm256_mul_ps(x, _mm256_set1_ps(1.44269504f));
    turns = _mm256_min_ps(_mm256_max_ps(turns, _mm256_set1_ps(-126)), _mm256_set1_ps(126));
    __m256 whole = _mm256_round_ps(turns, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 part = _mm256_mul_ps(_mm256_sub_ps(turns, whole), _mm256_set1_ps(0.69314718f));
    __m256 power = _mm256_set1_ps(0.0083333333f);
    power = _mm256_fmadd_ps(power, part, _mm256_set1_ps(0.041666667f));
    power = _mm256_fmadd_ps(power, part, _mm256_set1_ps(0.16666667f));
    power = _mm256_fmadd_ps(power, part, _mm256_set1_ps(0.5f));
    power = _mm256_fmadd_ps(power, part, _mm256_set1_ps(1));
    power = _mm256_fmadd_ps(power, part, _mm256_set1_ps(1));
    __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_fmadd_ps(x, _mm256_setzero_ps(), _mm256_mul_ps(power, _mm256_castsi256_ps(bits)));
}

INLINE float exponential1(float x) { return _mm256_cvtss_f32(exponential8(_mm256_set1_ps(x))); }
