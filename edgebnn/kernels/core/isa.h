// The instruction sets this library was built for, and which of them this machine has.
#pragma once

#include "core/unit.h"

namespace edgebnn {

constexpr Isa kFastestFirst[] = {Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kScalar};

// "scalar", "avx2", "avx512" (F, DQ, BW, VL, VNNI and VPOPCNTDQ), "neon".
const char* name(Isa isa);

// Whether this library contains the path and this processor can run it.
bool available(Isa isa);

// Returns the path that units are created for: the one that EDGEBNN_ISA names, or else the fastest one available. Null
// if EDGEBNN_ISA names an unknown or unavailable path. `isa_complaint` then returns the message.
const Isa* chosen_isa();
const char* isa_complaint();

}  // namespace edgebnn
