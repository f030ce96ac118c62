// The inner loop of the AVX2 path. avx2.cpp explains it, and is the only file that includes this one.
#pragma once

#include <immintrin.h>

#include "x86/avx2_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kMostTriples = 21;  // a triple has up to 12 mismatches, and a byte holds 255

// sum += entry. In assembly because GCC 12 would copy the sum for each of these additions.
EDGEBNN_INLINE void add_bytes(__m256i& sum, __m256i entry) {
  __asm__("vpaddb %1, %0, %0" : "+x"(sum) : "x"(entry));
}

// Counts neighbouring triples of groups, for 32 * kVectors channels of kPairs pairs of pixels.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_triples(const std::uint8_t* (&cells)[kPairs], const std::uint8_t*& weight,
                                  std::size_t triples, __m256i (&all)[kPairs * kVectors],
                                  __m256i (&second)[kPairs * kVectors]) {
  const auto* tables = reinterpret_cast<const std::uint8_t*>(kTables.mismatches);
  do {
    repeat<kPairs>([&](auto pair) __attribute__((always_inline)) {
      __m256i x[kVectors];
      repeat<3>([&](auto group) __attribute__((always_inline)) {
        std::uint16_t place;
        std::memcpy(&place, cells[pair] + 2 * group, sizeof place);
        const __m256i table =
            _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(tables + place)));
        repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
          const auto* choice = reinterpret_cast<const __m256i*>(weight + 32 * (group * kVectors + v));
          const __m256i entry = _mm256_shuffle_epi8(table, _mm256_load_si256(choice));
          if constexpr (group == 0) {
            x[v] = entry;
          } else {
            add_bytes(x[v], entry);
          }
        });
      });
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        add_bytes(all[pair * kVectors + v], x[v]);
        add_bytes(second[pair * kVectors + v], _mm256_srli_epi16(x[v], 4));
      });
      cells[pair] += 6;
    });
    weight += 96 * kVectors;
  } while (--triples);
}

#if !defined(EDGEBNN_SANITIZE)  // sanitizers do not see into it

// The same for the widest block, where most of the time goes, as one piece: left to GCC 12, every sum is still copied
// once a triple, and these copies fill what the processor can take in a cycle.
#define EDGEBNN_TABLE(cell)                  \
  "movzwl " #cell "(%[cells]), %k[place]\n\t" \
  "vbroadcasti128 (%[tables], %[place]), %%ymm14\n\t"
#define EDGEBNN_ENTRIES(at, to) "vpshufb " #at "(%[weight]), %%ymm14, %%ymm" #to "\n\t"
#define EDGEBNN_MORE_ENTRIES(at, to) \
  EDGEBNN_ENTRIES(at, 15) "vpaddb %%ymm15, %%ymm" #to ", %%ymm" #to "\n\t"
#define EDGEBNN_SUM(x, v)                                 \
  "vpaddb %%ymm" #x ", %[all" #v "], %[all" #v "]\n\t"    \
  "vpsrlw $4, %%ymm" #x ", %%ymm" #x "\n\t"               \
  "vpaddb %%ymm" #x ", %[second" #v "], %[second" #v "]\n\t"

template <>
EDGEBNN_INLINE void count_triples<1, 4>(const std::uint8_t* (&cells)[1], const std::uint8_t*& weight,
                                        std::size_t triples, __m256i (&all)[4], __m256i (&second)[4]) {
  std::size_t place;
  __asm__(
      ".p2align 6\n"
      "1:\n\t"
      // clang-format off
      EDGEBNN_TABLE(0)
      EDGEBNN_ENTRIES(0, 10) EDGEBNN_ENTRIES(32, 11) EDGEBNN_ENTRIES(64, 12) EDGEBNN_ENTRIES(96, 13)
      EDGEBNN_TABLE(2)
      EDGEBNN_MORE_ENTRIES(128, 10) EDGEBNN_MORE_ENTRIES(160, 11)
      EDGEBNN_MORE_ENTRIES(192, 12) EDGEBNN_MORE_ENTRIES(224, 13)
      EDGEBNN_TABLE(4)
      EDGEBNN_MORE_ENTRIES(256, 10) EDGEBNN_MORE_ENTRIES(288, 11)
      EDGEBNN_MORE_ENTRIES(320, 12) EDGEBNN_MORE_ENTRIES(352, 13)
      EDGEBNN_SUM(10, 0) EDGEBNN_SUM(11, 1) EDGEBNN_SUM(12, 2) EDGEBNN_SUM(13, 3)
      // clang-format on
      "add $6, %[cells]\n\t"
      "add $384, %[weight]\n\t"
      "dec %[triples]\n\t"
      "jnz 1b"
      : [all0] "+x"(all[0]), [all1] "+x"(all[1]), [all2] "+x"(all[2]), [all3] "+x"(all[3]),
        [second0] "+x"(second[0]), [second1] "+x"(second[1]), [second2] "+x"(second[2]), [second3] "+x"(second[3]),
        [cells] "+&r"(cells[0]), [weight] "+&r"(weight), [triples] "+&r"(triples), [place] "=&r"(place)
      : [tables] "r"(kTables.mismatches)
      : "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

#undef EDGEBNN_TABLE
#undef EDGEBNN_ENTRIES
#undef EDGEBNN_MORE_ENTRIES
#undef EDGEBNN_SUM

#endif

// A piece of the window, from anywhere in a row to anywhere in that or a later one.
struct Chunk {
  std::size_t offset;   // of its first cell from the window's
  std::size_t triples;  // of groups, at most kMostTriples
  std::size_t in_row;   // from its start to the end of its first row
  std::size_t of_row;   // in a whole row of the window
};

// A chunk, for 32 * kVectors channels of kPairs pairs: `all` and `second`.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_bytes(const std::uint8_t* (&cells)[kPairs], std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, __m256i (&all)[kPairs * kVectors],
                                __m256i (&second)[kPairs * kVectors]) {
  const std::size_t to_next_row = row_bytes - 6 * chunk.of_row;
  std::size_t left = chunk.triples, in_row = chunk.in_row;
  do {
    const std::size_t triples = left < in_row ? left : in_row;
    count_triples<kPairs, kVectors>(cells, weight, triples, all, second);
    left -= triples;
    in_row = chunk.of_row;
    repeat<kPairs>([&](auto pair) __attribute__((always_inline)) { cells[pair] += to_next_row; });
  } while (left);
}

}  // namespace
}  // namespace edgebnn
