// The output transform, from accumulators to outputs, averages and bits: one channel at a time, and the parts that
// vectors of every path share. Included in each path's file, in its unnamed namespace (see path.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "generic/pixel_iterator.h"

namespace edgebnn {
namespace {

// Transforms one channel of one pixel.
EDGEBNN_INLINE void transform_channel(const ConvTask& task, const Pixel& pixel, std::size_t channel,
                                      std::int32_t mismatches) {
  const Constants& constants = task.constants;
  const std::size_t inputs = static_cast<std::size_t>(task.shape.inputs);
  const std::size_t source = task.shape.shortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
  const float acc = static_cast<float>(pixel.acc_init[channel] - 2 * mismatches);
  float z = acc * constants.scale[channel] + constants.bias[channel];
  if (task.shape.shortcut == Shortcut::kPool) {
    const float *x = pixel.x + source, *below = x + task.width * inputs;
    z += (((x[0] + x[inputs]) + below[0]) + below[inputs]) * 0.25f;
  } else if (task.shape.shortcut != Shortcut::kNone) {
    z += pixel.x[source];
  }
  const float y = z >= 0.0f ? z : constants.slope[channel] * z;
  if (task.y) pixel.y(task)[channel] = y;
  if (pixel.corner != Corner::kNone) {
    float& sum = pixel.pooled(task)[channel];
    sum = pixel.corner == Corner::kFirst ? y : sum + y;
    if (pixel.corner == Corner::kLast) sum *= 0.25f;
  }
  if (task.next_bits && y >= constants.next_threshold[channel]) {
    pixel.next_bits(task)[channel / 8] |= static_cast<std::uint8_t>(1u << (channel % 8));
  }
}

// Transforms `count` channels of one pixel without vectors, such as the remainder that fills no vector. `first` is a
// multiple of 8.
inline void transform_output_scalar(const ConvTask& task, const Pixel& pixel, std::size_t first, std::size_t count,
                                    const std::int32_t* mismatches) {
  if (task.next_bits) {
    std::memset(pixel.next_bits(task) + first / 8, 0, rounded_up(count, 8) / 8);
  }
  for (std::size_t i = 0; i < count; ++i) {
    transform_channel(task, pixel, first + i, mismatches[i]);
  }
}

// Returns whether a whole block from `first` on can be computed in vectors of `lanes` channels: the block has all its
// channels, and each vector reads neighbouring channels of the shortcut.
EDGEBNN_INLINE bool vectorizable(const ConvTask& task, std::size_t first, std::size_t block, std::size_t lanes) {
  const std::size_t inputs = static_cast<std::size_t>(task.shape.inputs);
  return first + block <= static_cast<std::size_t>(task.shape.outputs) &&
         (task.shape.shortcut != Shortcut::kRepeat || inputs % lanes == 0);
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

// Adds the outputs y of one pixel to the average of its square.
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
