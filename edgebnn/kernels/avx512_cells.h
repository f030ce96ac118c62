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

EDGEBNN_INLINE __m128i load(const std::uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
EDGEBNN_INLINE void store(std::uint8_t* to, __m128i bits) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bits); }

// 16 bytes of pixels of `bytes` bytes each, XOR those of their two neighbours to the right.
EDGEBNN_INLINE __m128i xor_of_three(const std::uint8_t* bits, std::size_t bytes) {
  return _mm_xor_si128(_mm_xor_si128(load(bits), load(bits + bytes)), load(bits + 2 * bytes));
}

// The first cells of pixels of kBytes bytes, 4 or 8, as many as fill vectors and have two neighbours; returns how many.
template <std::size_t kBytes>
std::size_t to_narrow_cells(const std::uint8_t* bits, std::size_t pixels, std::uint8_t* cells) {
  constexpr std::size_t kTogether = 16 / kBytes;
  std::size_t done = 0;
  for (; done + kTogether + 2 <= pixels; done += kTogether, bits += 16, cells += 32) {
    const __m128i own = load(bits), all = xor_of_three(bits, kBytes);
    store(cells, kBytes == 4 ? _mm_unpacklo_epi32(own, all) : _mm_unpacklo_epi64(own, all));
    store(cells + 16, kBytes == 4 ? _mm_unpackhi_epi32(own, all) : _mm_unpackhi_epi64(own, all));
  }
  return done;
}

// The same of a multiple of 16 bytes.
std::size_t to_wide_cells(const std::uint8_t* bits, std::size_t pixels, std::size_t bytes, std::uint8_t* cells) {
  std::size_t done = 0;
  for (; done + 2 < pixels; ++done, cells += bytes) {
    for (std::size_t end = bytes; end; end -= 16, bits += 16, cells += 16) {
      store(cells, load(bits));
      store(cells + bytes, xor_of_three(bits, bytes));
    }
  }
  return done;
}

void to_cells(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels,
              std::uint8_t* cells) {
  if (shape.kernel != 3) {
    to_word_cells(shape, bits, partners, pixels, cells);
    return;
  }
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8, half = word_cell_bytes(shape);
  std::size_t pixel = 0;
  if (bytes % 16 == 0) {
    pixel = to_wide_cells(bits, pixels, bytes, cells);
  } else if (bytes == 8) {
    pixel = to_narrow_cells<8>(bits, pixels, cells);
  } else if (bytes == 4) {
    pixel = to_narrow_cells<4>(bits, pixels, cells);
  }
  for (; pixel < pixels; ++pixel) {
    const std::uint8_t* own = bits + pixel * bytes;
    std::uint8_t* cell = cells + pixel * 2 * half;
    std::memset(cell, 0, 2 * half);
    std::memcpy(cell, own, bytes);
    if (pixel + 2 >= pixels) continue;  // no window begins here
    for (std::size_t i = 0; i < bytes; ++i) {
      cell[half + i] = static_cast<std::uint8_t>(own[i] ^ own[bytes + i] ^ own[2 * bytes + i]);
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
