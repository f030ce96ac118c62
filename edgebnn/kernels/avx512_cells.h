// Cells and weights of the AVX-512 path for 3x3 convolutions (avx512.cpp says why). Included there alone.
//
// Cells: the pixel's words, then as many that are the XOR of this pixel, its right neighbour and the one after.
// Weights: blocks of kBlock channels, (3 rows, words, 3, kBlock) words; the three are the weights of the window's first
// and second column, and the XOR of all three columns.
#pragma once

#include <immintrin.h>

#include "words.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 32;

std::size_t cell_bytes(const UnitShape& shape) { return (shape.kernel == 3 ? 2 : 1) * word_cell_bytes(shape); }

// What three neighbouring cells, all `cell` bytes long, have at `at`.
EDGEBNN_INLINE std::uint32_t xor_of_three(const std::uint8_t* at, std::size_t cell) {
  std::uint32_t words[3];
  for (std::size_t i = 0; i < 3; ++i) std::memcpy(words + i, at + i * cell, 4);
  return words[0] ^ words[1] ^ words[2];
}

void to_cells(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels,
              std::uint8_t* cells) {
  if (shape.kernel != 3) {
    to_word_cells(shape, bits, partners, pixels, cells);
    return;
  }
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8;
  const std::size_t half = word_cell_bytes(shape), cell = 2 * half;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    std::memcpy(cells + pixel * cell, bits + pixel * bytes, bytes);
    std::memset(cells + pixel * cell + bytes, 0, cell - bytes);
  }
  for (std::size_t pixel = 0; pixel + 2 < pixels; ++pixel, cells += cell) {  // no window begins with the last two
    for (std::size_t at = 0; at < half; at += 4) {
      const std::uint32_t word = xor_of_three(cells + at, cell);
      std::memcpy(cells + half + at, &word, sizeof word);
    }
  }
}

void pack_weights(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed) {
  if (shape.kernel != 3) {
    pack_word_weights<kBlock>(shape, weight, packed);
    return;
  }
  constexpr std::size_t kWord = 4 * kBlock;  // bytes of a word of all channels of a block
  const std::size_t outputs = static_cast<std::size_t>(shape.outputs), words = word_cell_bytes(shape) / 4;
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8;
  std::memset(packed, 0, word_weight_bytes<kBlock>(shape));
  for (std::size_t first = 0; first < outputs; first += kBlock, packed += 9 * words * kWord) {
    const std::size_t held = outputs - first < kBlock ? outputs - first : kBlock;
    for (std::size_t tap = 0; tap < 9; ++tap) {
      for (std::size_t byte = 0; byte < bytes; ++byte) {
        const std::uint8_t* from = weight + (first * 9 + tap) * bytes + byte;
        std::uint8_t* three = packed + (tap / 3 * words + byte / 4) * 3 * kWord + byte % 4;
        for (std::size_t o = 0; o < held; ++o) {
          const std::uint8_t bits = from[o * 9 * bytes];
          if (tap % 3 < 2) three[tap % 3 * kWord + 4 * o] = bits;
          three[2 * kWord + 4 * o] ^= bits;
        }
      }
    }
  }
}

}  // namespace
}  // namespace edgebnn
