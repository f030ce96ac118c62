// The inner loop of an image convolution, for all paths. Included inside a path's file, like tile.h.
//
// A tile is kPixels pixels by kVectors vectors of output channels, whose sums stay in registers: each weight is
// loaded once for all pixels, each value of the image spread over a vector once for all channels. Its sums must be
// many enough to hide the latency of an addition, since those of one sum wait for each other.
#pragma once

#include "tile.h"

namespace edgebnn {
namespace {

// Where the tile's first pixel reads and writes.
struct ImagePixel {
  const float* image;
  float* y;
  std::uint8_t* next_bits;
};

// `count` channels of one pixel from values that filled no whole block.
inline void finish_image_plainly(const ImageRow& row, const float* values, std::size_t first, std::size_t count,
                                 float* y, std::uint8_t* next_bits) {
  std::memcpy(y + first, values, count * sizeof(float));
  if (!next_bits) return;
  std::memset(next_bits + first / 8, 0, rounded_up(count, 8) / 8);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned bit = values[i] >= row.next_threshold[first + i] ? 1u : 0u;
    next_bits[(first + i) / 8] |= static_cast<std::uint8_t>(bit << (i % 8));
  }
}

// Tile: `Vector`, `kPixels`, `kVectors`; `bits(y, threshold, to)`, which writes the bits of kVectors vectors; and
// `keep(vector)`, which does nothing, but not before and not after its turn: GCC would else compute sum after sum, each
// waiting for itself, and keep the image in memory on the stack.
template <class Tile, int kPixels>
EDGEBNN_INLINE void convolve_image_tile(const ImageRow& row, const float* weight, const ImagePixel& pixel,
                                        std::size_t first) {
  using V = typename Tile::Vector;
  constexpr int kVectors = Tile::kVectors;
  constexpr std::size_t kBlock = kVectors * V::kLanes;
  typename V::Floats sums[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) {
    sums[i] = V::all(-0.0f);  // to which a first product can be added and is still itself
  });
  const float* plane = pixel.image;
  for (std::size_t c = 0; c < row.channels; ++c, plane += row.plane, weight += 9 * kBlock) {
    repeat<9>([&](auto tap) __attribute__((always_inline)) {
      const float* seen = plane + tap / 3 * row.line + tap % 3;
      typename V::Floats values[kPixels];
      repeat<kPixels>([&](auto p) __attribute__((always_inline)) { values[p] = V::all(seen[p * row.stride]); });
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        typename V::Floats factor = V::load(weight + tap * kBlock + v * V::kLanes);
        Tile::keep(factor);
        repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
          sums[p * kVectors + v] = V::add(sums[p * kVectors + v], V::multiply(values[p], factor));
          Tile::keep(sums[p * kVectors + v]);
        });
      });
    });
  }
  const std::size_t bytes = rounded_up(row.outputs, 8) / 8;
  const bool whole = first + kBlock <= row.outputs;
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
    typename V::Floats results[kVectors];
    float* y = pixel.y + p * row.outputs;
    std::uint8_t* next_bits = row.next_bits ? pixel.next_bits + p * bytes : nullptr;
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      results[v] = V::add(sums[p * kVectors + v], V::load(row.bias + first + v * V::kLanes));
    });
    if (whole) {
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        V::store(y + first + v * V::kLanes, results[v]);
      });
      if (next_bits) Tile::bits(results, row.next_threshold + first, next_bits + first / 8);
    } else {
      float values[kBlock];
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) { V::store(values + v * V::kLanes, results[v]); });
      finish_image_plainly(row, values, first, row.outputs - first, y, next_bits);
    }
  });
}

template <class Tile>
void convolve_image_with(const ImageRow& row) {
  constexpr std::size_t kBlock = Tile::kVectors * Tile::Vector::kLanes, kPixels = Tile::kPixels;
  const std::size_t bytes = rounded_up(row.outputs, 8) / 8;
  const float* weight = row.weight;
  for (std::size_t first = 0; first < row.outputs; first += kBlock, weight += row.channels * 9 * kBlock) {
    ImagePixel pixel{row.image, row.y, row.next_bits};
    const auto step = [&](std::size_t pixels) __attribute__((always_inline)) {
      pixel.image += pixels * row.stride;
      pixel.y += pixels * row.outputs;
      pixel.next_bits += pixel.next_bits ? pixels * bytes : 0;
    };
    std::size_t left = row.pixels;
    for (; left >= kPixels; left -= kPixels, step(kPixels)) {
      convolve_image_tile<Tile, Tile::kPixels>(row, weight, pixel, first);
    }
    for (; left; --left, step(1)) convolve_image_tile<Tile, 1>(row, weight, pixel, first);
  }
}

}  // namespace
}  // namespace edgebnn
