// The accumulator init against sums over the taps inside the map, for every padding case.
#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "core/path.h"
#include "core/zero_padding_correction.h"

namespace {

using namespace edgebnn;

constexpr int kOutputs = 5, kPadded = 8;

bool row_inside(int tap, std::size_t sides) {
  return !(tap / 3 == 0 && (sides & kCrossesTop)) && !(tap / 3 == 2 && (sides & kCrossesBottom));
}

bool column_inside(int tap, std::size_t sides) {
  return !(tap % 3 == 0 && (sides & kCrossesLeft)) && !(tap % 3 == 2 && (sides & kCrossesRight));
}

int bit(const std::vector<std::uint8_t>& bits, std::size_t first, int channel) {
  return bits[first + static_cast<std::size_t>(channel / 8)] >> (channel % 8) & 1;
}

// Computes accumulators as a micro-kernel does, and as products of +1 and -1 over the taps inside the map.
void check_accumulators(int inputs, PaddingRows rows) {
  std::mt19937 random(static_cast<unsigned>(inputs));
  const UnitShape shape{inputs, kOutputs, 3, 1, Padding::kZero, Shortcut::kNone};
  const std::size_t bytes = static_cast<std::size_t>((inputs + 7) / 8);
  std::vector<std::uint8_t> weight(kOutputs * 9 * bytes), window(9 * bytes);
  for (auto* bits : {&weight, &window}) {
    for (std::size_t i = 0; i < bits->size(); ++i) {
      const unsigned tail = i % bytes == bytes - 1 && inputs % 8 ? (1u << inputs % 8) - 1 : 255u;
      (*bits)[i] = static_cast<std::uint8_t>(random() & tail);
    }
  }
  std::vector<std::int32_t> acc_init(kPaddingCases * kPadded, -1);
  compute_acc_init(shape, weight.data(), rows, kPadded, acc_init.data());
  for (std::size_t sides = 0; sides < kPaddingCases; ++sides) {
    for (std::size_t o = 0; o < kPadded; ++o) {
      const std::int32_t init = acc_init[sides * kPadded + o];
      if (o >= kOutputs) {
        CHECK_EQUAL(init, 0);
        continue;
      }
      int mismatches = 0, sum = 0;
      for (int tap = 0; tap < 9; ++tap) {
        const bool inside = row_inside(tap, sides) && column_inside(tap, sides);
        const bool counted = rows == PaddingRows::kCounted || row_inside(tap, sides);
        const std::size_t at = static_cast<std::size_t>(tap) * bytes;
        for (int c = 0; c < inputs; ++c) {
          const int w = bit(weight, o * 9 * bytes + at, c), a = inside ? bit(window, at, c) : 0;
          mismatches += counted && w != a;
          sum += inside ? (2 * w - 1) * (2 * a - 1) : 0;
        }
      }
      CHECK_EQUAL(init - 2 * mismatches, sum);
    }
  }
}

}  // namespace

TEST(zero_padding_adds_nothing_to_an_accumulator) {
  for (const int inputs : {1, 7, 8, 9, 64, 72, 129}) check_accumulators(inputs, PaddingRows::kCounted);
}

TEST(zero_padding_adds_nothing_if_its_rows_are_skipped) {
  for (const int inputs : {1, 7, 8, 9, 64, 72, 129}) check_accumulators(inputs, PaddingRows::kSkipped);
}

TEST(other_units_are_not_corrected) {
  const std::vector<std::uint8_t> weight(kOutputs * 9, 0x5);
  for (const int kernel : {1, 3}) {
    const UnitShape shape{3, kOutputs, kernel, 1, kernel == 3 ? Padding::kOne : Padding::kZero, Shortcut::kNone};
    std::vector<std::int32_t> acc_init(kPaddingCases * kPadded, -1);
    compute_acc_init(shape, weight.data(), PaddingRows::kCounted, kPadded, acc_init.data());
    for (std::size_t i = 0; i < acc_init.size(); ++i) {
      CHECK_EQUAL(acc_init[i], i % kPadded < kOutputs ? kernel * kernel * 3 : 0);
    }
  }
}
