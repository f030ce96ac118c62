// AVX2: counting by table lookup instead of XOR and popcount.
//
// AVX2 has no popcount, and XOR with a popcount made of two table lookups costs 8 instructions for 256 bits. But
// vpshufb can look up the mismatches themselves: for four input channels the activation bits choose one of 16 tables,
// the weight bits of an output channel choose one of its 16 entries, and the entry is the number of bits in which the
// two differ. One vpshufb and one vpaddb then count 4 inputs for 32 output channels: 128 steps in 2 instructions,
// twice what XOR gives. In memory a weight takes 2 bits (a byte holds four), in the file 1.
//
// Cells: a byte for every 4 channels, twice their bits: eight times that is the place of their table.
// Weights: blocks of 32 * kVectors channels, (groups of 4 inputs, kVectors, 32) bytes; byte 4 j + b of 32 is channel
// 8 b + j, so that the byte sums unfold into vectors of 8 neighbouring channels by masks and shifts.
//
// A tile of 6 pixels by 64 channels fills the 16 registers: 12 sums, 2 vectors of weights, a table, an entry. Of the
// tiles tried on a Zen 3 core it came within 3% of what the shuffle unit can do; 3 pixels by 128 channels, which needs
// fewer addresses but reads weights again, came within 12%.
#include <immintrin.h>

#include "words.h"

namespace edgebnn {
namespace {

std::size_t block(std::size_t outputs) { return outputs > 32 ? 64 : 32; }

constexpr std::size_t kMostGroups = 63;  // of 4 mismatches each that a byte can hold

struct Tables {
  alignas(64) std::uint8_t mismatches[16][16];
};

constexpr Tables make_tables() {
  Tables tables{};
  for (unsigned a = 0; a < 16; ++a) {
    for (unsigned b = 0; b < 16; ++b) {
      unsigned differ = a ^ b, count = 0;
      for (; differ; differ &= differ - 1) ++count;
      tables.mismatches[a][b] = static_cast<std::uint8_t>(count);
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

struct Vector {
  using Floats = __m256;
  using Ints = __m256i;
  static constexpr std::size_t kLanes = 8;
  static EDGEBNN_INLINE Floats all(float value) { return _mm256_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* base, Ints twice_mismatches) {
    const __m256i all_match = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(base));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(all_match, twice_mismatches));
  }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    const Floats kept = _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(slope, z), z, kept);
  }
  static EDGEBNN_INLINE Floats at_least(Floats y, const float* threshold) {
    return _mm256_cmp_ps(y, load(threshold), _CMP_GE_OQ);
  }
};

std::size_t cell_bytes(std::size_t inputs) { return rounded_up(inputs, 8) / 4; }

void to_cells(const std::uint8_t* bits, std::size_t pixels, std::size_t inputs, std::uint8_t* cells) {
  const std::size_t bytes = pixels * rounded_up(inputs, 8) / 8;
  const __m128i low = _mm_set1_epi8(0x1e);
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bits + i));
    const __m128i first = _mm_and_si128(_mm_slli_epi16(packed, 1), low);
    const __m128i second = _mm_and_si128(_mm_srli_epi16(packed, 3), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(cells + 2 * i), _mm_unpacklo_epi8(first, second));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(cells + 2 * i + 16), _mm_unpackhi_epi8(first, second));
  }
  for (; i < bytes; ++i) {
    cells[2 * i] = static_cast<std::uint8_t>((bits[i] & 15) * 2);
    cells[2 * i + 1] = static_cast<std::uint8_t>((bits[i] >> 4) * 2);
  }
}

void compare(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 8) {
    compare_plainly(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 8, ++bits, x += 8) {
      *bits = static_cast<std::uint8_t>(_mm256_movemask_ps(Vector::at_least(Vector::load(x), threshold + c)));
    }
  }
}

std::size_t weight_bytes(const UnitShape& shape) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
  return rounded_up(outputs, block(outputs)) * taps * cell_bytes(static_cast<std::size_t>(shape.inputs));
}

void pack_weights(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  const std::size_t inputs = static_cast<std::size_t>(shape.inputs), outputs = static_cast<std::size_t>(shape.outputs);
  const std::size_t bytes = rounded_up(inputs, 8) / 8, groups = taps * 2 * bytes, channels = block(outputs);
  std::memset(packed, 0, weight_bytes(shape));
  for (std::size_t o = 0; o < outputs; ++o) {
    const std::size_t channel = o % 32, place = 4 * (channel % 8) + channel / 8;
    for (std::size_t group = 0; group < groups; ++group) {
      const std::uint8_t pair = weight[o * taps * bytes + group / 2];
      const unsigned four = group % 2 ? pair >> 4 : pair & 15;
      packed[(o / channels * groups + group) * channels + o % channels / 32 * 32 + place] =
          static_cast<std::uint8_t>(four);
    }
  }
}

// sum += entry. Written out because GCC 12 spends a copy of the sum on each of these additions.
EDGEBNN_INLINE void add_bytes(__m256i& sum, __m256i entry) {
  __asm__("vpaddb %1, %0, %0" : "+x"(sum) : "x"(entry));
}

// The step of one group of inputs.
template <int kPixels, int kVectors>
EDGEBNN_INLINE void count(const std::uint8_t* const (&cells)[kPixels], std::size_t group, const std::uint8_t* weight,
                          __m256i (&sums)[kPixels * kVectors]) {
  const auto* tables = reinterpret_cast<const std::uint64_t*>(kTables.mismatches);
  __m256i choices[kVectors];
  repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
    choices[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(weight + 32 * v));
  });
  repeat<kPixels>([&](auto pixel) __attribute__((always_inline)) {
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(tables + cells[pixel][group])));
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      add_bytes(sums[pixel * kVectors + v], _mm256_shuffle_epi8(table, choices[v]));
    });
  });
}

// Twice byte kByte of every 32 bits of a sum: of eight neighbouring channels. Sums stay below 2^15 (kMaxTerms).
template <int kByte>
EDGEBNN_INLINE __m256i unfold_twice(const __m256i& even, const __m256i& odd) {
  return _mm256_madd_epi16(kByte % 2 ? odd : even, _mm256_set1_epi32(kByte < 2 ? 2 : 2 << 16));
}

// 32 comparisons to bits. Packing interleaves the halves of the vectors; the permutation puts them back.
EDGEBNN_INLINE std::uint32_t to_bits(const __m256 (&lanes)[4]) {
  const __m256i low = _mm256_packs_epi32(_mm256_castps_si256(lanes[0]), _mm256_castps_si256(lanes[1]));
  const __m256i high = _mm256_packs_epi32(_mm256_castps_si256(lanes[2]), _mm256_castps_si256(lanes[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
}

// A tile's sums to outputs and bits. A function of its own: inlined, it and the counting fight for registers.
template <int kPixels, int kVectors, Shortcut kShortcut>
__attribute__((noinline)) void finish(const Job& job, const Pixel* pixels, std::size_t first, const __m256i* even,
                                      const __m256i* odd) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  if (!vectorizable(job, first, 32 * kVectors, Vector::kLanes)) {
    for (int sum = 0; sum < kPixels * kVectors; ++sum) {
      const std::size_t channel = first + 32 * static_cast<std::size_t>(sum % kVectors);
      if (channel >= outputs) continue;
      alignas(32) std::int32_t plain[32];
      repeat<4>([&](auto byte) __attribute__((always_inline)) {
        const __m256i counts = _mm256_srli_epi32(unfold_twice<byte>(even[sum], odd[sum]), 1);
        _mm256_store_si256(reinterpret_cast<__m256i*>(plain + 8 * byte), counts);
      });
      finish_plainly(job, pixels[sum / kVectors], channel, outputs - channel < 32 ? outputs - channel : 32, plain);
    }
    return;
  }
  const Constants constants = job.constants;  // a copy, which the stores cannot change
  const bool writes_bits = job.next_bits != nullptr;
  const float* thresholds = writes_bits ? constants.next_threshold : constants.scale;
  for (int sum = 0; sum < kPixels * kVectors; ++sum) {
    const Pixel pixel = pixels[sum / kVectors];
    const std::size_t channel = first + 32 * static_cast<std::size_t>(sum % kVectors);
    __m256 lanes[4];
    repeat<4>([&](auto byte) __attribute__((always_inline)) {
      const std::size_t eight = channel + 8 * byte;
      const std::size_t source = kShortcut == Shortcut::kRepeat && eight >= inputs ? eight - inputs : eight;
      const __m256i counts = unfold_twice<byte>(even[sum], odd[sum]);
      const __m256 y =
          finish_vector<Vector, kShortcut>(constants, pixel, eight, source, inputs, row, counts);
      lanes[byte] = Vector::at_least(y, thresholds + eight);
    });
    const std::uint32_t bits = to_bits(lanes);
    if (writes_bits) std::memcpy(pixel.next_bits + channel / 8, &bits, sizeof bits);
  }
}

template <int kVectors>
struct Tile {
  static constexpr int kMostPixels = kVectors == 2 ? 6 : 8;
  template <int kPixels, Shortcut kShortcut>
  static void run(const Job& job, const Pixel (&pixels)[kPixels], std::size_t block);
};

template <int kVectors>
template <int kPixels, Shortcut kShortcut>
void Tile<kVectors>::run(const Job& job, const Pixel (&pixels)[kPixels], std::size_t block) {
  constexpr int kSums = kPixels * kVectors;
  constexpr std::size_t kBlock = 32 * kVectors;
  const std::size_t run = static_cast<std::size_t>(job.shape.kernel) * job.cell_bytes;
  const std::uint8_t* weight =
      job.constants.weight + block * kBlock * run * static_cast<std::size_t>(job.shape.kernel);
  __m256i even[kSums], odd[kSums];  // 16-bit sums of the even and of the odd bytes
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { even[i] = odd[i] = _mm256_setzero_si256(); });
  const std::uint8_t* cells[kPixels];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  int rows = job.shape.kernel;
  std::size_t left = run;  // groups of this row
  while (rows) {
    __m256i bytes[kSums];
    repeat<kSums>([&](auto i) __attribute__((always_inline)) { bytes[i] = _mm256_setzero_si256(); });
    std::size_t room = kMostGroups;
    do {
      const std::size_t groups = left < room ? left : room;
      for (std::size_t group = 0; group < groups; ++group, weight += kBlock) {
        count<kPixels, kVectors>(cells, group, weight, bytes);
      }
      left -= groups;
      room -= groups;
      const std::size_t step = left ? groups : groups + job.row_bytes - run;
      repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] += step; });
      if (!left) {
        left = run;
        --rows;
      }
    } while (room && rows);
    repeat<kSums>([&](auto i) __attribute__((always_inline)) {
      even[i] = _mm256_add_epi16(even[i], _mm256_and_si256(bytes[i], _mm256_set1_epi16(0xff)));
      odd[i] = _mm256_add_epi16(odd[i], _mm256_srli_epi16(bytes[i], 8));
    });
  }
  finish<kPixels, kVectors, kShortcut>(job, pixels, block * kBlock, even, odd);
}

void convolve(const Job& job) {
  if (block(static_cast<std::size_t>(job.shape.outputs)) == 64) {
    convolve_with<Tile<2>>(job);
  } else {
    convolve_with<Tile<1>>(job);
  }
}

std::uint64_t ceiling(std::uint64_t steps) {
  const __m256i table = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_set1_epi8(15);
  __m256i seen = _mm256_set1_epi8(0x5a), sums[8];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<8>([&](auto i) __attribute__((always_inline)) {
      __asm__ volatile("" : "+x"(seen));  // or the loop would be counted once
      const __m256i differ = _mm256_xor_si256(seen, low);
      const __m256i counts =
          _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(differ, low)),
                          _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(differ, 4), low)));
      sums[i] = _mm256_add_epi8(sums[i], counts);
    });
  }
  __m256i total = sums[0];
  for (int i = 1; i < 8; ++i) total = _mm256_add_epi8(total, sums[i]);
  volatile int used = _mm256_extract_epi8(total, 0);
  (void)used;
  return steps * 8 * 256;
}

constexpr Path kPath = {block, cell_bytes, to_cells, compare, weight_bytes, pack_weights, convolve, ceiling};

}  // namespace

const Path* avx2_path() { return &kPath; }

}  // namespace edgebnn
