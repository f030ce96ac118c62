// A path: the implementation for one instruction set. It defines the layout of bits and weights, and convolves.
// docs/design/kernels.md explains the terms and shows the layout.
//
// The packed activations consist of cells, one per pixel, with the padding written out. The window of an output
// pixel is therefore `kernel` runs of `kernel` cells, and the inner loop never tests for the sides of the map. On paths
// whose cells have the size of the packed bits, a cell is these bits. Without padding they are then used in place, at
// any address.
//
// The cells of zero padding hold 0 bits, which stand for -1. Their wrong contribution is known beforehand.
// The accumulator init, `base`, corrects it:
//
//     acc = base[border case][channel] - 2 * mismatches
//
// These files are compiled for processors that may not be the one at hand. They hold only plain functions with
// internal linkage. An inline function of the standard library, compiled here, could replace the same function
// elsewhere at link time, and the program would run instructions that its processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/unit.h"

namespace edgebnn {

// Border cases: the sides of the map that a window crosses. Bits 0 to 3: first row, last row, first column, last
// column.
constexpr std::size_t kBorderCases = 16;

// Constants of a unit, padded with zeros to whole blocks of channels.
struct Constants {
  const std::uint8_t* weight;     // as `pack_weights` of the path wrote it
  const std::int32_t* base;       // (kBorderCases, padded_outputs)
  // Behind `base`: the same for a loop that skips the rows of a window outside the map. Null without zero padding, and
  // on paths that skip no rows.
  const std::int32_t* inner_base;
  const float* scale;             // (padded_outputs)
  const float* bias;              // (padded_outputs)
  const float* slope;             // (padded_outputs)
  const float* next_threshold;    // (padded_outputs), or null
  std::size_t padded_outputs;
};

// Pixels of one job, few enough for the caches: half of a 14x14 map. Where averages are computed, a job is some pairs
// of rows instead.
constexpr std::size_t kTaskPixels = 98;

// A part of one image's convolution: some output pixels, row by row, by some blocks of channels.
struct Job {
  UnitShape shape;
  Constants constants;
  const std::uint8_t* cells;  // (height + 2 * border, width + 2 * border + seam) cells
  std::size_t cell_bytes;
  std::size_t row_bytes;  // of a row of cells
  const float* x;         // (height, width, inputs); pooled: (out_height, out_width, inputs)
  std::size_t height, width;
  std::size_t out_height, out_width;
  float* y;                 // (out_height, out_width, outputs), or null
  float* pooled;            // (out_height / 2, out_width / 2, outputs), or null
  std::uint8_t* next_bits;  // (out_height, out_width, ceil(outputs / 8)), or null
  std::size_t first_pixel, last_pixel;  // with `pooled`, of pairs of rows
  std::size_t first_block, last_block;
};

// One row of the output of an image convolution.
struct ImageRow {
  const float* weight;          // (blocks, taps, block), taps by channel, row and column; zeros after the last channel
  const float* bias;            // (blocks * block)
  const float* next_threshold;  // (blocks * block), or null
  std::size_t channels, outputs, stride;
  const float* image = nullptr;  // the first value of the row's first window, padding included
  std::size_t line = 0;          // distance from a row of the image to the next
  std::size_t plane = 0;         // distance from a channel of the image to the next
  std::size_t pixels = 0;
  float* y = nullptr;                 // (pixels, outputs)
  std::uint8_t* next_bits = nullptr;  // (pixels, ceil(outputs / 8)), or null
};

struct Path {
  std::size_t (*block)(std::size_t outputs);  // channels computed together, a multiple of 8
  // Writes cells from packed bits as in unit.h; not needed where both have one size. `partners` are the bits at the
  // same place in the window of the next output pixel.
  std::size_t (*cell_bytes)(const UnitShape& shape);
  void (*to_cells)(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels,
                   std::uint8_t* cells);
  // How many cells to append to a row: the window of its last output pixel, whose partner is the first pixel of the
  // next row.
  std::size_t (*seam)(const UnitShape& shape, std::size_t out_width);
  void (*compare)(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits);
  // Packs weights as in unit.h into the path's own order, of `weight_bytes` bytes.
  std::size_t (*weight_bytes)(const UnitShape& shape);
  void (*pack_weights)(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed);
  void (*convolve)(const Job& job);
  bool wants_inner_base;
  std::size_t image_block;  // output channels of an image convolution computed together, a multiple of 8
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
