// Units with random constants and inputs, for the unit tests and the micro-benchmark.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/unit.h"

namespace random_unit {

using edgebnn::Parallel;
using edgebnn::UnitShape;

// Runs tasks one after the other on the calling thread.
inline Parallel serial() {
  return {nullptr, [](void*, std::size_t count, Parallel::Task task, void* state) {
            for (std::size_t i = 0; i < count; ++i) task(state, i);
          }};
}

inline std::vector<float> floats(std::mt19937& random, std::size_t count) {
  // Small whole numbers lie on thresholds. Fractions make sums that are rounded.
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(static_cast<int>(random() % 9) - 4);
    if (random() % 2) value += static_cast<float>(random() % 1024) / 1024;
  }
  return values;
}

struct Constants {
  std::vector<std::uint8_t> weight;
  std::vector<float> threshold, scale, bias, slope, next_threshold;

  Constants(const UnitShape& shape, std::mt19937& random) {
    const std::size_t inputs = static_cast<std::size_t>(shape.inputs),
                      outputs = static_cast<std::size_t>(shape.outputs);
    const std::size_t bytes = (inputs + 7) / 8, taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
    weight.resize(outputs * taps * bytes);
    const unsigned last = inputs % 8 ? (1u << inputs % 8) - 1 : 255u;
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] = static_cast<std::uint8_t>(random() & (i % bytes == bytes - 1 ? last : 255u));
    }
    threshold = floats(random, inputs);
    for (auto* values : {&scale, &bias, &slope, &next_threshold}) *values = floats(random, outputs);
  }

  edgebnn::UnitConstants pointers() const {
    return {.weight = weight.data(),
            .threshold = threshold.data(),
            .scale = scale.data(),
            .bias = bias.data(),
            .slope = slope.data(),
            .next_threshold = next_threshold.data()};
  }
};

// Returns the packed bits of x, as (pixels, ceil(channels / 8)).
inline std::vector<std::uint8_t> pack(const std::vector<float>& x, const std::vector<float>& threshold) {
  const std::size_t channels = threshold.size(), bytes = (channels + 7) / 8;
  std::vector<std::uint8_t> bits(x.size() / channels * bytes);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % channels;
    if (x[i] >= threshold[c]) bits[i / channels * bytes + c / 8] |= static_cast<std::uint8_t>(1u << c % 8);
  }
  return bits;
}

}  // namespace random_unit
