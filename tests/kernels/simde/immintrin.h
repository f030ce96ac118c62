// Stands in for the compiler's header in the build that tests the logic of avx512.cpp where no processor has such
// instructions: SIMDe computes each by what there is. What Debian's SIMDe 0.7.4 lacks is written here.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cstdint>

using __mmask16 = std::uint16_t;

inline __m512 _mm512_cvtepi32_ps(__m512i a) {
  simde__m512i_private from = simde__m512i_to_private(a);
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = static_cast<float>(from.i32[i]);
  return simde__m512_from_private(to);
}
// SIMDe's rounds twice.
inline __m512 fused_multiply_add(__m512 a, __m512 b, __m512 c) {
  simde__m512_private x = simde__m512_to_private(a), y = simde__m512_to_private(b), sum = simde__m512_to_private(c);
  for (int i = 0; i < 16; ++i) sum.f32[i] = __builtin_fmaf(x.f32[i], y.f32[i], sum.f32[i]);
  return simde__m512_from_private(sum);
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) fused_multiply_add(a, b, c)
