// What every path does around its inner loop: walk the pixels of a job in tiles, and finish a channel.
// Included inside a path's file, in its unnamed namespace (see path.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "path.h"

#define EDGEBNN_INLINE __attribute__((always_inline)) inline  // GCC and Clang

namespace edgebnn {
namespace {

// Where an output pixel reads and writes.
struct Pixel {
  const std::uint8_t* window;  // first cell
  const std::int32_t* base;    // of its border case
  const float* x;              // its (top left) pixel of the shortcut
  float* y;
  std::uint8_t* next_bits;
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
      : job_(job), row_(job.first_pixel / job.out_width), column_(job.first_pixel % job.out_width) {
    const std::size_t stride = static_cast<std::size_t>(job.shape.stride);
    bits_bytes_ = rounded_up(static_cast<std::size_t>(job.shape.outputs), 8) / 8;
    window_step_ = stride * job.cell_bytes;
    x_step_ = stride * static_cast<std::size_t>(job.shape.inputs);
    y_ = job.y + job.first_pixel * static_cast<std::size_t>(job.shape.outputs);
    next_bits_ = job.next_bits ? job.next_bits + job.first_pixel * bits_bytes_ : nullptr;
    bordered_ = job.shape.kernel == 3 && job.shape.padding == Padding::kZero;
    start_row();
  }

  // Whether the next pixel is the first of its row.
  bool at_row_start() const { return column_ == 0; }

  EDGEBNN_INLINE Pixel next() {
    std::size_t border_case = row_case_;
    if (bordered_) {
      border_case |= column_ == 0 ? 4u : 0u;
      border_case |= column_ * static_cast<std::size_t>(job_.shape.stride) + 1 >= job_.width ? 8u : 0u;
    }
    const Pixel pixel{window_, job_.constants.base + border_case * job_.constants.padded_outputs, x_, y_, next_bits_};
    window_ += window_step_;
    x_ += x_step_;
    y_ += job_.shape.outputs;
    next_bits_ += next_bits_ ? bits_bytes_ : 0;
    if (++column_ == job_.out_width) {
      column_ = 0;
      ++row_;
      start_row();
    }
    return pixel;
  }

 private:
  EDGEBNN_INLINE void start_row() {
    const std::size_t top = row_ * static_cast<std::size_t>(job_.shape.stride);
    window_ = job_.cells + top * job_.row_bytes + column_ * window_step_;
    x_ = job_.x + top * job_.width * static_cast<std::size_t>(job_.shape.inputs) + column_ * x_step_;
    row_case_ = bordered_ ? (row_ == 0 ? 1u : 0u) | (top + 1 >= job_.height ? 2u : 0u) : 0u;
  }

  const Job& job_;
  std::size_t row_, column_;
  std::size_t bits_bytes_, window_step_, x_step_, row_case_ = 0;
  bool bordered_ = false;
  const std::uint8_t* window_ = nullptr;
  const float* x_ = nullptr;
  float* y_ = nullptr;
  std::uint8_t* next_bits_ = nullptr;
};

// One channel of one pixel, plainly: for channels that fill no vector.
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
  pixel.y[channel] = y;
  if (pixel.next_bits && y >= constants.next_threshold[channel]) {
    pixel.next_bits[channel / 8] |= static_cast<std::uint8_t>(1u << (channel % 8));
  }
}

// `count` channels of one pixel from `first` on, which is a multiple of 8.
inline void finish_plainly(const Job& job, const Pixel& pixel, std::size_t first, std::size_t count,
                           const std::int32_t* mismatches) {
  if (pixel.next_bits) {
    std::memset(pixel.next_bits + first / 8, 0, rounded_up(count, 8) / 8);
  }
  for (std::size_t i = 0; i < count; ++i) {
    finish_channel(job, pixel, first + i, mismatches[i]);
  }
}

// Whether the vectors of `lanes` channels of a whole block from `first` on lie side by side in the shortcut too.
EDGEBNN_INLINE bool vectorizable(const Job& job, std::size_t first, std::size_t block, std::size_t lanes) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs);
  return first + block <= static_cast<std::size_t>(job.shape.outputs) &&
         (job.shape.shortcut != Shortcut::kRepeat || inputs % lanes == 0);
}

// y of V::kLanes channels of one pixel, at which all pointers begin. A pixel of x has `inputs` floats, a row `row`.
template <class V, Shortcut kShortcut>
EDGEBNN_INLINE typename V::Floats outputs_of(typename V::Ints twice_mismatches, const std::int32_t* base,
                                             const float* scale, const float* bias, const float* slope, const float* x,
                                             std::size_t inputs, std::size_t row) {
  typename V::Floats z = V::accumulator(base, twice_mismatches);
  z = V::add(V::multiply(z, V::load(scale)), V::load(bias));
  if constexpr (kShortcut != Shortcut::kNone) {
    typename V::Floats shortcut = V::load(x);
    if constexpr (kShortcut == Shortcut::kPool) {
      shortcut = V::add(V::add(V::add(shortcut, V::load(x + inputs)), V::load(x + row)), V::load(x + row + inputs));
      shortcut = V::multiply(shortcut, V::all(0.25f));
    }
    z = V::add(z, shortcut);
  }
  return V::prelu(z, V::load(slope));
}

// The same of a unit, stored. `source` is where the channels begin in the shortcut.
template <class V, Shortcut kShortcut>
EDGEBNN_INLINE typename V::Floats finish_vector(const Constants& constants, const Pixel& pixel, std::size_t channel,
                                                std::size_t source, std::size_t inputs, std::size_t row,
                                                typename V::Ints twice_mismatches) {
  const typename V::Floats y = outputs_of<V, kShortcut>(
      twice_mismatches, pixel.base + channel, constants.scale + channel, constants.bias + channel,
      constants.slope + channel, pixel.x + source, inputs, row);
  V::store(pixel.y + channel, y);
  return y;
}

// The pixels of one block in tiles of kPixels, then of half as many, down to single ones.
// Tile::run<kPixels, kShortcut>(job, pixels, block) computes one.
template <class Tile, Shortcut kShortcut, int kPixels>
EDGEBNN_INLINE void convolve_block(const Job& job, std::size_t block, Walk& walk, std::size_t& left) {
  for (; left >= kPixels; left -= kPixels) {
    Pixel pixels[kPixels];
    for (Pixel& pixel : pixels) pixel = walk.next();
    Tile::template run<kPixels, kShortcut>(job, pixels, block);
  }
  if constexpr (kPixels > 1) convolve_block<Tile, kShortcut, kPixels / 2>(job, block, walk, left);
}

template <class Tile, Shortcut kShortcut>
void convolve_blocks(const Job& job) {
  for (std::size_t block = job.first_block; block < job.last_block; ++block) {
    Walk walk(job);
    std::size_t left = job.last_pixel - job.first_pixel;
    convolve_block<Tile, kShortcut, Tile::kMostPixels>(job, block, walk, left);
  }
}

// f with the shortcut as a constant, `value` of its argument.
template <Shortcut kShortcut>
struct ShortcutConstant {
  static constexpr Shortcut value = kShortcut;
};
template <class F>
void with_shortcut(Shortcut shortcut, F&& f) {
  switch (shortcut) {
    case Shortcut::kIdentity: return f(ShortcutConstant<Shortcut::kIdentity>());
    case Shortcut::kPool: return f(ShortcutConstant<Shortcut::kPool>());
    case Shortcut::kRepeat: return f(ShortcutConstant<Shortcut::kRepeat>());
    case Shortcut::kNone: return f(ShortcutConstant<Shortcut::kNone>());
  }
}

template <class Tile>
void convolve_with(const Job& job) {
  with_shortcut(job.shape.shortcut, [&](auto shortcut) { convolve_blocks<Tile, shortcut.value>(job); });
}

}  // namespace
}  // namespace edgebnn
