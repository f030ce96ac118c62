// The zero-padding correction, and the accumulator init that applies it.
//
// A bit is +1 or -1, so packed activations cannot hold the 0 of zero padding. The padding is written as 0 bits, which
// stand for -1. Left alone, a unit would compute a convolution padded with -1, and its outputs at the sides of the map
// would be wrong.
//
// The error is known beforehand, because the weights are constant. Take a kernel position (tap) with `inputs` channels,
// of which `ones` weights are +1. In the padding, the 0 bits differ from the `ones` weights and equal the others:
//
//     contribution of the tap = matches - mismatches = (inputs - ones) - ones = inputs - 2 * ones
//
// The correction subtracts this contribution for every tap in the padding. Which taps these are depends only on the
// sides of the map that the window crosses, the padding case (x: a tap in the padding):
//
//     top         top, left     right         bottom, right
//     x x x       x x x         . . x         . . x
//     . . .       x . .         . . x         . . x
//     . . .       x . .         . . x         x x x
//
// A window of a map of one row or column crosses opposite sides too. So all 16 cases of four sides are computed, once
// per unit.
//
// Larq Compute Engine adds the same correction to the outputs at the sides, after the convolution. Here the correction
// is part of the value that an accumulator begins with, the accumulator init. Pixels at a side then cost no more than
// others, and every micro-kernel computes
//
//     acc = acc_init[padding case][o] - 2 * mismatches
//     acc_init[padding case][o] = terms - sum over the taps in the padding of (inputs - 2 * ones[o][tap])
//
// where terms = kernel * kernel * inputs is the accumulator of a window without mismatches and without padding.
// With a padding of +1, or without padding, the sum is empty.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/unit.h"

namespace edgebnn {

// What a path's loop does with the rows of a window that lie in zero padding.
enum class PaddingRows { kCounted, kSkipped };

// Writes acc_init, of (kPaddingCases, padded_outputs). `weight` is as in UnitConstants. Channels after the last are 0.
// If the loop skips rows in the padding, their taps have neither matches nor mismatches. The init then subtracts only
// the tap's `inputs`, the value that an accumulator has without mismatches.
void compute_acc_init(const UnitShape& shape, const std::uint8_t* weight, PaddingRows rows, std::size_t padded_outputs,
                      std::int32_t* acc_init);

}  // namespace edgebnn
