// The instruction sets this library was built for, and which of them this machine has.
#pragma once

#include <string>

#include "core/unit.h"

namespace edgebnn {

constexpr Isa kFastestFirst[] = {Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kScalar};

// Returns "scalar", "avx2", "avx512" (F, DQ, BW, VL, VNNI and VPOPCNTDQ) or "neon".
const char* name(Isa isa);

// Returns whether this library contains the path and this processor can run it.
bool available(Isa isa);

// A choice of a path. `isa` is null if `forced` names an unknown or unavailable path, and `error` is then the message.
struct IsaChoice {
  const Isa* isa = nullptr;
  std::string error;
};

// Returns the path that `forced` names, or the fastest available path if `forced` is null or empty.
IsaChoice choose_isa(const char* forced);

// Returns the path that units are created for: choose_isa of the environment variable EDGEBNN_ISA, which is read once.
// Null on an error, and `isa_error` then returns the message.
const Isa* chosen_isa();
const char* isa_error();

}  // namespace edgebnn
