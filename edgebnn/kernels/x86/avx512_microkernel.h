// The micro-kernels of the AVX-512 path. avx512.cpp explains them. Only the AVX-512 path includes this file.
#pragma once

#include <immintrin.h>

#include "generic/pixel_iterator.h"
#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 32;  // channels
constexpr int kVectors = kBlock / 16;

// The instructions below are in assembly, because GCC 12 would use more of them.
#if defined(__AVX512F__)
#define EDGEBNN_AVX512 1
#else  // tests emulate the instructions (tests/kernels/simde)
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

// sum += counts * factor, in one instruction. Counts are 0 to 2^15 - 1. The factor has 16 bits, twice in each word.
EDGEBNN_INLINE void add_product(__m512i& sum, __m512i counts, __m512i factor) {
#if EDGEBNN_AVX512
  __asm__("vpdpwssd %1, %2, %0" : "+v"(sum) : "v"(counts), "v"(factor));
#else
  sum = _mm512_dpwssd_epi32(sum, counts, factor);
#endif
}

// Returns a ^ b ^ c.
EDGEBNN_INLINE __m512i xor_of_three(__m512i a, __m512i b, __m512i c) {
  constexpr int kTable = 0x96;
#if EDGEBNN_AVX512
  __asm__("vpternlogd %3, %2, %1, %0" : "+v"(a) : "v"(b), "v"(c), "i"(kTable));
  return a;
#else
  return _mm512_ternarylogic_epi32(a, b, c, kTable);
#endif
}

// Returns the majority of s, x and y, from one = s ^ x and both = s ^ x ^ y. It is s where one is 0. Elsewhere it is
// not `both`, which equals y there.
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

// Prefetches the weights that are counted next into the second-level cache, one cache line per step.
struct WeightPrefetch {
  const std::uint8_t* line;
  std::size_t left;

  EDGEBNN_INLINE void step() {
    __builtin_prefetch(line, 0, 2);
    line += left ? 64 : 0;
    left -= left ? 1 : 0;
  }
};

// Windows of fewer words are counted word by word: to start and to end word pairs costs as much as the pairs save.
constexpr std::size_t kFewWords = 8;
constexpr int kPixelsOfFewWords = 7;  // of a tile that is counted word by word

std::size_t window_words(const UnitShape& shape) {
  return static_cast<std::size_t>(shape.kernel * shape.kernel) * word_pixel_bytes(shape) / 4;
}

// The offsets of a window's words, in bytes from its first packed activation.
struct WindowOffsets {
  static constexpr std::size_t kMostWords = kMaxTerms / 32 + 9;
  std::size_t words;
  std::size_t at[kMostWords];

  explicit WindowOffsets(const ConvTask& task) : words(0) {
    const std::size_t kernel = static_cast<std::size_t>(task.shape.kernel),
                      bytes = kernel * word_pixel_bytes(task.shape);
    for (std::size_t row = 0; row < kernel; ++row) {
      for (std::size_t byte = 0; byte < bytes; byte += 4) at[words++] = row * task.row_bytes + byte;
    }
  }
};

// The part of a window that is counted: all of it, or all except the rows in the padding.
struct WindowPart {
  const std::size_t* at;
  std::size_t words, words_before;
  std::ptrdiff_t to_acc_init;  // from the pixel's acc_init to the one of this part

  explicit WindowPart(const WindowOffsets& window)
      : at(window.at), words(window.words), words_before(0), to_acc_init(0) {}
  WindowPart(const ConvTask& task, const WindowOffsets& window, bool at_top, bool at_bottom) : WindowPart(window) {
    const std::size_t row = window.words / 3;
    words_before = at_top ? row : 0;
    at += words_before;
    words -= words_before + (at_bottom ? row : 0);
    to_acc_init =
        task.constants.acc_init_rows_skipped ? task.constants.acc_init_rows_skipped - task.constants.acc_init : 0;
  }
};

// Loads the accumulator init of kPixels pixels by a block of channels.
template <int kPixels>
EDGEBNN_INLINE void load_acc_init(const WindowPart& part, const Pixel* pixels, std::size_t first,
                                  __m512i (&sums)[kPixels * kVectors]) {
  repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
      sums[p * kVectors + v] = _mm512_load_si512(pixels[p].acc_init + part.to_acc_init + first + 16 * v);
    });
  });
}

// Computes the accumulators of these pixels and channels, counting word by word.
template <int kPixels>
EDGEBNN_INLINE void count_words(const WindowPart& part, const Pixel* pixels, std::size_t first_channel,
                                const std::uint8_t* weight, WeightPrefetch& prefetch,
                                __m512i (&sums)[kPixels * kVectors]) {
  load_acc_init<kPixels>(part, pixels, first_channel, sums);
  const std::uint8_t* activations[kPixels];
  const __m512i minus_two = _mm512_set1_epi16(-2);
  repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA { activations[p] = pixels[p].window; });
  for (std::size_t word = 0; word < part.words; ++word, weight += 4 * kBlock) {
    prefetch.step();
    const std::size_t at = part.at[word];
    __m512i weights[kVectors];
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA { weights[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
      const __m512i activation = broadcast(activations[p] + at);
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(activation, weights[v])), minus_two);
      });
    });
  }
}

// Computes the same accumulators, counting two words at a time.
template <int kPixels>
EDGEBNN_INLINE void count_word_pairs(const WindowPart& part, const Pixel* pixels, std::size_t first_channel,
                                     const std::uint8_t* weight, WeightPrefetch& prefetch,
                                     __m512i (&sums)[kPixels * kVectors]) {
  constexpr int kSums = kPixels * kVectors;
  const std::uint8_t* activations[kPixels];
  repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA { activations[p] = pixels[p].window; });
  const std::size_t* at = part.at;
  __m512i ones[kSums], twos[kSums];
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { ones[i] = twos[i] = _mm512_setzero_si512(); });
  if (part.words % 2) {
    repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
      const __m512i activation = broadcast(activations[p] + *at);
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        ones[p * kVectors + v] = _mm512_xor_si512(activation, _mm512_load_si512(weight + 64 * v));
      });
    });
    at += 1;
    weight += 4 * kBlock;
  }
  for (std::size_t pairs = part.words / 2; pairs; --pairs, at += 2, weight += 2 * 4 * kBlock) {
    prefetch.step();
    const std::size_t first = at[0], second = at[1];
    __m512i weights[2 * kVectors];
    repeat<2 * kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA { weights[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
      const __m512i activation = broadcast(activations[p] + first),
                    next_activation = broadcast(activations[p] + second);
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        __m512i& s = ones[p * kVectors + v];
        const __m512i one = xor_of_three(activation, s, weights[v]);
        const __m512i both = xor_of_three(next_activation, one, weights[kVectors + v]);
        add_words(twos[p * kVectors + v], _mm512_popcnt_epi32(majority(s, one, both)));
        s = both;
      });
    });
  }
  load_acc_init<kPixels>(part, pixels, first_channel, sums);
  const __m512i minus_two = _mm512_set1_epi16(-2), minus_four = _mm512_set1_epi16(-4);
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA {
    add_product(sums[i], twos[i], minus_four);
    add_product(sums[i], _mm512_popcnt_epi32(ones[i]), minus_two);
  });
}

// Computes the accumulators of a tile.
template <int kPixels>
EDGEBNN_INLINE void count(const ConvTask& task, const WindowPart& part, const Pixel* pixels, std::size_t block,
                          WeightPrefetch& prefetch, std::int32_t* acc) {
  const std::size_t words = block * window_words(task.shape) + part.words_before;
  const std::uint8_t* weight = task.constants.weight + words * 4 * kBlock;
  __m512i sums[kPixels * kVectors];
  if (kPixels == kPixelsOfFewWords || part.words < kFewWords) {
    count_words<kPixels>(part, pixels, block * kBlock, weight, prefetch, sums);
  } else {
    count_word_pairs<kPixels>(part, pixels, block * kBlock, weight, prefetch, sums);
  }
  repeat<kPixels * kVectors>([&](auto i) EDGEBNN_INLINE_LAMBDA { _mm512_store_si512(acc + 16 * i, sums[i]); });
}

}  // namespace
}  // namespace edgebnn
