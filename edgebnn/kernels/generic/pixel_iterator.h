// Code that every path uses around its inner loop: walking the pixels of a job, and the output transform of a channel.
// Included in each path's file, in its unnamed namespace (see path.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/path.h"

#define EDGEBNN_INLINE __attribute__((always_inline)) inline  // GCC and Clang

namespace edgebnn {
namespace {

// The position of a pixel in its 2x2 square, in the order of walking. kNone where no averages are computed.
enum class Corner : std::uint32_t { kNone, kFirst, kMiddle, kLast };

// An output pixel.
struct Pixel {
  const std::uint8_t* window;  // first cell
  const std::int32_t* base;    // of its border case
  const float* x;              // its (top left) pixel of the shortcut
  std::size_t number;          // among the image's output pixels
  Corner corner;
  std::uint32_t square;        // of the pixel, if it has a corner

  // The places of its outputs, or null.
  float* y(const Job& job) const {
    return job.y ? job.y + number * static_cast<std::size_t>(job.shape.outputs) : nullptr;
  }
  float* pooled(const Job& job) const {
    return corner == Corner::kNone ? nullptr : job.pooled + square * static_cast<std::size_t>(job.shape.outputs);
  }
  std::uint8_t* next_bits(const Job& job) const {
    return job.next_bits ? job.next_bits + number * ((static_cast<std::size_t>(job.shape.outputs) + 7) / 8) : nullptr;
  }
  // The place that will be written, to be prefetched.
  float* written(const Job& job) const { return job.y ? y(job) : pooled(job); }
};

// f(0), f(1), ... with constants, so that arrays indexed by them stay in registers.
template <int N>
struct Int {
  static constexpr int value = N;
  constexpr operator int() const { return N; }
};
template <int kCount, int kFirst = 0, class F>
EDGEBNN_INLINE void repeat(F&& f) {
  if constexpr (kFirst < kCount) {
    f(Int<kFirst>());
    repeat<kCount, kFirst + 1>(f);
  }
}

EDGEBNN_INLINE std::size_t rounded_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Walks the job's pixels; `next` returns one and steps on.
class Walk {
 public:
  explicit Walk(const Job& job)
      : job_(&job),
        row_(job.first_pixel / job.out_width),
        column_(job.first_pixel % job.out_width),
        number_(job.first_pixel) {
    const std::size_t stride = static_cast<std::size_t>(job.shape.stride);
    const bool given_pooled = job.shape.shortcut == Shortcut::kPooled;
    window_step_ = stride * job.cell_bytes;
    x_step_ = (given_pooled ? 1 : stride) * static_cast<std::size_t>(job.shape.inputs);
    x_row_ = x_step_ * (given_pooled ? job.out_width : job.width);
    bordered_ = job.shape.kernel == 3 && job.shape.padding == Padding::kZero;
    // With stride 2 sides are even, and the last window ends inside.
    right_ = bordered_ && stride == 1 ? job.out_width - 1 : job.out_width;
    start_row(row_);
  }

  // Whether the next pixel is the first of its row.
  bool at_row_start() const { return column_ == 0; }

  EDGEBNN_INLINE Pixel next() {
    Pixel pixel{window_, base(column_), x_, number_, Corner::kNone, 0};
    place(pixel, column_);
    step(1);
    return pixel;
  }

  // Takes the next `count` pixels, a row at a time. It takes half as long as one by one.
  void take(Pixel* pixels, std::size_t count) {
    while (count) {
      const std::size_t left = job_->out_width - column_, run = count < left ? count : left;
      const std::int32_t* not_at_side = inside();
      for (std::size_t i = 0; i < run; ++i) pixels[i] = at(i, not_at_side, Corner::kNone, 0);
      pixels[0].base = base(column_);
      pixels[run - 1].base = base(column_ + run - 1);
      for (std::size_t i = 0; job_->pooled && i < run; ++i) place(pixels[i], column_ + i);
      step(run);
      pixels += run;
      count -= run;
    }
  }

  // Takes the pixels of the next `count` squares, one square after the other. Only where averages are computed.
  void take_squares(Pixel* pixels, std::size_t count) {
    while (count) {
      const std::size_t left = (job_->out_width - column_) / 2, run = count < left ? count : left;
      Walk below = *this;
      below.start_row(row_ + 1);
      below.number_ += job_->out_width;
      const std::size_t square = row_ / 2 * (job_->out_width / 2) + column_ / 2;
      const std::int32_t *upper = inside(), *lower = below.inside();
      for (std::size_t i = 0; i < run; ++i) {
        const std::uint32_t number = static_cast<std::uint32_t>(square + i);
        pixels[4 * i] = at(2 * i, upper, Corner::kFirst, number);
        pixels[4 * i + 1] = at(2 * i + 1, upper, Corner::kMiddle, number);
        pixels[4 * i + 2] = below.at(2 * i, lower, Corner::kMiddle, number);
        pixels[4 * i + 3] = below.at(2 * i + 1, lower, Corner::kLast, number);
      }
      pixels[0].base = base(column_);
      pixels[2].base = below.base(column_);
      pixels[4 * run - 3].base = base(column_ + 2 * run - 1);
      pixels[4 * run - 1].base = below.base(column_ + 2 * run - 1);
      step(2 * run);
      if (column_ == 0) step(job_->out_width);
      pixels += 4 * run;
      count -= run;
    }
  }

 private:
  // The accumulator init of a pixel in this row whose window crosses neither the left nor the right side.
  EDGEBNN_INLINE const std::int32_t* inside() const {
    return job_->constants.base + row_case_ * job_->constants.padded_outputs;
  }

  // The accumulator init of a pixel in this row.
  EDGEBNN_INLINE const std::int32_t* base(std::size_t column) const {
    const std::size_t border_case = row_case_ | (bordered_ && column == 0 ? 4u : 0u) | (column == right_ ? 8u : 0u);
    return job_->constants.base + border_case * job_->constants.padded_outputs;
  }

  // Sets the square, and the position in it, of a pixel of this row.
  EDGEBNN_INLINE void place(Pixel& pixel, std::size_t column) const {
    if (!job_->pooled) return;
    const std::size_t corner = row_ % 2 * 2 + column % 2;
    pixel.corner = corner == 0 ? Corner::kFirst : corner == 3 ? Corner::kLast : Corner::kMiddle;
    pixel.square = static_cast<std::uint32_t>(row_ / 2 * (job_->out_width / 2) + column / 2);
  }

  // The pixel so many columns on.
  EDGEBNN_INLINE Pixel at(std::size_t columns, const std::int32_t* base, Corner corner, std::uint32_t square) const {
    return {window_ + columns * window_step_, base, x_ + columns * x_step_, number_ + columns, corner, square};
  }

  EDGEBNN_INLINE void step(std::size_t pixels) {
    window_ += pixels * window_step_;
    x_ += pixels * x_step_;
    number_ += pixels;
    column_ += pixels;
    if (column_ < job_->out_width) return;
    column_ = 0;
    start_row(row_ + 1);
  }

  EDGEBNN_INLINE void start_row(std::size_t row) {
    row_ = row;
    const std::size_t top = row_ * static_cast<std::size_t>(job_->shape.stride);
    window_ = job_->cells + top * job_->row_bytes + column_ * window_step_;
    x_ = job_->x + row_ * x_row_ + column_ * x_step_;
    row_case_ = bordered_ ? (row_ == 0 ? 1u : 0u) | (top + 1 >= job_->height ? 2u : 0u) : 0u;
  }

  const Job* job_;  // not a reference: a walk may be copied and put back
  std::size_t row_, column_, number_;
  std::size_t window_step_, x_step_, x_row_, right_, row_case_ = 0;
  bool bordered_ = false;
  const std::uint8_t* window_ = nullptr;
  const float* x_ = nullptr;
};

// The output transform of one channel of one pixel, without vectors: for channels that do not fill a vector.
EDGEBNN_INLINE void finish_channel(const Job& job, const Pixel& pixel, std::size_t channel, std::int32_t mismatches) {
  const Constants& constants = job.constants;
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs);
  const std::size_t source = job.shape.shortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
  const float acc = static_cast<float>(pixel.base[channel] - 2 * mismatches);
  float z = acc * constants.scale[channel] + constants.bias[channel];
  if (job.shape.shortcut == Shortcut::kPool) {
    const float *x = pixel.x + source, *below = x + job.width * inputs;
    z += (((x[0] + x[inputs]) + below[0]) + below[inputs]) * 0.25f;
  } else if (job.shape.shortcut != Shortcut::kNone) {
    z += pixel.x[source];
  }
  const float y = z >= 0.0f ? z : constants.slope[channel] * z;
  if (job.y) pixel.y(job)[channel] = y;
  if (pixel.corner != Corner::kNone) {
    float& sum = pixel.pooled(job)[channel];
    sum = pixel.corner == Corner::kFirst ? y : sum + y;
    if (pixel.corner == Corner::kLast) sum *= 0.25f;
  }
  if (job.next_bits && y >= constants.next_threshold[channel]) {
    pixel.next_bits(job)[channel / 8] |= static_cast<std::uint8_t>(1u << (channel % 8));
  }
}

// The output transform of `count` channels of one pixel. `first` is a multiple of 8.
inline void finish_plainly(const Job& job, const Pixel& pixel, std::size_t first, std::size_t count,
                           const std::int32_t* mismatches) {
  if (job.next_bits) {
    std::memset(pixel.next_bits(job) + first / 8, 0, rounded_up(count, 8) / 8);
  }
  for (std::size_t i = 0; i < count; ++i) {
    finish_channel(job, pixel, first + i, mismatches[i]);
  }
}

// Whether a whole block from `first` on can be computed in vectors of `lanes` channels: the block has all its channels,
// and each vector reads neighbouring channels of the shortcut.
EDGEBNN_INLINE bool vectorizable(const Job& job, std::size_t first, std::size_t block, std::size_t lanes) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs);
  return first + block <= static_cast<std::size_t>(job.shape.outputs) &&
         (job.shape.shortcut != Shortcut::kRepeat || inputs % lanes == 0);
}

// Returns z plus the shortcut of V::kLanes channels, the first of which is at x. A pixel of x has `inputs` floats, and
// a row has `row`.
template <class V, Shortcut kShortcut>
EDGEBNN_INLINE typename V::Floats add_shortcut(typename V::Floats z, const float* x, std::size_t inputs,
                                               std::size_t row) {
  if constexpr (kShortcut == Shortcut::kNone) {
    return z;
  } else if constexpr (kShortcut == Shortcut::kPool) {
    const typename V::Floats upper = V::add(V::load(x), V::load(x + inputs));
    const typename V::Floats total = V::add(V::add(upper, V::load(x + row)), V::load(x + row + inputs));
    return V::add(z, V::multiply(total, V::all(0.25f)));
  } else {
    return V::add(z, V::load(x));
  }
}

// Adds outputs to the average of their square.
template <class V>
EDGEBNN_INLINE void pool(float* sum, Corner corner, typename V::Floats y) {
  if (corner != Corner::kFirst) y = V::add(V::load(sum), y);
  if (corner == Corner::kLast) y = V::multiply(y, V::all(0.25f));
  V::store(sum, y);
}

// Calls f with the shortcut as a compile-time constant, `value` of its argument. A pooled input is added like an
// identity.
template <Shortcut kShortcut>
struct ShortcutConstant {
  static constexpr Shortcut value = kShortcut;
};
template <class F>
void with_shortcut(Shortcut shortcut, F&& f) {
  switch (shortcut) {
    case Shortcut::kIdentity:
    case Shortcut::kPooled: return f(ShortcutConstant<Shortcut::kIdentity>());
    case Shortcut::kPool: return f(ShortcutConstant<Shortcut::kPool>());
    case Shortcut::kRepeat: return f(ShortcutConstant<Shortcut::kRepeat>());
    case Shortcut::kNone: return f(ShortcutConstant<Shortcut::kNone>());
  }
}

}  // namespace
}  // namespace edgebnn
