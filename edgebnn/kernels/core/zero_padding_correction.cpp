#include "core/zero_padding_correction.h"

#include <algorithm>
#include <cstring>

#include "core/path.h"

namespace edgebnn {
namespace {

constexpr std::size_t kMostTaps = 9;

std::int32_t count_ones(const std::uint8_t* bits, std::size_t bytes) {
  std::int32_t count = 0;
  for (; bytes >= 8; bytes -= 8, bits += 8) {
    std::uint64_t word;
    std::memcpy(&word, bits, sizeof word);
    count += __builtin_popcountll(word);
  }
  for (; bytes; --bytes, ++bits) count += __builtin_popcount(*bits);
  return count;
}

// Whether row or column `position` of a 3x3 kernel lies in the padding. `before`, `after`: whether the window crosses
// the side before the first, and after the last, row or column of the map.
bool outside(std::size_t position, std::size_t before, std::size_t after) {
  return (position == 0 && before) || (position == 2 && after);
}

}  // namespace

void compute_acc_init(const UnitShape& shape, const std::uint8_t* weight, PaddingRows rows, std::size_t padded_outputs,
                      std::int32_t* acc_init) {
  const std::size_t kernel = static_cast<std::size_t>(shape.kernel), taps = kernel * kernel;
  const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
  const std::size_t tap_bytes = (static_cast<std::size_t>(shape.inputs) + 7) / 8;
  const std::int32_t all_match = static_cast<std::int32_t>(taps) * shape.inputs;
  const bool corrects = kernel == 3 && shape.padding == Padding::kZero;
  std::fill(acc_init, acc_init + kPaddingCases * padded_outputs, 0);
  for (std::size_t o = 0; o < outputs; ++o) {
    std::int32_t contribution[kMostTaps];  // of each tap, if it lies in the padding
    for (std::size_t tap = 0; tap < taps; ++tap) {
      contribution[tap] = shape.inputs - 2 * count_ones(weight + (o * taps + tap) * tap_bytes, tap_bytes);
    }
    for (std::size_t padding_case = 0; padding_case < kPaddingCases; ++padding_case) {
      std::int32_t init = all_match;
      for (std::size_t tap = 0; corrects && tap < taps; ++tap) {
        const bool row_outside = outside(tap / kernel, padding_case & kCrossesTop, padding_case & kCrossesBottom);
        const bool column_outside = outside(tap % kernel, padding_case & kCrossesLeft, padding_case & kCrossesRight);
        if (row_outside && rows == PaddingRows::kSkipped) {
          init -= shape.inputs;
        } else if (row_outside || column_outside) {
          init -= contribution[tap];
        }
      }
      acc_init[padding_case * padded_outputs + o] = init;
    }
  }
}

}  // namespace edgebnn
