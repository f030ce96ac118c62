// Packed activations and weights in 32-bit words, for the paths that XOR words. Bit c % 32 of word c / 32 belongs to
// channel c. Weights are packed as (blocks, kernel * kernel * words, kBlock) words, in blocks of `kBlock` channels.
// Included in each path's file, like basics.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/path.h"
#include "generic/basics.h"

namespace edgebnn {
namespace {

inline std::size_t word_pixel_bytes(const UnitShape& shape) {
  return rounded_up(static_cast<std::size_t>(shape.inputs), 32) / 8;
}

inline std::size_t no_wrap_pixels(const UnitShape&, std::size_t) { return 0; }

inline void pack_word_activations(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t*,
                                  std::size_t pixels, std::uint8_t* activations) {
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8;
  const std::size_t pixel_bytes = word_pixel_bytes(shape);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    std::memcpy(activations + pixel * pixel_bytes, bits + pixel * bytes, bytes);
    std::memset(activations + pixel * pixel_bytes + bytes, 0, pixel_bytes - bytes);
  }
}

inline void bitpack_scalar(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs,
                           std::uint8_t* bits) {
  const std::size_t bytes = rounded_up(inputs, 8) / 8;
  std::memset(bits, 0, pixels * bytes);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; ++c) {
      const unsigned bit = x[pixel * inputs + c] >= threshold[c] ? 1u : 0u;
      bits[pixel * bytes + c / 8] |= static_cast<std::uint8_t>(bit << (c % 8));
    }
  }
}

template <std::size_t kBlock>
std::size_t word_weight_bytes(const UnitShape& shape) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  return rounded_up(static_cast<std::size_t>(shape.outputs), kBlock) * taps * word_pixel_bytes(shape);
}

template <std::size_t kBlock>
void pack_word_weights(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  const std::size_t inputs = static_cast<std::size_t>(shape.inputs), outputs = static_cast<std::size_t>(shape.outputs);
  const std::size_t words = word_pixel_bytes(shape) / 4, bytes = rounded_up(inputs, 8) / 8;
  std::memset(packed, 0, word_weight_bytes<kBlock>(shape));
  // The inner loop is over channels, because neighbouring channels are neighbours in `packed`.
  for (std::size_t first = 0; first < outputs; first += kBlock) {
    const std::size_t channels = outputs - first < kBlock ? outputs - first : kBlock;
    for (std::size_t tap = 0; tap < taps; ++tap) {
      for (std::size_t byte = 0; byte < bytes; ++byte) {
        const std::uint8_t* from = weight + (first * taps + tap) * bytes + byte;
        const std::size_t word = first * taps * words + (tap * words + byte / 4) * kBlock;
        for (std::size_t o = 0; o < channels; ++o) packed[(word + o) * 4 + byte % 4] = from[o * taps * bytes];
      }
    }
  }
}

}  // namespace
}  // namespace edgebnn
