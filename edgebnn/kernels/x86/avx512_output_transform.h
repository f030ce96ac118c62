// The output transform of the AVX-512 path: from accumulators to outputs, averages and bits. Only avx512.cpp includes
// it.
#pragma once

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
  // a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    return _mm512_mask_mul_ps(z, _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NGE_UQ), slope, z);
  }
  static EDGEBNN_INLINE std::uint16_t at_least(Floats y, const float* threshold) {
    return static_cast<std::uint16_t>(_mm512_cmp_ps_mask(y, load(threshold), _CMP_GE_OQ));
  }
};

// The constants of a block, in registers.
template <bool kBits>
struct BlockConstants {
  __m512 scale[kVectors], bias[kVectors], slope[kVectors], next[kVectors];

  EDGEBNN_INLINE BlockConstants(const Constants& from, std::size_t first) {
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      scale[v] = Vector::load(from.scale + first + 16 * v);
      bias[v] = Vector::load(from.bias + first + 16 * v);
      slope[v] = Vector::load(from.slope + first + 16 * v);
      if (kBits) next[v] = Vector::load(from.next_threshold + first + 16 * v);
    });
  }
};

// The places of a block's channels in a unit's input and outputs. It is a copy of the job's values: a compiler must
// assume that a byte of next_bits may overwrite the originals.
struct Places {
  std::size_t inputs, outputs, bytes, row, first;
  std::size_t source[kVectors];  // of each vector's channels in the shortcut
  float *y, *pooled;
  std::uint8_t* next_bits;

  EDGEBNN_INLINE Places(const Job& job, Shortcut shortcut, std::size_t channel)
      : inputs(static_cast<std::size_t>(job.shape.inputs)),
        outputs(static_cast<std::size_t>(job.shape.outputs)),
        bytes((outputs + 7) / 8),
        row(job.width * inputs),
        first(channel),
        y(job.y),
        pooled(job.pooled),
        next_bits(job.next_bits) {
    for (std::size_t& begin : source) {
      begin = shortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
      channel += Vector::kLanes;
    }
  }
};

// The outputs of a block of channels of one pixel, stored where y is wanted, and their bits.
template <Shortcut kShortcut, bool kY, bool kBits>
EDGEBNN_INLINE void finish_pixel(const Places& places, const BlockConstants<kBits>& constants, const Pixel& pixel,
                                 const std::int32_t* acc, __m512 (&z)[kVectors]) {
  float* y = kY ? places.y + pixel.number * places.outputs + places.first : nullptr;
  __mmask16 lanes[kVectors];
  repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
    z[v] = _mm512_cvtepi32_ps(_mm512_load_si512(acc + 16 * v));
    z[v] = Vector::add(Vector::multiply(z[v], constants.scale[v]), constants.bias[v]);
    z[v] = add_shortcut<Vector, kShortcut>(z[v], pixel.x + places.source[v], places.inputs, places.row);
    z[v] = Vector::prelu(z[v], constants.slope[v]);
    if (kY) Vector::store(y + 16 * v, z[v]);
    if (kBits) lanes[v] = _mm512_cmp_ps_mask(z[v], constants.next[v], _CMP_GE_OQ);
  });
  if (kBits) {
    std::uint8_t* to = places.next_bits + pixel.number * places.bytes + places.first / 8;
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { std::memcpy(to + 2 * v, &lanes[v], 2); });
  }
}

// From accumulators, kBlock per pixel, to outputs and bits.
template <Shortcut kShortcut, bool kBits>
void finish(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc) {
  const BlockConstants<kBits> constants(job.constants, first);
  const Places places(job, kShortcut, first);
  for (int p = 0; p < count; ++p, acc += kBlock) {
    __m512 y[kVectors];
    finish_pixel<kShortcut, true>(places, constants, pixels[p], acc, y);
  }
}

// The same for whole squares, with their averages.
template <Shortcut kShortcut, bool kY, bool kBits>
void finish_squares(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc) {
  const BlockConstants<kBits> constants(job.constants, first);
  const Places places(job, kShortcut, first);
  for (int p = 0; p < count; p += 4, acc += 4 * kBlock) {
    __m512 sum[kVectors], y[kVectors];
    finish_pixel<kShortcut, kY>(places, constants, pixels[p], acc, sum);
    repeat<4, 1>([&](auto corner) __attribute__((always_inline)) {
      finish_pixel<kShortcut, kY>(places, constants, pixels[p + corner], acc + corner * kBlock, y);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) { sum[v] = Vector::add(sum[v], y[v]); });
    });
    float* pooled = places.pooled + pixels[p].square * places.outputs + first;
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      Vector::store(pooled + 16 * v, Vector::multiply(sum[v], Vector::all(0.25f)));
    });
  }
}

// Channels that do not fill a block, or that are not neighbours in the shortcut.
void finish_rest(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc) {
  const std::size_t left = static_cast<std::size_t>(job.shape.outputs) - first;
  for (int p = 0; p < count; ++p, acc += kBlock) {
    std::int32_t mismatches[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) mismatches[i] = (pixels[p].base[first + i] - acc[i]) / 2;
    finish_plainly(job, pixels[p], first, left < kBlock ? left : kBlock, mismatches);
  }
}

using Finish = void (*)(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc);

// The function that finishes the job's whole blocks.
Finish finish_for(const Job& job) {
  Finish found = nullptr;
  with_shortcut(job.shape.shortcut, [&](auto shortcut) {
    constexpr Shortcut k = shortcut.value;
    const bool bits = job.next_bits != nullptr;
    if (!job.pooled) {
      found = bits ? finish<k, true> : finish<k, false>;
    } else if (job.y) {
      found = bits ? finish_squares<k, true, true> : finish_squares<k, true, false>;
    } else {
      found = bits ? finish_squares<k, false, true> : finish_squares<k, false, false>;
    }
  });
  return found;
}

}  // namespace
}  // namespace edgebnn
