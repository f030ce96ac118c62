// Iterates over the output pixels of a task. Included in each path's file, in its unnamed namespace (see path.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/path.h"
#include "generic/basics.h"

namespace edgebnn {
namespace {

// The position of an output pixel in its square: the 2x2 pixels that are averaged, in the order of iteration. kNone if
// no averages are computed.
enum class Corner : std::uint32_t { kNone, kFirst, kMiddle, kLast };

// An output pixel.
struct Pixel {
  const std::uint8_t* window;    // the packed activations of its window
  const std::int32_t* acc_init;  // of its padding case
  const float* x;                // its (top left) pixel of the shortcut
  std::size_t number;            // its index among the image's output pixels
  Corner corner;
  std::uint32_t square;  // the index of its square, unless corner is kNone

  // Where its outputs are stored, or null.
  float* y(const ConvTask& task) const {
    return task.y ? task.y + number * static_cast<std::size_t>(task.shape.outputs) : nullptr;
  }
  float* pooled(const ConvTask& task) const {
    return corner == Corner::kNone ? nullptr : task.pooled + square * static_cast<std::size_t>(task.shape.outputs);
  }
  std::uint8_t* next_bits(const ConvTask& task) const {
    return task.next_bits ? task.next_bits + number * ((static_cast<std::size_t>(task.shape.outputs) + 7) / 8)
                          : nullptr;
  }
  // Where its floats are stored, to be prefetched.
  float* written(const ConvTask& task) const { return task.y ? y(task) : pooled(task); }
};

class PixelIterator {
 public:
  explicit PixelIterator(const ConvTask& task)
      : task_(&task),
        row_(task.first_pixel / task.out_width),
        column_(task.first_pixel % task.out_width),
        number_(task.first_pixel) {
    const std::size_t stride = static_cast<std::size_t>(task.shape.stride);
    const bool x_is_pooled = task.shape.shortcut == Shortcut::kPooled;
    window_step_ = stride * task.pixel_bytes;
    x_step_ = (x_is_pooled ? 1 : stride) * static_cast<std::size_t>(task.shape.inputs);
    x_row_ = x_step_ * (x_is_pooled ? task.out_width : task.width);
    zero_padded_ = task.shape.kernel == 3 && task.shape.padding == Padding::kZero;
    // With stride 2 the width is even, and the last window does not cross the right side.
    right_ = zero_padded_ && stride == 1 ? task.out_width - 1 : task.out_width;
    start_row(row_);
  }

  // Whether the next pixel is the first of its row.
  bool at_row_start() const { return column_ == 0; }

  // Returns the next pixel.
  EDGEBNN_INLINE Pixel next() {
    Pixel pixel{window_, acc_init(column_), x_, number_, Corner::kNone, 0};
    place(pixel, column_);
    step(1);
    return pixel;
  }

  // Writes the next `count` pixels, a row at a time. This takes half as long as `next` for each.
  void take(Pixel* pixels, std::size_t count) {
    while (count) {
      const std::size_t left = task_->out_width - column_, run = count < left ? count : left;
      const std::int32_t* inner_init = inner_acc_init();
      for (std::size_t i = 0; i < run; ++i) pixels[i] = at(i, inner_init, Corner::kNone, 0);
      pixels[0].acc_init = acc_init(column_);
      pixels[run - 1].acc_init = acc_init(column_ + run - 1);
      for (std::size_t i = 0; task_->pooled && i < run; ++i) place(pixels[i], column_ + i);
      step(run);
      pixels += run;
      count -= run;
    }
  }

  // Writes the pixels of the next `count` squares, one square after the other. Only if averages are computed.
  void take_squares(Pixel* pixels, std::size_t count) {
    while (count) {
      const std::size_t left = (task_->out_width - column_) / 2, run = count < left ? count : left;
      PixelIterator below = *this;
      below.start_row(row_ + 1);
      below.number_ += task_->out_width;
      const std::size_t square = row_ / 2 * (task_->out_width / 2) + column_ / 2;
      const std::int32_t *upper = inner_acc_init(), *lower = below.inner_acc_init();
      for (std::size_t i = 0; i < run; ++i) {
        const std::uint32_t number = static_cast<std::uint32_t>(square + i);
        pixels[4 * i] = at(2 * i, upper, Corner::kFirst, number);
        pixels[4 * i + 1] = at(2 * i + 1, upper, Corner::kMiddle, number);
        pixels[4 * i + 2] = below.at(2 * i, lower, Corner::kMiddle, number);
        pixels[4 * i + 3] = below.at(2 * i + 1, lower, Corner::kLast, number);
      }
      pixels[0].acc_init = acc_init(column_);
      pixels[2].acc_init = below.acc_init(column_);
      pixels[4 * run - 3].acc_init = acc_init(column_ + 2 * run - 1);
      pixels[4 * run - 1].acc_init = below.acc_init(column_ + 2 * run - 1);
      step(2 * run);
      if (column_ == 0) step(task_->out_width);
      pixels += 4 * run;
      count -= run;
    }
  }

 private:
  // The accumulator init of a pixel in this row whose window crosses neither the left nor the right side.
  EDGEBNN_INLINE const std::int32_t* inner_acc_init() const {
    return task_->constants.acc_init + row_case_ * task_->constants.padded_outputs;
  }

  // The accumulator init of a pixel in this row.
  EDGEBNN_INLINE const std::int32_t* acc_init(std::size_t column) const {
    const std::size_t padding_case =
        row_case_ | (zero_padded_ && column == 0 ? kCrossesLeft : 0) | (column == right_ ? kCrossesRight : 0);
    return task_->constants.acc_init + padding_case * task_->constants.padded_outputs;
  }

  // Sets the square and the corner of a pixel in this row.
  EDGEBNN_INLINE void place(Pixel& pixel, std::size_t column) const {
    if (!task_->pooled) return;
    const std::size_t corner = row_ % 2 * 2 + column % 2;
    pixel.corner = corner == 0 ? Corner::kFirst : corner == 3 ? Corner::kLast : Corner::kMiddle;
    pixel.square = static_cast<std::uint32_t>(row_ / 2 * (task_->out_width / 2) + column / 2);
  }

  // Returns the pixel `columns` to the right.
  EDGEBNN_INLINE Pixel at(std::size_t columns, const std::int32_t* acc_init, Corner corner,
                          std::uint32_t square) const {
    return {window_ + columns * window_step_, acc_init, x_ + columns * x_step_, number_ + columns, corner, square};
  }

  EDGEBNN_INLINE void step(std::size_t pixels) {
    window_ += pixels * window_step_;
    x_ += pixels * x_step_;
    number_ += pixels;
    column_ += pixels;
    if (column_ < task_->out_width) return;
    column_ = 0;
    start_row(row_ + 1);
  }

  EDGEBNN_INLINE void start_row(std::size_t row) {
    row_ = row;
    const std::size_t top = row_ * static_cast<std::size_t>(task_->shape.stride);
    window_ = task_->activations + top * task_->row_bytes + column_ * window_step_;
    x_ = task_->x + row_ * x_row_ + column_ * x_step_;
    row_case_ = zero_padded_ ? (row_ == 0 ? kCrossesTop : 0) | (top + 1 >= task_->height ? kCrossesBottom : 0) : 0;
  }

  const ConvTask* task_;  // a pointer, because iterators are assigned
  std::size_t row_, column_, number_;
  std::size_t window_step_, x_step_, x_row_, right_, row_case_ = 0;
  bool zero_padded_ = false;
  const std::uint8_t* window_ = nullptr;
  const float* x_ = nullptr;
};

}  // namespace
}  // namespace edgebnn
