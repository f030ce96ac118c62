// The output transform of the AVX2 path, from sums of mismatches to outputs and bits. Only the AVX2 path includes it.
#pragma once

#include <immintrin.h>

#include "generic/output_transform.h"
#include "x86/avx2_packing.h"

namespace edgebnn {
namespace {

// Vectors of 16-bit sums for 32 channels of a pair of pixels. The first pixel has two: the even bytes plus 256 times
// the odd bytes, modulo 2^16, and the odd bytes alone. The second pixel's two vectors follow.
constexpr int kSums = 4;

struct Vector {
  using Floats = __m256;
  static constexpr std::size_t kLanes = 8;
  static EDGEBNN_INLINE Floats all(float value) { return _mm256_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  // Returns a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* acc_init, __m256i minus_twice_mismatches) {
    const __m256i init = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc_init));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(minus_twice_mismatches, init));
  }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    const Floats kept = _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(slope, z), z, kept);
  }
  static EDGEBNN_INLINE Floats at_least(Floats y, const float* threshold) {
    return _mm256_cmp_ps(y, load(threshold), _CMP_GE_OQ);
  }
};

void bitpack(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 8) {
    bitpack_scalar(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 8, ++bits, x += 8) {
      *bits = static_cast<std::uint8_t>(_mm256_movemask_ps(Vector::at_least(Vector::load(x), threshold + c)));
    }
  }
}

// Keeps the values in registers at this point, so that GCC cannot move instructions across it. GCC would otherwise
// write one chain of dependent instructions after the other, which overflows the processor's scheduler.
template <std::size_t kCount>
EDGEBNN_INLINE void pin_order(__m256 (&values)[kCount]) {
  for (__m256& value : values) __asm__("" : "+x"(value));
}

// Returns the exact sums of a pixel's even bytes. They are below 2^15 (kMaxTerms).
EDGEBNN_INLINE __m256i even_bytes(const __m256i* sums) {
  return _mm256_sub_epi16(sums[0], _mm256_slli_epi16(sums[1], 8));
}

// Returns kFactor times byte kByte of every 32 bits of the sums: the sums of eight neighbouring channels.
template <int kByte, int kFactor>
EDGEBNN_INLINE __m256i unfold(const __m256i& even, const __m256i& odd) {
  const __m256i factor = kByte < 2 ? _mm256_set1_epi32(kFactor & 0xffff) : _mm256_set1_epi32(kFactor * 65536);
  return _mm256_madd_epi16(kByte % 2 ? odd : even, factor);
}

// Writes the bits of 32 channels. Each vector packs its own bits, because packing them together takes longer.
EDGEBNN_INLINE void store_bits(const __m256 (&y)[4], const float* threshold, std::uint8_t* to) {
  std::uint32_t bits = 0;
  repeat<4>([&](auto i) EDGEBNN_INLINE_LAMBDA {
    const __m256 lanes = Vector::at_least(y[i], threshold + 8 * i);
    bits |= static_cast<std::uint32_t>(_mm256_movemask_ps(lanes)) << (8 * i);
  });
  std::memcpy(to, &bits, sizeof bits);
}

// Copies a block's constants next to each other, so that one register addresses them all.
struct BlockConstants {
  BlockConstants(const ConvTask& task, std::size_t first, std::size_t channels) {
    const Constants& from = task.constants;
    // Without next_bits no threshold is used, but the vectors must be readable.
    const float* next_threshold = task.next_bits ? from.next_threshold : from.scale;
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

// Transforms `steps` times 32 channels, as four vectors of 8 channels side by side. All pointers begin at the first
// channel, and `c` points into BlockConstants. From step `restart` on, the repeat shortcut reads x from its first
// channel again.
template <Shortcut kShortcut, Corner kCorner>
EDGEBNN_INLINE void transform_vectors(const float* c, const std::int32_t* acc_init, const float* x, float* y,
                                      float* pooled, std::uint8_t* next_bits, const __m256i* sums, std::size_t steps,
                                      std::size_t restart, std::size_t inputs, std::size_t row) {
  for (std::size_t step = 0; step < steps; ++step, c += 32, acc_init += 32, x += 32, sums += kSums) {
    if (kShortcut == Shortcut::kRepeat && step == restart) x -= inputs;
    const __m256i even = even_bytes(sums), odd = sums[1];
    __m256 z[4];
    const auto each = [&](auto&& f) EDGEBNN_INLINE_LAMBDA {
      repeat<4>([&](auto i) EDGEBNN_INLINE_LAMBDA { f(i, 8 * i, c + 8 * i); });
    };
    each([&](auto i, int at, const float* constants) EDGEBNN_INLINE_LAMBDA {
      z[i] = Vector::accumulator(acc_init + at, unfold<i, -2>(even, odd));
      z[i] = Vector::multiply(z[i], Vector::load(constants));
    });
    pin_order(z);
    each([&](auto i, int at, const float* constants) EDGEBNN_INLINE_LAMBDA {
      z[i] = Vector::add(z[i], Vector::load(constants + BlockConstants::kBias));
      z[i] = add_shortcut<Vector, kShortcut>(z[i], x + at, inputs, row);
    });
    pin_order(z);
    each([&](auto i, int, const float* constants) EDGEBNN_INLINE_LAMBDA {
      const __m256 slope = Vector::load(constants + BlockConstants::kSlope);
      z[i] = Vector::prelu(z[i], slope);
    });
    pin_order(z);
    if (kCorner == Corner::kNone || y) {  // at least one of y and pooled is written
      each([&](auto i, int at, const float*) EDGEBNN_INLINE_LAMBDA { Vector::store(y + 32 * step + at, z[i]); });
    }
    if constexpr (kCorner != Corner::kNone) {
      each([&](auto i, int at, const float*) EDGEBNN_INLINE_LAMBDA {
        float* sum = pooled + 32 * step + at;
        pool<Vector>(sum, kCorner, z[i]);
      });
    }
    if (next_bits) {
      store_bits(z, c + BlockConstants::kThreshold, next_bits + 4 * step);
    }
  }
}

// Transforms up to 32 channels that do not fill vectors.
EDGEBNN_INLINE void transform_remainder(const ConvTask& task, const Pixel& pixel, std::size_t first,
                                        const __m256i* sums) {
  const std::size_t outputs = static_cast<std::size_t>(task.shape.outputs);
  if (first >= outputs) return;
  const __m256i even = even_bytes(sums), odd = sums[1];
  alignas(32) std::int32_t mismatches[32];
  repeat<4>([&](auto byte) EDGEBNN_INLINE_LAMBDA {
    _mm256_store_si256(reinterpret_cast<__m256i*>(mismatches + 8 * byte), unfold<byte, 1>(even, odd));
  });
  transform_output_scalar(task, pixel, first, outputs - first < 32 ? outputs - first : 32, mismatches);
}

// Transforms a pixel: two vectors of every kSums. The first `whole` steps of 32 channels fill vectors, and their
// channels are neighbours in the shortcut.
template <std::size_t kSteps, Shortcut kShortcut, Corner kCorner>
EDGEBNN_INLINE void transform_at_corner(const ConvTask& task, const BlockConstants& constants, const Pixel& pixel,
                                        std::size_t first, std::size_t whole, const __m256i* sums) {
  const std::size_t inputs = static_cast<std::size_t>(task.shape.inputs), row = task.width * inputs;
  const std::size_t source = kShortcut == Shortcut::kRepeat && first >= inputs ? first - inputs : first;
  const std::size_t restart = kShortcut == Shortcut::kRepeat && first < inputs ? (inputs - first) / 32 : kSteps;
  float* y = task.y ? pixel.y(task) + first : nullptr;
  float* pooled = kCorner != Corner::kNone ? pixel.pooled(task) + first : nullptr;
  std::uint8_t* next_bits = task.next_bits ? pixel.next_bits(task) + first / 8 : nullptr;
  const auto transform = [&](std::size_t steps) EDGEBNN_INLINE_LAMBDA {
    transform_vectors<kShortcut, kCorner>(constants.values, pixel.acc_init + first, pixel.x + source, y, pooled,
                                          next_bits, sums, steps, restart, inputs, row);
  };
  if (whole == kSteps) {  // the common case, with a number of steps that is known at compile time
    transform(kSteps);
    return;
  }
  transform(whole);
  for (std::size_t step = whole; step < kSteps; ++step)
    transform_remainder(task, pixel, first + 32 * step, sums + step * kSums);
}

template <std::size_t kSteps, Shortcut kShortcut>
EDGEBNN_INLINE void transform_output(const ConvTask& task, const BlockConstants& constants, const Pixel& pixel,
                                     std::size_t first, std::size_t whole, const __m256i* sums) {
  switch (pixel.corner) {
    case Corner::kNone:
      return transform_at_corner<kSteps, kShortcut, Corner::kNone>(task, constants, pixel, first, whole, sums);
    case Corner::kFirst:
      return transform_at_corner<kSteps, kShortcut, Corner::kFirst>(task, constants, pixel, first, whole, sums);
    case Corner::kMiddle:
      return transform_at_corner<kSteps, kShortcut, Corner::kMiddle>(task, constants, pixel, first, whole, sums);
    case Corner::kLast:
      return transform_at_corner<kSteps, kShortcut, Corner::kLast>(task, constants, pixel, first, whole, sums);
  }
}

}  // namespace
}  // namespace edgebnn
