// Inlining, unrolling and rounding. Included in each path's file, in its unnamed namespace (see path.h).
#pragma once

#include <cstddef>

#define EDGEBNN_INLINE __attribute__((always_inline)) inline  // GCC and Clang
#define EDGEBNN_INLINE_LAMBDA __attribute__((always_inline))  // after a lambda's parameters

namespace edgebnn {
namespace {

template <int N>
struct Int {
  static constexpr int value = N;
  constexpr operator int() const { return N; }
};

// Unrolls f(0), f(1), ... with compile-time constants, so that arrays indexed by them stay in registers.
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

}  // namespace
}  // namespace edgebnn
