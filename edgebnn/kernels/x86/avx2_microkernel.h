// The micro-kernel of the AVX2 path. avx2.cpp explains it. Only the AVX2 path includes this file.
#pragma once

#include <immintrin.h>

#include "x86/avx2_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kMostTriples = 21;  // a triple adds up to 12 mismatches to a byte, which holds 255

// sum += entry. In assembly, because GCC 12 would copy the sum for each of these additions.
EDGEBNN_INLINE void add_bytes(__m256i& sum, __m256i entry) { __asm__("vpaddb %1, %0, %0" : "+x"(sum) : "x"(entry)); }

// Counts neighbouring triples of groups, for 32 * kVectors channels of kPairs pairs of pixels.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_triples(const std::uint8_t* (&activations)[kPairs], const std::uint8_t*& weight,
                                  std::size_t triples, __m256i (&all)[kPairs * kVectors],
                                  __m256i (&shifted)[kPairs * kVectors]) {
  const auto* tables = reinterpret_cast<const std::uint8_t*>(kTables.mismatches);
  do {
    repeat<kPairs>([&](auto pair) EDGEBNN_INLINE_LAMBDA {
      __m256i x[kVectors];
      repeat<3>([&](auto group) EDGEBNN_INLINE_LAMBDA {
        std::uint16_t offset;
        std::memcpy(&offset, activations[pair] + 2 * group, sizeof offset);
        const __m256i table =
            _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(tables + offset)));
        repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
          const auto* choice = reinterpret_cast<const __m256i*>(weight + 32 * (group * kVectors + v));
          const __m256i entry = _mm256_shuffle_epi8(table, _mm256_load_si256(choice));
          if constexpr (group == 0) {
            x[v] = entry;
          } else {
            add_bytes(x[v], entry);
          }
        });
      });
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        add_bytes(all[pair * kVectors + v], x[v]);
        add_bytes(shifted[pair * kVectors + v], _mm256_srli_epi16(x[v], 4));
      });
      activations[pair] += 6;
    });
    weight += 96 * kVectors;
  } while (--triples);
}

#if !defined(EDGEBNN_SANITIZE)  // sanitizers do not see into assembly

// The same for the widest block, where most of the time goes, as one piece of assembly. GCC 12 would still copy every
// sum once per triple. The copies would fill the instructions that the processor can start in a cycle. clang-format off
#define EDGEBNN_TABLE(at)            \
  "movzwl " #at                      \
  "(%[activations]), %k[offset]\n\t" \
  "vbroadcasti128 (%[tables], %[offset]), %%ymm14\n\t"
#define EDGEBNN_ENTRIES(at, to) "vpshufb " #at "(%[weight]), %%ymm14, %%ymm" #to "\n\t"
#define EDGEBNN_MORE_ENTRIES(at, to) EDGEBNN_ENTRIES(at, 15) "vpaddb %%ymm15, %%ymm" #to ", %%ymm" #to "\n\t"
#define EDGEBNN_SUM(x, v)                      \
  "vpaddb %%ymm" #x ", %[all" #v "], %[all" #v \
  "]\n\t"                                      \
  "vpsrlw $4, %%ymm" #x ", %%ymm" #x           \
  "\n\t"                                       \
  "vpaddb %%ymm" #x ", %[shifted" #v "], %[shifted" #v "]\n\t"
// clang-format on

template <>
EDGEBNN_INLINE void count_triples<1, 4>(const std::uint8_t* (&activations)[1], const std::uint8_t*& weight,
                                        std::size_t triples, __m256i (&all)[4], __m256i (&shifted)[4]) {
  std::size_t offset;
  // clang-format off
  __asm__(
      ".p2align 6\n"
      "1:\n\t"
      EDGEBNN_TABLE(0)
      EDGEBNN_ENTRIES(0, 10) EDGEBNN_ENTRIES(32, 11) EDGEBNN_ENTRIES(64, 12) EDGEBNN_ENTRIES(96, 13)
      EDGEBNN_TABLE(2)
      EDGEBNN_MORE_ENTRIES(128, 10) EDGEBNN_MORE_ENTRIES(160, 11)
      EDGEBNN_MORE_ENTRIES(192, 12) EDGEBNN_MORE_ENTRIES(224, 13)
      EDGEBNN_TABLE(4)
      EDGEBNN_MORE_ENTRIES(256, 10) EDGEBNN_MORE_ENTRIES(288, 11)
      EDGEBNN_MORE_ENTRIES(320, 12) EDGEBNN_MORE_ENTRIES(352, 13)
      EDGEBNN_SUM(10, 0) EDGEBNN_SUM(11, 1) EDGEBNN_SUM(12, 2) EDGEBNN_SUM(13, 3)
      "add $6, %[activations]\n\t"
      "add $384, %[weight]\n\t"
      "dec %[triples]\n\t"
      "jnz 1b"
      : [all0] "+x"(all[0]), [all1] "+x"(all[1]), [all2] "+x"(all[2]), [all3] "+x"(all[3]),
        [shifted0] "+x"(shifted[0]), [shifted1] "+x"(shifted[1]), [shifted2] "+x"(shifted[2]),
        [shifted3] "+x"(shifted[3]),
        [activations] "+&r"(activations[0]), [weight] "+&r"(weight), [triples] "+&r"(triples), [offset] "=&r"(offset)
      : [tables] "r"(kTables.mismatches)
      : "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
  // clang-format on
}

#undef EDGEBNN_TABLE
#undef EDGEBNN_ENTRIES
#undef EDGEBNN_MORE_ENTRIES
#undef EDGEBNN_SUM

#endif

// A part of the window, from anywhere in a row to anywhere in the same or a later row.
struct Chunk {
  std::size_t offset;       // in bytes, from the window's first packed activation to the chunk's
  std::size_t triples;      // of groups, at most kMostTriples
  std::size_t left_in_row;  // triples from the chunk's start to the end of its first row
  std::size_t per_row;      // triples in a whole row of the window
};

// Counts a chunk for 32 * kVectors channels of kPairs pairs: adds to `all` and `shifted`.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_bytes(const std::uint8_t* (&activations)[kPairs], std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, __m256i (&all)[kPairs * kVectors],
                                __m256i (&shifted)[kPairs * kVectors]) {
  const std::size_t to_next_row = row_bytes - 6 * chunk.per_row;
  std::size_t left = chunk.triples, left_in_row = chunk.left_in_row;
  do {
    const std::size_t triples = left < left_in_row ? left : left_in_row;
    count_triples<kPairs, kVectors>(activations, weight, triples, all, shifted);
    left -= triples;
    left_in_row = chunk.per_row;
    repeat<kPairs>([&](auto pair) EDGEBNN_INLINE_LAMBDA { activations[pair] += to_next_row; });
  } while (left);
}

}  // namespace
}  // namespace edgebnn
