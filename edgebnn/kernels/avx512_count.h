// The inner loops of the AVX-512 path (avx512.cpp says how they count). Included there alone.
#pragma once

#include "avx512_cells.h"

namespace edgebnn {
namespace {

constexpr int kVectors = kBlock / 16;

// sum += counts * factor, in one instruction, for counts of 0 to 2^15 - 1 and a factor of 16 bits, twice in a word.
EDGEBNN_INLINE void add_product(__m512i& sum, __m512i counts, __m512i factor) {
#if defined(__AVX512F__)  // not where tests have the instructions computed by others
  __asm__("vpdpwssd %1, %2, %0" : "+v"(sum) : "v"(counts), "v"(factor));
#else
  sum = _mm512_dpwssd_epi32(sum, counts, factor);
#endif
}

// What two of a, b and c are, for s = a ^ b ^ c. Written out because GCC 12 takes a detour by other instructions.
EDGEBNN_INLINE __m512i majority(__m512i a, __m512i b, __m512i s) {
  constexpr int kTable = 0xd4;  // bit 4 a + 2 b + s
#if defined(__AVX512F__)
  __asm__("vpternlogd %3, %2, %1, %0" : "+v"(a) : "v"(b), "v"(s), "i"(kTable));
  return a;
#else
  return _mm512_ternarylogic_epi32(a, b, s, kTable);
#endif
}

EDGEBNN_INLINE __m512i broadcast(const std::uint8_t* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

// Weights that are counted next: a line is fetched at every step, from memory to the second cache.
struct Ahead {
  const std::uint8_t* line;
  std::size_t left;

  EDGEBNN_INLINE void step() {
    __builtin_prefetch(line, 0, 2);
    line += left ? 64 : 0;
    left -= left ? 1 : 0;
  }
};

// Takes twice the mismatches of a 1x1 window of `words` words off.
template <int kPixels>
EDGEBNN_INLINE void count_words(const Pixel* pixels, const std::uint8_t* weight, std::size_t words, Ahead& ahead,
                                __m512i (&sums)[kPixels * kVectors]) {
  const std::uint8_t* cells[kPixels];
  const __m512i minus_two = _mm512_set1_epi16(-2);
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  for (std::size_t word = 0; word < words; ++word, weight += 4 * kBlock) {
    ahead.step();
    __m512i wanted[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + 4 * word);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted[v])), minus_two);
      });
    });
  }
}

// The same of a 3x3 window, three rows of three times `words` words. One loop for all rows, since a loop's end is where
// the processor guesses wrong.
template <int kPixels>
EDGEBNN_INLINE void count_threes(const Pixel* pixels, std::size_t row_bytes, const std::uint8_t* weight,
                                 std::size_t words, Ahead& ahead, __m512i (&sums)[kPixels * kVectors]) {
  const std::uint8_t* cells[kPixels];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  const std::size_t half = 4 * words;  // of a cell
  const __m512i minus_two = _mm512_set1_epi16(-2), minus_four = _mm512_set1_epi16(-4);
  std::size_t at = 0, at_all = half, at_second = 2 * half, left = words;
  for (std::size_t steps = 3 * words; steps; --steps, weight += 3 * 4 * kBlock) {
    ahead.step();
    __m512i wanted[3 * kVectors];
    repeat<3 * kVectors>([&](auto v) __attribute__((always_inline)) {
      wanted[v] = _mm512_load_si512(weight + 64 * v);
    });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i first = broadcast(cells[p] + at), second = broadcast(cells[p] + at_second);
      const __m512i all = broadcast(cells[p] + at_all);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m512i a = _mm512_xor_si512(first, wanted[v]), b = _mm512_xor_si512(second, wanted[kVectors + v]);
        const __m512i s = _mm512_xor_si512(all, wanted[2 * kVectors + v]);
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(s), minus_two);
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(majority(a, b, s)), minus_four);
      });
    });
    --left;
    const std::size_t by = left ? 4 : row_bytes + 4 - half;
    left = left ? left : words;
    at += by;
    at_all += by;
    at_second += by;
  }
}

// The accumulators of kPixels pixels by a block of channels. They begin at the base, so that finishing finds them done.
template <int kPixels>
EDGEBNN_INLINE void count(const Job& job, const Pixel* pixels, std::size_t block, Ahead& ahead, std::int32_t* acc) {
  const std::size_t words = word_cell_bytes(job.shape) / 4, first = block * kBlock;
  __m512i sums[kPixels * kVectors];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      sums[p * kVectors + v] = _mm512_load_si512(pixels[p].base + first + 16 * v);
    });
  });
  if (job.shape.kernel == 1) {
    count_words<kPixels>(pixels, job.constants.weight + block * words * 4 * kBlock, words, ahead, sums);
  } else {
    count_threes<kPixels>(pixels, job.row_bytes, job.constants.weight + block * 9 * words * 4 * kBlock, words, ahead,
                          sums);
  }
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { _mm512_store_si512(acc + 16 * i, sums[i]); });
}

}  // namespace
}  // namespace edgebnn
