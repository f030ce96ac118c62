// The plan of one run of a unit: sizes, strides in memory, and the division into tasks. It follows from the unit's
// shape, the path and the size of the input alone. A plan is made once per run and never changes. path_unit.cpp
// executes it.
#pragma once

#include <cstddef>

#include "core/path.h"
#include "core/unit.h"

namespace edgebnn {

// The properties of a run that a plan depends on.
struct UnitInput {
  std::size_t height = 0, width = 0;
  bool has_bits = false;       // the bits of x are passed in
  bool writes_pooled = false;  // the 2x2 average of y is computed
};

struct UnitPlan {
  // A range of numbers, `end` excluded.
  struct Range {
    std::size_t begin, end;
  };

  // The maps of pass 2. A 1x1 convolution of stride 1 sees an image as one row, unless 2x2 averages are computed.
  struct Maps {
    std::size_t height, width, out_height, out_width;
  };

  // The packed activations.
  struct Packed {
    std::size_t padding;      // pixels on each side of the map
    std::size_t bit_bytes;    // of a pixel's packed bits (unit.h)
    std::size_t pixel_bytes;  // of a pixel's packed activations
    std::size_t wrap_pixels;  // appended to each row (path.h)
    std::size_t row_bytes;    // of a row of pass 2
    std::size_t bytes;        // of all rows
    bool in_place;            // the bits that are passed in serve as packed activations: no pass 1

    bool equals_bits() const { return pixel_bytes == bit_bytes; }
  };

  // Pass 1, which writes the packed activations. A task is some rows of the image and its padding.
  struct Packing {
    std::size_t height, width;  // of the image
    std::size_t padded_width;
    bool one_row;           // pass 2 sees the image as one row
    std::size_t row_bytes;  // from a row to the next
    std::size_t rows, rows_per_task, tasks;

    Range task_rows(std::size_t task) const;
  };

  // Pass 2, which convolves. A task is some output pixels by some blocks of channels.
  struct Convolution {
    std::size_t pixels, pixels_per_task;
    std::size_t blocks, blocks_per_task;
    std::size_t block_ranges;  // tasks that share the same pixels
    std::size_t tasks;

    Range task_pixels(std::size_t task) const;
    Range task_blocks(std::size_t task) const;
  };

  Maps maps;
  Packed packed;
  Packing packing;
  Convolution convolution;
};

UnitPlan plan_unit(const UnitShape& shape, const Path& path, const UnitInput& input);

}  // namespace edgebnn
