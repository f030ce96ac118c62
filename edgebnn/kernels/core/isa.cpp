#include "core/isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "core/path.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace edgebnn {
namespace {

#if defined(__x86_64__)
// Returns the extended state that the operating system saves, as bits of XCR0.
unsigned long long saved_state() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 27))) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low | static_cast<unsigned long long>(high) << 32;
}

bool processor_has(Isa isa) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return false;
  const bool fma = ecx & (1u << 12);
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  const bool avx2 = fma && (ebx & (1u << 5)) && (saved_state() & 0x6) == 0x6;
  if (isa == Isa::kAvx2) return avx2;
  const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, all = f | dq | bw | vl;
  const unsigned vnni = 1u << 11, vpopcntdq = 1u << 14, both = vnni | vpopcntdq;
  return avx2 && (ebx & all) == all && (ecx & both) == both && (saved_state() & 0xe6) == 0xe6;
}
#endif

const IsaChoice& environment_choice() {
  static const IsaChoice choice = choose_isa(std::getenv("EDGEBNN_ISA"));
  return choice;
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
    default: return "scalar";
  }
}

const Path* path(Isa isa) {
  switch (isa) {
#if defined(EDGEBNN_HAS_AVX2)
    case Isa::kAvx2: return avx2_path();
#endif
#if defined(EDGEBNN_HAS_AVX512)
    case Isa::kAvx512: return avx512_path();
#endif
#if defined(EDGEBNN_HAS_NEON)
    case Isa::kNeon: return neon_path();
#endif
    case Isa::kScalar: return scalar_path();
    default: return nullptr;
  }
}

bool available(Isa isa) {
  if (!path(isa)) return false;
  if (isa == Isa::kScalar || isa == Isa::kNeon) return true;  // every 64-bit ARM processor has NEON
#if defined(EDGEBNN_EMULATED)
  return true;  // tests whose instructions are emulated
#elif defined(__x86_64__)
  return processor_has(isa);
#else
  return false;
#endif
}

IsaChoice choose_isa(const char* forced) {
  const bool any = !forced || !*forced;
  IsaChoice choice;
  std::string names;
  for (const Isa& isa : kFastestFirst) {
    if (!available(isa)) continue;
    names += names.empty() ? "" : ", ";
    names += name(isa);
    if (!choice.isa && (any || std::strcmp(forced, name(isa)) == 0)) choice.isa = &isa;
  }
  if (!choice.isa) {
    choice.error = "EDGEBNN_ISA is '" + std::string(forced) + "'; on this machine it may be " + names;
  }
  return choice;
}

const Isa* chosen_isa() { return environment_choice().isa; }
const char* isa_error() { return environment_choice().error.c_str(); }

}  // namespace edgebnn
