// The micro-kernel of an image convolution, for all paths. Included in each path's file, like basics.h.
//
// A tile is kPixels pixels by kVectors vectors of output channels. Its sums stay in registers. Each weight is loaded
// once for all pixels, and each value of the image is broadcast once for all channels. Each step of a sum waits for the
// previous step, so a tile needs enough sums to hide the latency of a multiply-add.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/path.h"
#include "generic/basics.h"

namespace edgebnn {
namespace {

// Stores the `count` channels of one pixel that do not fill a block. All pointers begin at the first channel.
inline void store_image_remainder(const float* values, std::size_t count, const float* next_threshold, float* y,
                                  std::uint8_t* next_bits) {
  std::memcpy(y, values, count * sizeof(float));
  if (!next_bits) return;
  std::memset(next_bits, 0, rounded_up(count, 8) / 8);
  for (std::size_t i = 0; i < count; ++i) {
    next_bits[i / 8] |= static_cast<std::uint8_t>((values[i] >= next_threshold[i] ? 1u : 0u) << (i % 8));
  }
}

// A block of output channels of a row. All pointers begin at the block's first channel. The struct copies the values of
// ImageRow, because a compiler must assume that a byte of next_bits may overwrite the originals.
struct ImageBlock {
  const float* weight;
  const float* bias;
  const float* next_threshold;
  std::size_t channels, stride, line, plane;
  std::size_t count;           // channels of the block, fewer than kBlock in the last one
  std::size_t outputs, bytes;  // from a pixel to the next in y, and in next_bits
};

// A Tile defines `Vector`, `kPixels` and `kVectors`. `bits(y, threshold, to)` writes the bits of kVectors vectors.
// `pin(vector)` does nothing but pin the order of the instructions. Without it GCC computes one sum after the other,
// with every step waiting for the previous one, and keeps the values of the image on the stack.
template <class Tile, int kPixels, bool kWhole>
EDGEBNN_INLINE void convolve_image_tile(const ImageBlock& block, const float* image, float* y,
                                        std::uint8_t* next_bits) {
  using V = typename Tile::Vector;
  constexpr int kVectors = Tile::kVectors;
  constexpr std::size_t kBlock = kVectors * V::kLanes;
  typename V::Floats sums[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) EDGEBNN_INLINE_LAMBDA {
    const float* bias = block.bias + i % kVectors * V::kLanes;
    sums[i] = V::load(bias);
  });
  const float* weight = block.weight;
  for (std::size_t c = 0; c < block.channels; ++c, image += block.plane, weight += 9 * kBlock) {
    repeat<9>([&](auto tap) EDGEBNN_INLINE_LAMBDA {
      const float* window = image + tap / 3 * block.line + tap % 3;
      typename V::Floats values[kPixels];
      repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA { values[p] = V::all(window[p * block.stride]); });
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        typename V::Floats weights = V::load(weight + tap * kBlock + v * V::kLanes);
        Tile::pin(weights);
        repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
          typename V::Floats& sum = sums[p * kVectors + v];
          sum = V::multiply_add(values[p], weights, sum);
          Tile::pin(sum);
        });
      });
    });
  }
  repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
    typename V::Floats results[kVectors];
    float remainder[kBlock];
    float* to = kWhole ? y + p * block.outputs : remainder;
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
      results[v] = sums[p * kVectors + v];
      V::store(to + v * V::kLanes, results[v]);
    });
    std::uint8_t* bits = next_bits + p * block.bytes;
    if constexpr (!kWhole) {
      store_image_remainder(remainder, block.count, block.next_threshold, y + p * block.outputs, bits);
    } else if (next_bits) {
      Tile::bits(results, block.next_threshold, bits);
    }
  });
}

template <class Tile, bool kWhole>
EDGEBNN_INLINE void convolve_image_block(const ImageBlock& block, const float* image, std::size_t pixels, float* y,
                                         std::uint8_t* next_bits) {
  constexpr std::size_t kPixels = Tile::kPixels;
  for (; pixels >= kPixels; pixels -= kPixels) {
    convolve_image_tile<Tile, Tile::kPixels, kWhole>(block, image, y, next_bits);
    image += kPixels * block.stride;
    y += kPixels * block.outputs;
    next_bits += kPixels * block.bytes;
  }
  for (; pixels; --pixels) {
    convolve_image_tile<Tile, 1, kWhole>(block, image, y, next_bits);
    image += block.stride;
    y += block.outputs;
    next_bits += block.bytes;
  }
}

template <class Tile>
void convolve_image_with(const ImageRow& row) {
  constexpr std::size_t kBlock = Tile::kVectors * Tile::Vector::kLanes;
  ImageBlock block{.weight = row.weight,
                   .bias = row.bias,
                   .next_threshold = row.next_threshold,
                   .channels = row.channels,
                   .stride = row.stride,
                   .line = row.line,
                   .plane = row.plane,
                   .count = 0,
                   .outputs = row.outputs,
                   .bytes = row.next_bits ? rounded_up(row.outputs, 8) / 8 : 0};
  for (std::size_t first = 0; first < row.outputs; first += kBlock) {
    const std::size_t left = row.outputs - first;
    block.weight = row.weight + first * row.channels * 9;
    block.bias = row.bias + first;
    block.next_threshold = row.next_bits ? row.next_threshold + first : nullptr;
    block.count = left < kBlock ? left : kBlock;
    std::uint8_t* next_bits = row.next_bits ? row.next_bits + first / 8 : nullptr;
    if (left < kBlock) {
      convolve_image_block<Tile, false>(block, row.image, row.pixels, row.y + first, next_bits);
    } else {
      convolve_image_block<Tile, true>(block, row.image, row.pixels, row.y + first, next_bits);
    }
  }
}

}  // namespace
}  // namespace edgebnn
