// Packed activations, packed weights and lookup tables of the AVX2 path. avx2.cpp explains them. Only the AVX2 path
// includes this file.
#pragma once

#include <immintrin.h>

#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 128;

std::size_t block(std::size_t outputs) { return outputs > 64 ? kBlock : outputs > 32 ? 64 : 32; }

struct Tables {
  alignas(64) std::uint8_t mismatches[256][16];
};

constexpr unsigned count_bits(unsigned value) {
  unsigned count = 0;
  for (; value; value &= value - 1) ++count;
  return count;
}

constexpr Tables make_tables() {
  Tables tables{};
  for (unsigned pair = 0; pair < 256; ++pair) {
    for (unsigned weight = 0; weight < 16; ++weight) {
      const unsigned first = count_bits((pair & 15) ^ weight), second = count_bits((pair >> 4) ^ weight);
      tables.mismatches[pair][weight] = static_cast<std::uint8_t>(first + 16 * second);
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

// Returns the groups of 4 channels of a pixel. A row of a window must have a multiple of three groups, because groups
// are counted in triples. A row of a 3x3 window has three pixels, so only 1x1 windows need empty groups.
std::size_t pixel_groups(const UnitShape& shape) {
  const std::size_t groups = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 4;
  return shape.kernel == 1 ? rounded_up(groups, 3) : groups;
}

std::size_t pixel_bytes(const UnitShape& shape) { return 2 * pixel_groups(shape); }

// Combines the bits of two pixels into numbers of tables. Each byte of the result holds the same group of 4 channels of
// both pixels. `even` has the even groups, `odd` the odd groups.
struct Halves {
  __m128i even, odd;
};
EDGEBNN_INLINE Halves pair_halves(__m128i first, __m128i second) {
  const __m128i low = _mm_set1_epi8(15), high = _mm_set1_epi8(static_cast<char>(0xf0));
  return {_mm_or_si128(_mm_and_si128(first, low), _mm_and_si128(_mm_slli_epi16(second, 4), high)),
          _mm_or_si128(_mm_and_si128(_mm_srli_epi16(first, 4), low), _mm_and_si128(second, high))};
}

// Writes the offsets of eight tables, from their numbers in the high bytes.
EDGEBNN_INLINE void store_offsets(std::uint8_t* to, __m128i bytes_above_zeros) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_srli_epi16(bytes_above_zeros, 4));
}

// Writes the packed activations of `bytes` bytes of packed bits and of their partners' bits.
EDGEBNN_INLINE void pair_bytes(const std::uint8_t* first, const std::uint8_t* second, std::size_t bytes,
                               std::uint8_t* activations) {
  const __m128i zero = _mm_setzero_si128();
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    const Halves halves = pair_halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first + i)),
                                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(second + i)));
    const __m128i low = _mm_unpacklo_epi8(halves.even, halves.odd), high = _mm_unpackhi_epi8(halves.even, halves.odd);
    store_offsets(activations + 4 * i, _mm_unpacklo_epi8(zero, low));
    store_offsets(activations + 4 * i + 16, _mm_unpackhi_epi8(zero, low));
    store_offsets(activations + 4 * i + 32, _mm_unpacklo_epi8(zero, high));
    store_offsets(activations + 4 * i + 48, _mm_unpackhi_epi8(zero, high));
  }
  for (; i + 4 <= bytes; i += 4) {
    std::int32_t four, partners;
    std::memcpy(&four, first + i, 4);
    std::memcpy(&partners, second + i, 4);
    const Halves halves = pair_halves(_mm_cvtsi32_si128(four), _mm_cvtsi32_si128(partners));
    store_offsets(activations + 4 * i, _mm_unpacklo_epi8(zero, _mm_unpacklo_epi8(halves.even, halves.odd)));
  }
  for (; i < bytes; ++i) {
    const unsigned even = (first[i] & 15u) | (second[i] & 15u) << 4, odd = first[i] >> 4 | (second[i] & 0xf0u);
    const std::uint16_t offsets[2] = {static_cast<std::uint16_t>(16 * even), static_cast<std::uint16_t>(16 * odd)};
    std::memcpy(activations + 4 * i, offsets, sizeof offsets);
  }
}

// Writes the packed activations of pixels of `bytes` bytes. Each pixel ends with kEmpty groups without inputs.
template <std::size_t kEmpty>
void pair_pixels(const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels, std::size_t bytes,
                 std::uint8_t* activations) {
  constexpr std::uint8_t kNone[2 * kEmpty] = {};
  if (bytes == 4) {  // four pixels fill a vector
    for (; pixels >= 4; pixels -= 4, bits += 16, partners += 16, activations += 4 * (16 + sizeof kNone)) {
      const Halves halves = pair_halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bits)),
                                        _mm_loadu_si128(reinterpret_cast<const __m128i*>(partners)));
      const __m128i zero = _mm_setzero_si128();
      const __m128i low = _mm_unpacklo_epi8(halves.even, halves.odd), high = _mm_unpackhi_epi8(halves.even, halves.odd);
      const __m128i offsets[4] = {_mm_unpacklo_epi8(zero, low), _mm_unpackhi_epi8(zero, low),
                                  _mm_unpacklo_epi8(zero, high), _mm_unpackhi_epi8(zero, high)};
      repeat<4>([&](auto i) EDGEBNN_INLINE_LAMBDA {
        std::uint8_t* to = activations + static_cast<std::size_t>(i) * (16 + sizeof kNone);
        store_offsets(to, offsets[i]);
        std::memcpy(to + 16, kNone, sizeof kNone);
      });
    }
  }
  for (; pixels; --pixels, bits += bytes, partners += bytes, activations += 4 * bytes + sizeof kNone) {
    pair_bytes(bits, partners, bytes, activations);
    std::memcpy(activations + 4 * bytes, kNone, sizeof kNone);
  }
}

// In rows of odd length the last pixel would otherwise have no partner.
std::size_t wrap_pixels(const UnitShape& shape, std::size_t out_width) {
  return shape.kernel == 3 && out_width % 2 ? static_cast<std::size_t>(shape.kernel) : 0;
}

void pack_activations(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners,
                      std::size_t pixels, std::uint8_t* activations) {
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8;
  switch (pixel_groups(shape) - 2 * bytes) {
    case 0: return pair_bytes(bits, partners, pixels * bytes, activations);
    case 1: return pair_pixels<1>(bits, partners, pixels, bytes, activations);
    default: return pair_pixels<2>(bits, partners, pixels, bytes, activations);
  }
}

// Returns the channels of the block that begins with channel `first`, rounded up to channels that are counted together.
std::size_t block_channels(const UnitShape& shape, std::size_t first) {
  const std::size_t left = static_cast<std::size_t>(shape.outputs) - first;
  return left > 64 ? kBlock : left > 32 ? 64 : 32;
}

std::size_t weight_bytes(const UnitShape& shape) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  const std::size_t last = static_cast<std::size_t>(shape.outputs - 1) / kBlock * kBlock;
  return (last + block_channels(shape, last)) * taps * pixel_groups(shape);
}

void pack_weights(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel), groups = pixel_groups(shape);
  const std::size_t inputs = static_cast<std::size_t>(shape.inputs), outputs = static_cast<std::size_t>(shape.outputs);
  const std::size_t bytes = rounded_up(inputs, 8) / 8;
  std::memset(packed, 0, weight_bytes(shape));
  // The inner loop is over channels, because neighbouring channels are neighbours in `packed`.
  for (std::size_t first = 0; first < outputs; first += kBlock) {
    const std::size_t channels = block_channels(shape, first);
    const std::size_t count = outputs - first < channels ? outputs - first : channels;
    for (std::size_t tap = 0; tap < taps; ++tap) {
      for (std::size_t byte = 0; byte < bytes; ++byte) {
        const std::uint8_t* from = weight + (first * taps + tap) * bytes + byte;
        std::uint8_t* to = packed + first * taps * groups + (tap * groups + 2 * byte) * channels;
        for (std::size_t o = 0; o < count; ++o) {
          const std::size_t index = o / 32 * 32 + 4 * (o % 8) + o % 32 / 8;
          to[index] = from[o * taps * bytes] & 15;
          to[channels + index] = from[o * taps * bytes] >> 4;
        }
      }
    }
  }
}

}  // namespace
}  // namespace edgebnn
