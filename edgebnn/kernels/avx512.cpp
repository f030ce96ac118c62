// AVX-512 with VPOPCNTDQ: XOR, popcount, add; 16 channels a vector, 32 bits of each a step.
//
// The three instructions share two ports, so a step takes 1.5 cycles at best. A tile of 7 pixels by 32 channels
// keeps 14 sums, enough to hide the latencies; the maps of networks for 224x224 images are whole tiles of 7.
#include <immintrin.h>

#include "image_tile.h"
#include "words.h"

namespace edgebnn {
namespace {

constexpr int kVectors = 2;  // of 16 channels, in a block
constexpr std::size_t kBlock = 16 * kVectors;

struct Vector {
  using Floats = __m512;
  using Ints = __m512i;
  static constexpr std::size_t kLanes = 16;
  static EDGEBNN_INLINE Floats all(float value) { return _mm512_set1_ps(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { _mm512_storeu_ps(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static EDGEBNN_INLINE Floats accumulator(const std::int32_t* base, Ints twice_mismatches) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(base), twice_mismatches));
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
#if defined(__AVX512F__)  // not where tests have the instructions computed by others
  __asm__("vpaddd %1, %0, %0" : "+v"(sum) : "v"(counts));
#else
  sum = _mm512_add_epi32(sum, counts);
#endif
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
                                                          _mm512_slli_epi32(sums[p * kVectors + v], 1));
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
  const std::size_t run = static_cast<std::size_t>(job.shape.kernel) * job.cell_bytes / 4;  // words
  const std::uint8_t* weight =
      job.constants.weight + block * kBlock * 4 * run * static_cast<std::size_t>(job.shape.kernel);
  __m512i sums[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { sums[i] = _mm512_setzero_si512(); });
  for (int row = 0; row < job.shape.kernel; ++row) {
    const std::uint8_t* cells[kPixels];
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      cells[p] = pixels[p].window + static_cast<std::size_t>(row) * job.row_bytes;
    });
    for (std::size_t word = 0; word < run; ++word, weight += kBlock * 4) {
      __m512i wanted[kVectors];
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = _mm512_load_si512(weight + 64 * v); });
      repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
        std::int32_t bits;
        std::memcpy(&bits, cells[p] + word * 4, sizeof bits);
        const __m512i seen = _mm512_set1_epi32(bits);
        repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
          add_words(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted[v])));
        });
      });
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
                        word_cell_bytes,
                        to_word_cells,
                        no_seam,
                        compare,
                        word_weight_bytes<kBlock>,
                        pack_word_weights<kBlock>,
                        convolve,
                        ImageTile::kVectors * Vector::kLanes,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* avx512_path() { return &kPath; }

}  // namespace edgebnn
