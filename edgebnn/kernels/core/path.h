// What an instruction set's file gives: how it lays out bits and weights, and how it convolves with them.
//
// Activations are unpacked into cells, one a pixel, with the padding written out, so that the window of an
// output pixel is `kernel` runs of `kernel` cells, and no loop asks where the border is. Cells as large as packed
// bits are these bits; without a border they stay where a caller gave them, at any address. A padded cell holds
// no +1 for zero padding; what it adds to the mismatches of a channel is known beforehand and lies in `base`:
//
//     acc = base[border case][channel] - 2 * mismatches
//
// These files are compiled for processors that may not be the one at hand. They hold nothing but plain
// functions with internal linkage: an inline function of the standard library, compiled here, could replace
// its twin elsewhere at link time and carry the instructions along.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/unit.h"

namespace edgebnn {

// Border cases: bit 0 and 1 say that the window reaches beyond the first, the last row; 2 and 3 the columns.
constexpr std::size_t kBorderCases = 16;

// Constants of a unit, padded with zeros to whole blocks of channels.
struct Constants {
  const std::uint8_t* weight;     // as `pack_weights` of the path wrote it
  const std::int32_t* base;       // (kBorderCases, padded_outputs)
  // The same, behind it, for who does not count those rows of the window that lie beyond the border; null where there
  // is no border, and for paths that have no use for it.
  const std::int32_t* inner_base;
  const float* scale;             // (padded_outputs)
  const float* bias;              // (padded_outputs)
  const float* slope;             // (padded_outputs)
  const float* next_threshold;    // (padded_outputs), or null
  std::size_t padded_outputs;
};

// Pixels that are counted together: few enough for the caches, half of a 14x14 map. A job has as many, or some pairs of
// rows where averages are wanted.
constexpr std::size_t kTaskPixels = 98;

// Some output pixels, counted row by row, and some blocks of channels of one image.
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
  const float* image = nullptr;  // the first value that the row sees, of an image with its border
  std::size_t line = 0;          // from a row of the image to the next
  std::size_t plane = 0;         // from a channel of the image to the next
  std::size_t pixels = 0;
  float* y = nullptr;                 // (pixels, outputs)
  std::uint8_t* next_bits = nullptr;  // (pixels, ceil(outputs / 8)), or null
};

struct Path {
  std::size_t (*block)(std::size_t outputs);  // channels computed together, a multiple of 8
  // Packed bits as in unit.h -> cells, unless the two are of one size. `partners` are the bits that the next output
  // pixel sees in these ones' place.
  std::size_t (*cell_bytes)(const UnitShape& shape);
  void (*to_cells)(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels,
                   std::uint8_t* cells);
  // Cells to append to a row: a window of its last output pixel whose partners belong to the first of the next row.
  std::size_t (*seam)(const UnitShape& shape, std::size_t out_width);
  void (*compare)(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits);
  // Weights as in unit.h -> the path's own order, of `weight_bytes` bytes.
  std::size_t (*weight_bytes)(const UnitShape& shape);
  void (*pack_weights)(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed);
  void (*convolve)(const Job& job);
  bool wants_inner_base;
  std::size_t image_block;  // output channels of an image convolution computed together, a multiple of 8
  void (*convolve_image)(const ImageRow& row);
  // XORs and counts `steps` times on registers; returns the binary multiply-accumulates done.
  std::uint64_t (*ceiling)(std::uint64_t steps);
};

// Null where the library was not built for it.
const Path* path(Isa isa);

const Path* scalar_path();
const Path* avx2_path();
const Path* avx512_path();
const Path* neon_path();

}  // namespace edgebnn
