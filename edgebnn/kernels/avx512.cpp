// AVX-512 with VPOPCNTDQ and VNNI: XOR, popcount, add; 16 channels a vector, 32 bits of each at a time.
//
// The three instructions share two ports, so a vector takes 1.5 cycles at best. A 3x3 window takes less, 4 for three
// of its words: let a, b and c be the mismatches (XOR) of three words, one of each pixel of a row of the window. A full
// adder makes two words of them, whose counts add up to the same,
//
//     count(a) + count(b) + count(c) = count(s) + 2 * count(majority),    s = a ^ b ^ c
//
// and s takes no more than one XOR, since the XOR of three words of activations and that of three words of weights are
// known beforehand. c itself is not needed: the majority is b where a == b, else not s, which is one VPTERNLOG of a, b
// and s. VPDPWSSD adds twice a count. That is 8 instructions in place of 9.
//
// A tile of 7 pixels by 32 channels keeps 14 sums, enough to hide the latencies; the maps of networks for 224x224
// images are whole tiles of 7.
#include <immintrin.h>

#include "avx512_cells.h"
#include "image_tile.h"

namespace edgebnn {
namespace {

constexpr int kVectors = kBlock / 16;

// sum += counts * factor, in one instruction where counts are 0 to 2^15 - 1 and the factor has 16 bits.
EDGEBNN_INLINE void add_product(__m512i& sum, __m512i counts, __m512i factor) {
#if defined(__AVX512F__)  // not where tests have the instructions computed by others
  __asm__("vpdpwssd %1, %2, %0" : "+v"(sum) : "v"(counts), "v"(factor));
#else
  sum = _mm512_dpwssd_epi32(sum, counts, factor);
#endif
}

struct Vector {
  using Floats = __m512;
  using Ints = __m512i;
  static constexpr std::size_t kLanes = 16;
  static EDGEBNN_INLINE Floats all(float value) { return _mm512_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm512_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* base, Ints mismatches) {
    __m512i acc = _mm512_loadu_si512(base);
    add_product(acc, mismatches, _mm512_set1_epi32(-2));
    return _mm512_cvtepi32_ps(acc);
  }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    const __mmask16 kept = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mask_blend_ps(kept, _mm512_mul_ps(slope, z), z);
  }
  static EDGEBNN_INLINE std::uint16_t at_least(Floats y, const float* threshold) {
    return static_cast<std::uint16_t>(_mm512_cmp_ps_mask(y, load(threshold), _CMP_GE_OQ));
  }
};

void compare(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 16) {
    compare_plainly(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 16, bits += 2, x += 16) {
      const std::uint16_t lanes = Vector::at_least(Vector::load(x), threshold + c);
      std::memcpy(bits, &lanes, sizeof lanes);
    }
  }
}

// sum += counts. Written out because GCC 12 spends a copy of the sum on each of these additions.
EDGEBNN_INLINE void add_words(__m512i& sum, __m512i counts) {
#if defined(__AVX512F__)
  __asm__("vpaddd %1, %0, %0" : "+v"(sum) : "v"(counts));
#else
  sum = _mm512_add_epi32(sum, counts);
#endif
}

// What two of a, b and c are, for s = a ^ b ^ c. Written out because GCC 12 takes a detour by other instructions.
EDGEBNN_INLINE __m512i majority(__m512i a, __m512i b, __m512i s) {
  constexpr int kTable = 0xd4;  // bit 4 a + 2 b + s
#if defined(__AVX512F__)
  __asm__("vpternlogd %3, %2, %1, %0" : "+v"(a) : "v"(b), "v"(s), "i"(kTable));
  return a;
#else
  return _mm512_ternarylogic_epi32(a, b, s, kTable);
#endif
}

EDGEBNN_INLINE __m512i broadcast(const std::uint8_t* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

// Adds the mismatches of a 1x1 window of `words` words.
template <int kPixels>
EDGEBNN_INLINE void count_words(const Pixel* pixels, const std::uint8_t* weight, std::size_t words,
                                __m512i (&sums)[kPixels * kVectors]) {
  const std::uint8_t* cells[kPixels];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  for (std::size_t word = 0; word < words; ++word, weight += 4 * kBlock) {
    __m512i wanted[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + 4 * word);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        add_words(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted[v])));
      });
    });
  }
}

// Adds the mismatches of a row of a 3x3 window, three times `words` words.
template <int kPixels>
EDGEBNN_INLINE void count_threes(const std::uint8_t* const (&cells)[kPixels], const std::uint8_t* weight,
                                 std::size_t words, __m512i (&sums)[kPixels * kVectors]) {
  const std::size_t half = 4 * words;  // of a cell
  const __m512i two = _mm512_set1_epi32(2);
  for (std::size_t at = 0; at < half; at += 4, weight += 3 * 4 * kBlock) {
    __m512i wanted[3 * kVectors];
    repeat<3 * kVectors>([&](auto v) __attribute__((always_inline)) {
      wanted[v] = _mm512_load_si512(weight + 64 * v);
    });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i first = broadcast(cells[p] + at), second = broadcast(cells[p] + 2 * half + at);
      const __m512i all = broadcast(cells[p] + half + at);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m512i a = _mm512_xor_si512(first, wanted[v]), b = _mm512_xor_si512(second, wanted[kVectors + v]);
        const __m512i s = _mm512_xor_si512(all, wanted[2 * kVectors + v]);
        add_words(sums[p * kVectors + v], _mm512_popcnt_epi32(s));
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(majority(a, b, s)), two);
      });
    });
  }
}

// A tile's sums to outputs and bits.
template <int kPixels, Shortcut kShortcut>
EDGEBNN_INLINE void finish(const Job& job, const Pixel* pixels, std::size_t first,
                           const __m512i (&sums)[kPixels * kVectors]) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  const bool vectors = vectorizable(job, first, kBlock, Vector::kLanes);
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
    const Pixel& pixel = pixels[p];
    std::uint16_t bits[kVectors] = {};
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      const std::size_t channel = first + static_cast<std::size_t>(16 * v);
      if (vectors) {
        const std::size_t source = kShortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
        const __m512 y = finish_vector<Vector, kShortcut>(job, pixel, channel, source, inputs, row,
                                                          sums[p * kVectors + v]);
        if (job.next_bits) bits[v] = Vector::at_least(y, job.constants.next_threshold + channel);
      } else if (channel < outputs) {
        alignas(64) std::int32_t plain[16];
        _mm512_store_si512(plain, sums[p * kVectors + v]);
        finish_plainly(job, pixel, channel, outputs - channel < 16 ? outputs - channel : 16, plain);
      }
    });
    if (vectors && job.next_bits) std::memcpy(pixel.next_bits(job) + first / 8, bits, sizeof bits);
  });
}

struct Tile {
  static constexpr int kMostPixels = 7;
  template <int kPixels, Shortcut kShortcut>
  static void run(const Job& job, const Pixel* pixels, std::size_t block);
};

template <int kPixels, Shortcut kShortcut>
void Tile::run(const Job& job, const Pixel* pixels, std::size_t block) {
  const std::size_t words = word_cell_bytes(job.shape) / 4;
  const std::size_t taps = static_cast<std::size_t>(job.shape.kernel * job.shape.kernel);
  const std::uint8_t* weight = job.constants.weight + block * taps * words * 4 * kBlock;
  __m512i sums[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { sums[i] = _mm512_setzero_si512(); });
  if (taps == 1) {
    count_words<kPixels>(pixels, weight, words, sums);
  } else {
    for (std::size_t row = 0; row < 3; ++row, weight += 3 * words * 4 * kBlock) {
      const std::uint8_t* cells[kPixels];
      repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
        cells[p] = pixels[p].window + row * job.row_bytes;
      });
      count_threes<kPixels>(cells, weight, words, sums);
    }
  }
  finish<kPixels, kShortcut>(job, pixels, block * kBlock, sums);
}

void convolve(const Job& job) { convolve_with<Tile>(job); }

struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 4, kVectors = 2;
  static EDGEBNN_INLINE void keep([[maybe_unused]] __m512& values) {
#if defined(__AVX512F__)  // not where tests have the instructions computed by others
    __asm__ volatile("" : "+v"(values));
#endif
  }
  static EDGEBNN_INLINE void bits(const __m512 (&y)[kVectors], const float* threshold, std::uint8_t* to) {
    const std::uint16_t lanes[kVectors] = {Vector::at_least(y[0], threshold), Vector::at_least(y[1], threshold + 16)};
    std::memcpy(to, lanes, sizeof lanes);
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  constexpr int kSums = 14;
  const __m512i wanted = _mm512_set1_epi32(0x3c5a);
  __m512i seen = _mm512_set1_epi32(0x5a5a), sums[kSums];
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { sums[i] = _mm512_setzero_si512(); });
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<kSums>([&](auto i) __attribute__((always_inline)) {
#if defined(__AVX512F__)  // not where tests have the instructions computed by others
      __asm__ volatile("" : "+v"(seen));  // or the loop would be counted once
#endif
      add_words(sums[i], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted)));
    });
  }
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { sums[0] = _mm512_add_epi32(sums[0], sums[i]); });
  volatile int used = _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
  (void)used;
  return steps * kSums * 512;
}

std::size_t block(std::size_t) { return kBlock; }

constexpr Path kPath = {block,
                        cell_bytes,
                        to_cells,
                        no_seam,
                        compare,
                        word_weight_bytes<kBlock>,
                        pack_weights,
                        convolve,
                        ImageTile::kVectors * Vector::kLanes,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* avx512_path() { return &kPath; }

}  // namespace edgebnn
