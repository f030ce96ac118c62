// The inner loops of the AVX-512 path. avx512.cpp explains them, and is the only file that includes this one.
#pragma once

#include <immintrin.h>

#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 32;  // channels
constexpr int kVectors = kBlock / 16;

// Instructions in assembly, where GCC 12 would need more of them.
#if defined(__AVX512F__)
#define EDGEBNN_AVX512 1
#else  // in tests that emulate the instructions (tests/kernels/simde)
#define EDGEBNN_AVX512 0
#endif

// sum += counts
EDGEBNN_INLINE void add_words(__m512i& sum, __m512i counts) {
#if EDGEBNN_AVX512
  __asm__("vpaddd %1, %0, %0" : "+v"(sum) : "v"(counts));
#else
  sum = _mm512_add_epi32(sum, counts);
#endif
}

// sum += counts * factor, in one instruction, for counts of 0 to 2^15 - 1 and a factor of 16 bits, twice in a word.
EDGEBNN_INLINE void add_product(__m512i& sum, __m512i counts, __m512i factor) {
#if EDGEBNN_AVX512
  __asm__("vpdpwssd %1, %2, %0" : "+v"(sum) : "v"(counts), "v"(factor));
#else
  sum = _mm512_dpwssd_epi32(sum, counts, factor);
#endif
}

// a ^ b ^ c
EDGEBNN_INLINE __m512i xor_of_three(__m512i a, __m512i b, __m512i c) {
  constexpr int kTable = 0x96;
#if EDGEBNN_AVX512
  __asm__("vpternlogd %3, %2, %1, %0" : "+v"(a) : "v"(b), "v"(c), "i"(kTable));
  return a;
#else
  return _mm512_ternarylogic_epi32(a, b, c, kTable);
#endif
}

// The majority of s, x and y, from one = s ^ x and both = s ^ x ^ y: s where one is 0, else not `both`, which is y.
EDGEBNN_INLINE __m512i majority(__m512i s, __m512i one, __m512i both) {
  constexpr int kTable = 0x74;  // bit 4 s + 2 one + both
#if EDGEBNN_AVX512
  __asm__("vpternlogd %3, %2, %1, %0" : "+v"(s) : "v"(one), "v"(both), "i"(kTable));
  return s;
#else
  return _mm512_ternarylogic_epi32(s, one, both, kTable);
#endif
}

EDGEBNN_INLINE __m512i broadcast(const std::uint8_t* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

// The weights that are counted next. Each step prefetches one cache line of them into the second-level cache.
struct Ahead {
  const std::uint8_t* line;
  std::size_t left;

  EDGEBNN_INLINE void step() {
    __builtin_prefetch(line, 0, 2);
    line += left ? 64 : 0;
    left -= left ? 1 : 0;
  }
};

constexpr std::size_t kFewWords = 8;  // in a window. With fewer, starting and ending pairs costs as much as pairs save.
constexpr int kPixelsOfFew = 7;       // in a tile that is counted word by word

std::size_t window_words(const UnitShape& shape) {
  return static_cast<std::size_t>(shape.kernel * shape.kernel) * word_cell_bytes(shape) / 4;
}

// The words of a window, as bytes from its first cell on.
struct Window {
  static constexpr std::size_t kMostWords = kMaxTerms / 32 + 9;
  std::size_t words;
  std::size_t at[kMostWords];

  explicit Window(const Job& job) : words(0) {
    const std::size_t kernel = static_cast<std::size_t>(job.shape.kernel), bytes = kernel * word_cell_bytes(job.shape);
    for (std::size_t row = 0; row < kernel; ++row) {
      for (std::size_t byte = 0; byte < bytes; byte += 4) at[words++] = row * job.row_bytes + byte;
    }
  }
};

// The part of a window that is counted: all of it, or all except rows outside the map.
struct Part {
  const std::size_t* at;
  std::size_t words, words_before;
  std::ptrdiff_t to_base;  // from a pixel's base

  explicit Part(const Window& window) : at(window.at), words(window.words), words_before(0), to_base(0) {}
  Part(const Job& job, const Window& window, bool at_top, bool at_bottom) : Part(window) {
    const std::size_t row = window.words / 3;
    words_before = at_top ? row : 0;
    at += words_before;
    words -= words_before + (at_bottom ? row : 0);
    to_base = job.constants.inner_base ? job.constants.inner_base - job.constants.base : 0;
  }
};

// The accumulator init of kPixels pixels by a block of channels.
template <int kPixels>
EDGEBNN_INLINE void begin(const Part& part, const Pixel* pixels, std::size_t first,
                          __m512i (&sums)[kPixels * kVectors]) {
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      sums[p * kVectors + v] = _mm512_load_si512(pixels[p].base + part.to_base + first + 16 * v);
    });
  });
}

// The accumulators of these pixels and channels, counted word by word.
template <int kPixels>
EDGEBNN_INLINE void count_singly(const Part& part, const Pixel* pixels, std::size_t first_channel,
                                 const std::uint8_t* weight, Ahead& ahead, __m512i (&sums)[kPixels * kVectors]) {
  begin<kPixels>(part, pixels, first_channel, sums);
  const std::uint8_t* cells[kPixels];
  const __m512i minus_two = _mm512_set1_epi16(-2);
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  for (std::size_t word = 0; word < part.words; ++word, weight += 4 * kBlock) {
    ahead.step();
    const std::size_t at = part.at[word];
    __m512i wanted[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + at);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted[v])), minus_two);
      });
    });
  }
}

// The same accumulators, counted two words at a time.
template <int kPixels>
EDGEBNN_INLINE void count_in_pairs(const Part& part, const Pixel* pixels, std::size_t first_channel,
                                   const std::uint8_t* weight, Ahead& ahead, __m512i (&sums)[kPixels * kVectors]) {
  constexpr int kCells = kPixels * kVectors;
  const std::uint8_t* cells[kPixels];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  const std::size_t* at = part.at;
  __m512i ones[kCells], twos[kCells];
  repeat<kCells>([&](auto i) __attribute__((always_inline)) { ones[i] = twos[i] = _mm512_setzero_si512(); });
  if (part.words % 2) {
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + *at);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        ones[p * kVectors + v] = _mm512_xor_si512(seen, _mm512_load_si512(weight + 64 * v));
      });
    });
    at += 1;
    weight += 4 * kBlock;
  }
  for (std::size_t pairs = part.words / 2; pairs; --pairs, at += 2, weight += 2 * 4 * kBlock) {
    ahead.step();
    const std::size_t first = at[0], second = at[1];
    __m512i wanted[2 * kVectors];
    repeat<2 * kVectors>([&](auto v) __attribute__((always_inline)) {
      wanted[v] = _mm512_load_si512(weight + 64 * v);
    });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + first), seen_next = broadcast(cells[p] + second);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        __m512i& s = ones[p * kVectors + v];
        const __m512i one = xor_of_three(seen, s, wanted[v]);
        const __m512i both = xor_of_three(seen_next, one, wanted[kVectors + v]);
        add_words(twos[p * kVectors + v], _mm512_popcnt_epi32(majority(s, one, both)));
        s = both;
      });
    });
  }
  begin<kPixels>(part, pixels, first_channel, sums);
  const __m512i minus_two = _mm512_set1_epi16(-2), minus_four = _mm512_set1_epi16(-4);
  repeat<kCells>([&](auto i) __attribute__((always_inline)) {
    add_product(sums[i], twos[i], minus_four);
    add_product(sums[i], _mm512_popcnt_epi32(ones[i]), minus_two);
  });
}

template <int kPixels>
EDGEBNN_INLINE void count(const Job& job, const Part& part, const Pixel* pixels, std::size_t block, Ahead& ahead,
                          std::int32_t* acc) {
  const std::size_t words = block * window_words(job.shape) + part.words_before;
  const std::uint8_t* weight = job.constants.weight + words * 4 * kBlock;
  __m512i sums[kPixels * kVectors];
  if (kPixels == kPixelsOfFew || part.words < kFewWords) {
    count_singly<kPixels>(part, pixels, block * kBlock, weight, ahead, sums);
  } else {
    count_in_pairs<kPixels>(part, pixels, block * kBlock, weight, ahead, sums);
  }
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { _mm512_store_si512(acc + 16 * i, sums[i]); });
}

}  // namespace
}  // namespace edgebnn
