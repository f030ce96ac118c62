// The output transform of the AVX2 path: from sums to outputs and bits. Only avx2.cpp includes it.
#pragma once

#include <immintrin.h>

#include "x86/avx2_packing.h"

namespace edgebnn {
namespace {

// 16-bit sums of 32 channels of a pair of pixels: of the first the even bytes plus 256 times the odd ones, modulo 2^16,
// and the odd ones alone; then those of the second.
constexpr int kSums = 4;

struct Vector {
  using Floats = __m256;
  static constexpr std::size_t kLanes = 8;
  static EDGEBNN_INLINE Floats all(float value) { return _mm256_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  // a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* base, __m256i minus_twice_mismatches) {
    const __m256i all_match = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(base));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(minus_twice_mismatches, all_match));
  }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    const Floats kept = _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(slope, z), z, kept);
  }
  static EDGEBNN_INLINE Floats at_least(Floats y, const float* threshold) {
    return _mm256_cmp_ps(y, load(threshold), _CMP_GE_OQ);
  }
};

void compare(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 8) {
    compare_plainly(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 8, ++bits, x += 8) {
      *bits = static_cast<std::uint8_t>(_mm256_movemask_ps(Vector::at_least(Vector::load(x), threshold + c)));
    }
  }
}

// Keeps the values in registers at this point, so that GCC cannot move instructions across it. GCC would otherwise
// write one chain of dependent instructions after the other, and the processor looks ahead only so far.
template <std::size_t kCount>
EDGEBNN_INLINE void together(__m256 (&values)[kCount]) {
  for (__m256& value : values) __asm__("" : "+x"(value));
}

// The even bytes' sums of a pixel, exactly: they stay below 2^15 (kMaxTerms).
EDGEBNN_INLINE __m256i even_bytes(const __m256i* sums) {
  return _mm256_sub_epi16(sums[0], _mm256_slli_epi16(sums[1], 8));
}

// kFactor times byte kByte of every 32 bits of the sums: of eight neighbouring channels.
template <int kByte, int kFactor>
EDGEBNN_INLINE __m256i unfold(const __m256i& even, const __m256i& odd) {
  const __m256i factor = kByte < 2 ? _mm256_set1_epi32(kFactor & 0xffff) : _mm256_set1_epi32(kFactor * 65536);
  return _mm256_madd_epi16(kByte % 2 ? odd : even, factor);
}

// The bits of 32 channels. Each vector packs its own, because packing them together takes longer.
EDGEBNN_INLINE void store_bits(const __m256 (&y)[4], const float* threshold, std::uint8_t* to) {
  std::uint32_t bits = 0;
  repeat<4>([&](auto i) __attribute__((always_inline)) {
    const __m256 lanes = Vector::at_least(y[i], threshold + 8 * i);
    bits |= static_cast<std::uint32_t>(_mm256_movemask_ps(lanes)) << (8 * i);
  });
  std::memcpy(to, &bits, sizeof bits);
}

// A block's constants side by side, so that one register reaches them all.
struct BlockConstants {
  BlockConstants(const Job& job, std::size_t first, std::size_t channels) {
    const Constants& from = job.constants;
    // Without next_bits the values compared do not matter, but there must be some.
    const float* next_threshold = job.next_bits ? from.next_threshold : from.scale;
    for (std::size_t c = 0; c < channels; c += Vector::kLanes) {
      Vector::store(values + c, Vector::load(from.scale + first + c));
      Vector::store(values + kBias + c, Vector::load(from.bias + first + c));
      Vector::store(values + kSlope + c, Vector::load(from.slope + first + c));
      Vector::store(values + kThreshold + c, Vector::load(next_threshold + first + c));
    }
  }
  static constexpr std::size_t kBias = kBlock, kSlope = 2 * kBlock, kThreshold = 3 * kBlock;
  alignas(32) float values[4 * kBlock];  // scale, bias, slope, next threshold
};

// Sums of 32 channels to outputs and bits, `steps` times, four vectors of 8 channels together. All pointers begin at
// the first channel, that of the repeat shortcut steps back at `wrap`; `c` is of BlockConstants.
template <Shortcut kShortcut, Corner kCorner>
EDGEBNN_INLINE void finish_vectors(const float* c, const std::int32_t* base, const float* x, float* y, float* pooled,
                                   std::uint8_t* next_bits, const __m256i* sums, std::size_t steps, std::size_t wrap,
                                   std::size_t inputs, std::size_t row) {
  for (std::size_t step = 0; step < steps; ++step, c += 32, base += 32, x += 32, sums += kSums) {
    if (kShortcut == Shortcut::kRepeat && step == wrap) x -= inputs;
    const __m256i even = even_bytes(sums), odd = sums[1];
    __m256 z[4];
    const auto each = [&](auto&& f) __attribute__((always_inline)) {
      repeat<4>([&](auto i) __attribute__((always_inline)) { f(i, 8 * i, c + 8 * i); });
    };
    each([&](auto i, int at, const float* own) __attribute__((always_inline)) {
      z[i] = Vector::accumulator(base + at, unfold<i, -2>(even, odd));
      z[i] = Vector::multiply(z[i], Vector::load(own));
    });
    together(z);
    each([&](auto i, int at, const float* own) __attribute__((always_inline)) {
      z[i] = Vector::add(z[i], Vector::load(own + BlockConstants::kBias));
      z[i] = add_shortcut<Vector, kShortcut>(z[i], x + at, inputs, row);
    });
    together(z);
    each([&](auto i, int, const float* own) __attribute__((always_inline)) {
      z[i] = Vector::prelu(z[i], Vector::load(own + BlockConstants::kSlope));
    });
    together(z);
    if (kCorner == Corner::kNone || y) {  // one of y and pooled is there
      each([&](auto i, int at, const float*) __attribute__((always_inline)) {
        Vector::store(y + 32 * step + at, z[i]);
      });
    }
    if constexpr (kCorner != Corner::kNone) {
      each([&](auto i, int at, const float*) __attribute__((always_inline)) {
        pool<Vector>(pooled + 32 * step + at, kCorner, z[i]);
      });
    }
    if (next_bits) {
      store_bits(z, c + BlockConstants::kThreshold, next_bits + 4 * step);
    }
  }
}

// Channels that do not fill a vector.
EDGEBNN_INLINE void finish_rest(const Job& job, const Pixel& pixel, std::size_t first, const __m256i* sums) {
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  if (first >= outputs) return;
  const __m256i even = even_bytes(sums), odd = sums[1];
  alignas(32) std::int32_t plain[32];
  repeat<4>([&](auto byte) __attribute__((always_inline)) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(plain + 8 * byte), unfold<byte, 1>(even, odd));
  });
  finish_plainly(job, pixel, first, outputs - first < 32 ? outputs - first : 32, plain);
}

// A pixel's sums, two of each kSums, to outputs and bits. The first `whole` steps of 32 channels lie side by side in
// the shortcut too, but for the one from its last channel to its first.
template <std::size_t kSteps, Shortcut kShortcut, Corner kCorner>
EDGEBNN_INLINE void finish_in(const Job& job, const BlockConstants& constants, const Pixel& pixel, std::size_t first,
                              std::size_t whole, const __m256i* sums) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::size_t source = kShortcut == Shortcut::kRepeat && first >= inputs ? first - inputs : first;
  const std::size_t wrap = kShortcut == Shortcut::kRepeat && first < inputs ? (inputs - first) / 32 : kSteps;
  float* y = job.y ? pixel.y(job) + first : nullptr;
  float* pooled = kCorner != Corner::kNone ? pixel.pooled(job) + first : nullptr;
  std::uint8_t* next_bits = job.next_bits ? pixel.next_bits(job) + first / 8 : nullptr;
  const auto some = [&](std::size_t steps) __attribute__((always_inline)) {
    finish_vectors<kShortcut, kCorner>(constants.values, pixel.base + first, pixel.x + source, y, pooled, next_bits,
                                       sums, steps, wrap, inputs, row);
  };
  if (whole == kSteps) {  // as almost always; then the number is known here
    some(kSteps);
    return;
  }
  some(whole);
  for (std::size_t step = whole; step < kSteps; ++step) finish_rest(job, pixel, first + 32 * step, sums + step * kSums);
}

template <std::size_t kSteps, Shortcut kShortcut>
EDGEBNN_INLINE void finish(const Job& job, const BlockConstants& constants, const Pixel& pixel, std::size_t first,
                           std::size_t whole, const __m256i* sums) {
  switch (pixel.corner) {
    case Corner::kNone:
      return finish_in<kSteps, kShortcut, Corner::kNone>(job, constants, pixel, first, whole, sums);
    case Corner::kFirst:
      return finish_in<kSteps, kShortcut, Corner::kFirst>(job, constants, pixel, first, whole, sums);
    case Corner::kMiddle:
      return finish_in<kSteps, kShortcut, Corner::kMiddle>(job, constants, pixel, first, whole, sums);
    case Corner::kLast:
      return finish_in<kSteps, kShortcut, Corner::kLast>(job, constants, pixel, first, whole, sums);
  }
}

}  // namespace
}  // namespace edgebnn
