// A path: the implementation for one instruction set. It defines the layout of packed activations and weights, and
// convolves. docs/design/kernels.md explains the terms and shows the layout.
//
// The packed activations of a map hold one pixel after the other, row by row, with the padding written out. The window
// of an output pixel is therefore `kernel` runs of `kernel` pixels, and the micro-kernel never tests for the sides of
// the map. On some paths a pixel's packed activations are its packed bits (unit.h). Without padding these paths read
// the bits in place, at any address.
//
//     acc = acc_init[padding case][channel] - 2 * mismatches
//
// `acc_init` includes the zero-padding correction (core/zero_padding_correction.h).
//
// A path's file is compiled for processors that may not be the one at hand. Such a file holds only plain functions with
// internal linkage. An inline function of the standard library, compiled here, could replace the same function
// elsewhere at link time. The program would then run instructions that its processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/unit.h"

namespace edgebnn {

// The padding case of an output pixel: the sides of the map that its window crosses, one bit per side.
constexpr std::size_t kCrossesTop = 1, kCrossesBottom = 2, kCrossesLeft = 4, kCrossesRight = 8;
constexpr std::size_t kPaddingCases = 16;

// Constants of a unit, padded with zeros to whole blocks of channels.
struct Constants {
  const std::uint8_t* weight;    // as the path's `pack_weights` writes it
  const std::int32_t* acc_init;  // (kPaddingCases, padded_outputs)
  // The accumulator init of a loop that skips the window's rows in the padding. It follows `acc_init` in memory. Null
  // without zero padding, and on paths that skip no rows.
  const std::int32_t* acc_init_rows_skipped;
  const float* scale;           // (padded_outputs)
  const float* bias;            // (padded_outputs)
  const float* slope;           // (padded_outputs)
  const float* next_threshold;  // (padded_outputs), or null
  std::size_t padded_outputs;
};

// Output pixels of one task, few enough for the caches: half of a 14x14 map. Where averages are computed, a task is
// some pairs of rows instead.
constexpr std::size_t kTaskPixels = 98;

// A part of one image's convolution: some output pixels, row by row, by some blocks of channels.
struct ConvTask {
  UnitShape shape;
  Constants constants;
  const std::uint8_t* activations;  // packed: (height + 2 * padding, width + 2 * padding + wrap_pixels) pixels
  std::size_t pixel_bytes;          // of the packed activations of a pixel
  std::size_t row_bytes;            // of the packed activations of a row
  const float* x;                   // (height, width, inputs); pooled: (out_height, out_width, inputs)
  std::size_t height, width;
  std::size_t out_height, out_width;
  float* y;                             // (out_height, out_width, outputs), or null
  float* pooled;                        // (out_height / 2, out_width / 2, outputs), or null
  std::uint8_t* next_bits;              // (out_height, out_width, ceil(outputs / 8)), or null
  std::size_t first_pixel, last_pixel;  // with `pooled`, of pairs of rows
  std::size_t first_block, last_block;
};

// One row of the output of an image convolution.
struct ImageRow {
  const float* weight;          // (blocks, taps, block), taps by channel, row and column; zeros after the last channel
  const float* bias;            // (blocks * block)
  const float* next_threshold;  // (blocks * block), or null
  std::size_t channels, outputs, stride;
  const float* image;  // the first value of the row's first window, padding included
  std::size_t line;    // distance from a row of the image to the next
  std::size_t plane;   // distance from a channel of the image to the next
  std::size_t pixels;
  float* y;                 // (pixels, outputs)
  std::uint8_t* next_bits;  // (pixels, ceil(outputs / 8)), or null
};

// The functions of a path. Each path's file defines one table, with named fields.
struct Path {
  // Returns the channels computed together, a multiple of 8.
  std::size_t (*block)(std::size_t outputs);

  // Returns the bytes of a pixel's packed activations.
  std::size_t (*pixel_bytes)(const UnitShape& shape);

  // Writes packed activations from packed bits (unit.h). Not called if both have the same size. `partners` are the bits
  // at the same place in the window of the next output pixel.
  void (*pack_activations)(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners,
                           std::size_t pixels, std::uint8_t* activations);

  // Returns how many packed pixels to append to a row. A path that counts two neighbouring output pixels as a pair may
  // pair the last pixel of a row with the first pixel of the next row. The window of this wrapped-around pair is
  // appended. 0 on other paths.
  std::size_t (*wrap_pixels)(const UnitShape& shape, std::size_t out_width);

  // Writes packed bits from floats: x >= threshold.
  void (*bitpack)(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits);

  // Packs weights (unit.h) into the path's own order, of `weight_bytes` bytes.
  std::size_t (*weight_bytes)(const UnitShape& shape);
  void (*pack_weights)(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed);

  // Computes a task: micro-kernel and output transform.
  void (*convolve)(const ConvTask& task);

  // Whether `convolve` skips the rows of a window that lie in zero padding, and needs acc_init_rows_skipped.
  bool skips_padding_rows;

  // The output channels of an image convolution that are computed together, a multiple of 8.
  std::size_t image_block;
  void (*convolve_image)(const ImageRow& row);

  // Runs XOR, popcount and add `steps` times on registers. Returns the number of binary multiply-accumulates.
  std::uint64_t (*ceiling)(std::uint64_t steps);
};

// Returns the path of an instruction set, or null if the library was built without it.
const Path* path(Isa isa);

const Path* scalar_path();
const Path* avx2_path();
const Path* avx512_path();
const Path* neon_path();

}  // namespace edgebnn
