// The instruction sets this library was built for, and which of them this machine has.
#pragma once

#include "core/unit.h"

namespace edgebnn {

constexpr Isa kFastestFirst[] = {Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kScalar};

// "scalar", "avx2", "avx512" (F, DQ, BW, VL, VNNI and VPOPCNTDQ), "neon".
const char* name(Isa isa);

// Whether this library holds the path and this processor runs it.
bool available(Isa isa);

// The path units are made for: the fastest one available, or the one EDGEBNN_ISA names. Null if
// EDGEBNN_ISA names one that is unknown or not available; `isa_complaint` then says so.
const Isa* chosen_isa();
const char* isa_complaint();

}  // namespace edgebnn
