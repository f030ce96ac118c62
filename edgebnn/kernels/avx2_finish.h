// Sums to outputs and bits, on the AVX2 path. Included in avx2.cpp alone.
#pragma once

#include <immintrin.h>

#include "avx2_cells.h"

namespace edgebnn {
namespace {

// 16-bit sums of 32 channels of a pair of pixels: even and odd bytes of the first, then of the second.
constexpr int kSums = 4;

struct Vector {
  using Floats = __m256;
  using Ints = __m256i;
  static constexpr std::size_t kLanes = 8;
  static EDGEBNN_INLINE Floats all(float value) { return _mm256_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* base, Ints twice_mismatches) {
    const __m256i all_match = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(base));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(all_match, twice_mismatches));
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

// Twice byte kByte of every 32 bits of a sum: of eight neighbouring channels. Sums stay below 2^15 (kMaxTerms).
template <int kByte>
EDGEBNN_INLINE __m256i unfold_twice(const __m256i& even, const __m256i& odd) {
  return _mm256_madd_epi16(kByte % 2 ? odd : even, _mm256_set1_epi32(kByte < 2 ? 2 : 2 << 16));
}

// 32 comparisons to bits. Packing interleaves the halves of the vectors; the permutation puts them back.
EDGEBNN_INLINE std::uint32_t to_bits(const __m256 (&lanes)[4]) {
  const __m256i low = _mm256_packs_epi32(_mm256_castps_si256(lanes[0]), _mm256_castps_si256(lanes[1]));
  const __m256i high = _mm256_packs_epi32(_mm256_castps_si256(lanes[2]), _mm256_castps_si256(lanes[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
}

// A block's constants side by side, so that one register reaches them all.
struct BlockConstants {
  BlockConstants(const Job& job, std::size_t first, std::size_t channels) {
    const Constants& from = job.constants;
    // Without next_bits what is compared does not matter, only that it is there.
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

// Sums of 32 channels to outputs and bits, `vectors` times. All pointers begin at the first channel; `c` is of
// BlockConstants.
template <Shortcut kShortcut>
EDGEBNN_INLINE void finish_vectors(const float* c, const std::int32_t* base, const float* x, float* y,
                                   std::uint8_t* next_bits, const __m256i* sums, std::size_t vectors,
                                   std::size_t inputs, std::size_t row) {
  for (std::size_t v = 0; v < vectors; ++v, c += 32, base += 32, x += 32, y += 32, sums += kSums) {
    __m256 lanes[4];
    repeat<4>([&](auto byte) __attribute__((always_inline)) {
      const float* own = c + 8 * byte;
      const __m256 result = outputs_of<Vector, kShortcut>(
          unfold_twice<byte>(sums[0], sums[1]), base + 8 * byte, own, own + BlockConstants::kBias,
          own + BlockConstants::kSlope, x + 8 * byte, inputs, row);
      Vector::store(y + 8 * byte, result);
      lanes[byte] = Vector::at_least(result, own + BlockConstants::kThreshold);
    });
    if (next_bits) {
      const std::uint32_t bits = to_bits(lanes);
      std::memcpy(next_bits + 4 * v, &bits, sizeof bits);
    }
  }
}

// Channels that fill no vector.
EDGEBNN_INLINE void finish_rest(const Job& job, const Pixel& pixel, std::size_t first, const __m256i* sums) {
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  if (first >= outputs) return;
  alignas(32) std::int32_t plain[32];
  repeat<4>([&](auto byte) __attribute__((always_inline)) {
    const __m256i counts = _mm256_srli_epi32(unfold_twice<byte>(sums[0], sums[1]), 1);
    _mm256_store_si256(reinterpret_cast<__m256i*>(plain + 8 * byte), counts);
  });
  finish_plainly(job, pixel, first, outputs - first < 32 ? outputs - first : 32, plain);
}

// The sums of a pixel to outputs and bits. The first `whole` times 32 channels lie side by side in the shortcut too,
// but for the step from its last channel to its first.
template <Shortcut kShortcut>
EDGEBNN_INLINE void finish(const Job& job, const BlockConstants& constants, const Pixel& pixel, std::size_t first,
                           std::size_t vectors, std::size_t whole, const __m256i* sums) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::int32_t* base = pixel.base + first;
  float* y = pixel.y + first;
  std::uint8_t* next_bits = job.next_bits ? pixel.next_bits + first / 8 : nullptr;
  std::size_t done = 0;
  if (kShortcut == Shortcut::kRepeat && first < inputs) {
    done = (inputs - first) / 32 < whole ? (inputs - first) / 32 : whole;
    finish_vectors<kShortcut>(constants.values, base, pixel.x + first, y, next_bits, sums, done, inputs, row);
  }
  const std::size_t channel = first + 32 * done;
  const std::size_t source = kShortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
  finish_vectors<kShortcut>(constants.values + 32 * done, base + 32 * done, pixel.x + source, y + 32 * done,
                            next_bits ? next_bits + 4 * done : nullptr, sums + kSums * done, whole - done, inputs, row);
  for (std::size_t v = whole; v < vectors; ++v) finish_rest(job, pixel, first + 32 * v, sums + v * kSums);
}

}  // namespace
}  // namespace edgebnn
