// The output transform of the AVX-512 path, from accumulators to outputs, averages and bits. Only the AVX-512 path
// includes it.
#pragma once

#include "generic/output_transform.h"
#include "x86/avx512_microkernel.h"

namespace edgebnn {
namespace {

struct Vector {
  using Floats = __m512;
  static constexpr std::size_t kLanes = 16;
  static EDGEBNN_INLINE Floats all(float value) { return _mm512_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm512_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  // Returns a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    return _mm512_mask_mul_ps(z, _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NGE_UQ), slope, z);
  }
  static EDGEBNN_INLINE std::uint16_t at_least(Floats y, const float* threshold) {
    return static_cast<std::uint16_t>(_mm512_cmp_ps_mask(y, load(threshold), _CMP_GE_OQ));
  }
};

// Holds the constants of a block in registers.
template <bool kBits>
struct BlockConstants {
  __m512 scale[kVectors], bias[kVectors], slope[kVectors], next[kVectors];

  EDGEBNN_INLINE BlockConstants(const Constants& from, std::size_t first) {
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
      scale[v] = Vector::load(from.scale + first + 16 * v);
      bias[v] = Vector::load(from.bias + first + 16 * v);
      slope[v] = Vector::load(from.slope + first + 16 * v);
      if (kBits) next[v] = Vector::load(from.next_threshold + first + 16 * v);
    });
  }
};

// Where the channels of a block lie in a unit's input and outputs. The struct copies the task's values, because a
// compiler must assume that a byte of next_bits may overwrite the originals.
struct BlockPointers {
  std::size_t inputs, outputs, bytes, row, first;
  std::size_t source[kVectors];  // the first channel of each vector in the shortcut
  float *y, *pooled;
  std::uint8_t* next_bits;

  EDGEBNN_INLINE BlockPointers(const ConvTask& task, Shortcut shortcut, std::size_t channel)
      : inputs(static_cast<std::size_t>(task.shape.inputs)),
        outputs(static_cast<std::size_t>(task.shape.outputs)),
        bytes((outputs + 7) / 8),
        row(task.width * inputs),
        first(channel),
        y(task.y),
        pooled(task.pooled),
        next_bits(task.next_bits) {
    for (std::size_t& begin : source) {
      begin = shortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
      channel += Vector::kLanes;
    }
  }
};

// Transforms a block of channels of one pixel into z. Stores y if kY, and the next bits if kBits.
template <Shortcut kShortcut, bool kY, bool kBits>
EDGEBNN_INLINE void transform_pixel(const BlockPointers& block, const BlockConstants<kBits>& constants,
                                    const Pixel& pixel, const std::int32_t* acc, __m512 (&z)[kVectors]) {
  float* y = kY ? block.y + pixel.number * block.outputs + block.first : nullptr;
  __mmask16 lanes[kVectors];
  repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
    z[v] = _mm512_cvtepi32_ps(_mm512_load_si512(acc + 16 * v));
    z[v] = Vector::add(Vector::multiply(z[v], constants.scale[v]), constants.bias[v]);
    z[v] = add_shortcut<Vector, kShortcut>(z[v], pixel.x + block.source[v], block.inputs, block.row);
    z[v] = Vector::prelu(z[v], constants.slope[v]);
    if (kY) Vector::store(y + 16 * v, z[v]);
    if (kBits) lanes[v] = _mm512_cmp_ps_mask(z[v], constants.next[v], _CMP_GE_OQ);
  });
  if (kBits) {
    std::uint8_t* to = block.next_bits + pixel.number * block.bytes + block.first / 8;
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA { std::memcpy(to + 2 * v, &lanes[v], 2); });
  }
}

// Transforms the accumulators of `count` pixels, kBlock per pixel, to outputs and bits.
template <Shortcut kShortcut, bool kBits>
void transform_output(const ConvTask& task, const Pixel* pixels, int count, std::size_t first,
                      const std::int32_t* acc) {
  const BlockConstants<kBits> constants(task.constants, first);
  const BlockPointers block(task, kShortcut, first);
  for (int p = 0; p < count; ++p, acc += kBlock) {
    __m512 y[kVectors];
    transform_pixel<kShortcut, true>(block, constants, pixels[p], acc, y);
  }
}

// Transforms whole squares of pixels, and computes their averages.
template <Shortcut kShortcut, bool kY, bool kBits>
void transform_squares(const ConvTask& task, const Pixel* pixels, int count, std::size_t first,
                       const std::int32_t* acc) {
  const BlockConstants<kBits> constants(task.constants, first);
  const BlockPointers block(task, kShortcut, first);
  for (int p = 0; p < count; p += 4, acc += 4 * kBlock) {
    __m512 sum[kVectors], y[kVectors];
    transform_pixel<kShortcut, kY>(block, constants, pixels[p], acc, sum);
    repeat<4, 1>([&](auto corner) EDGEBNN_INLINE_LAMBDA {
      transform_pixel<kShortcut, kY>(block, constants, pixels[p + corner], acc + corner * kBlock, y);
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA { sum[v] = Vector::add(sum[v], y[v]); });
    });
    float* pooled = block.pooled + pixels[p].square * block.outputs + first;
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
      Vector::store(pooled + 16 * v, Vector::multiply(sum[v], Vector::all(0.25f)));
    });
  }
}

// Transforms channels that do not fill a block, or that are not neighbours in the shortcut.
void transform_remainder(const ConvTask& task, const Pixel* pixels, int count, std::size_t first,
                         const std::int32_t* acc) {
  const std::size_t left = static_cast<std::size_t>(task.shape.outputs) - first;
  for (int p = 0; p < count; ++p, acc += kBlock) {
    std::int32_t mismatches[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) mismatches[i] = (pixels[p].acc_init[first + i] - acc[i]) / 2;
    transform_output_scalar(task, pixels[p], first, left < kBlock ? left : kBlock, mismatches);
  }
}

using OutputTransform = void (*)(const ConvTask& task, const Pixel* pixels, int count, std::size_t first,
                                 const std::int32_t* acc);

// Returns the function that transforms the task's whole blocks.
OutputTransform select_output_transform(const ConvTask& task) {
  OutputTransform transform = nullptr;
  with_shortcut(task.shape.shortcut, [&](auto shortcut) {
    constexpr Shortcut k = shortcut.value;
    const bool bits = task.next_bits != nullptr;
    if (!task.pooled) {
      transform = bits ? transform_output<k, true> : transform_output<k, false>;
    } else if (task.y) {
      transform = bits ? transform_squares<k, true, true> : transform_squares<k, true, false>;
    } else {
      transform = bits ? transform_squares<k, false, true> : transform_squares<k, false, false>;
    }
  });
  return transform;
}

}  // namespace
}  // namespace edgebnn
