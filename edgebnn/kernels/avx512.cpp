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
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    return _mm512_mask_mul_ps(z, _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NGE_UQ), slope, z);
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

EDGEBNN_INLINE void fetch(const void* from) { __builtin_prefetch(from, 0, 3); }

// Weights that are counted next, fetched a line a step until `end`.
struct Ahead {
  const std::uint8_t *next, *end;
  EDGEBNN_INLINE void step() {
    __builtin_prefetch(next, 0, 2);
    next += next < end ? 64 : 0;
  }
};

// Adds the mismatches of a 1x1 window of `words` words.
template <int kPixels>
EDGEBNN_INLINE void count_words(const Pixel* pixels, const std::uint8_t* weight, std::size_t words, Ahead& ahead,
                                __m512i (&sums)[kPixels * kVectors]) {
  const std::uint8_t* cells[kPixels];
  const __m512i minus_two = _mm512_set1_epi16(-2);
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  for (std::size_t word = 0; word < words; ++word, weight += 4 * kBlock) {
    ahead.step();
    __m512i wanted[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = _mm512_load_si512(weight + 64 * v); });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i seen = broadcast(cells[p] + 4 * word);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(_mm512_xor_si512(seen, wanted[v])), minus_two);
      });
    });
  }
}

// Adds the mismatches of a 3x3 window, three rows of three times `words` words. One loop for all rows, since a loop's
// end is where the processor guesses wrong.
template <int kPixels>
EDGEBNN_INLINE void count_threes(const Pixel* pixels, std::size_t row_bytes, const std::uint8_t* weight,
                                 std::size_t words, Ahead& ahead, __m512i (&sums)[kPixels * kVectors]) {
  const std::uint8_t* cells[kPixels];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] = pixels[p].window; });
  const std::size_t half = 4 * words;  // of a cell
  const __m512i minus_two = _mm512_set1_epi16(-2), minus_four = _mm512_set1_epi16(-4);
  std::size_t at = 0, at_all = half, at_second = 2 * half, left = words;
  for (std::size_t steps = 3 * words; steps; --steps, weight += 3 * 4 * kBlock) {
    ahead.step();
    __m512i wanted[3 * kVectors];
    repeat<3 * kVectors>([&](auto v) __attribute__((always_inline)) {
      wanted[v] = _mm512_load_si512(weight + 64 * v);
    });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      const __m512i first = broadcast(cells[p] + at), second = broadcast(cells[p] + at_second);
      const __m512i all = broadcast(cells[p] + at_all);
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m512i a = _mm512_xor_si512(first, wanted[v]), b = _mm512_xor_si512(second, wanted[kVectors + v]);
        const __m512i s = _mm512_xor_si512(all, wanted[2 * kVectors + v]);
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(s), minus_two);
        add_product(sums[p * kVectors + v], _mm512_popcnt_epi32(majority(a, b, s)), minus_four);
      });
    });
    --left;
    const std::size_t by = left ? 4 : row_bytes + 4 - half;
    left = left ? left : words;
    at += by;
    at_all += by;
    at_second += by;
  }
}

// Pixels counted together at most, the tile.
constexpr int kTilePixels = 7;

// The accumulators of kPixels pixels by a block of channels.
template <int kPixels>
EDGEBNN_INLINE void count(const Job& job, const Pixel* pixels, std::size_t block, Ahead& ahead, std::int32_t* acc) {
  const std::size_t words = word_cell_bytes(job.shape) / 4, first = block * kBlock;
  __m512i sums[kPixels * kVectors];
  repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      sums[p * kVectors + v] = _mm512_load_si512(pixels[p].base + first + 16 * v);
    });
  });
  if (job.shape.kernel == 1) {
    count_words<kPixels>(pixels, job.constants.weight + block * words * 4 * kBlock, words, ahead, sums);
  } else {
    count_threes<kPixels>(pixels, job.row_bytes, job.constants.weight + block * 9 * words * 4 * kBlock, words, ahead,
                          sums);
  }
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { _mm512_store_si512(acc + 16 * i, sums[i]); });
}

// Accumulators, kBlock a pixel, to outputs and bits.
using Finish = void (*)(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc);

template <Shortcut kShortcut, bool kY, bool kPooled, bool kBits>
void finish(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  const std::size_t source = kShortcut == Shortcut::kRepeat && first >= inputs ? first - inputs : first;
  __m512 scale[kVectors], bias[kVectors], slope[kVectors], next[kVectors];
  repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
    const std::size_t channel = first + static_cast<std::size_t>(16 * v);
    scale[v] = Vector::load(job.constants.scale + channel);
    bias[v] = Vector::load(job.constants.bias + channel);
    slope[v] = Vector::load(job.constants.slope + channel);
    if (kBits) next[v] = Vector::load(job.constants.next_threshold + channel);
  });
  for (int p = 0; p < count; ++p, ++pixels, acc += kBlock) {
    const float* x = pixels->x + source;
    float* y = kY ? job.y + pixels->number * outputs + first : nullptr;
    float* pooled = kPooled ? job.pooled + pixels->square * outputs + first : nullptr;
    __mmask16 lanes[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
      __m512 z = _mm512_cvtepi32_ps(_mm512_load_si512(acc + 16 * v));
      z = Vector::add(Vector::multiply(z, scale[v]), bias[v]);
      z = add_shortcut<Vector, kShortcut>(z, x + 16 * v, inputs, row);
      z = Vector::prelu(z, slope[v]);
      if (kY) Vector::store(y + 16 * v, z);
      if (kPooled) pool<Vector>(pooled + 16 * v, pixels->corner, z);
      if (kBits) lanes[v] = _mm512_cmp_ps_mask(z, next[v], _CMP_GE_OQ);
    });
    if (kBits) {
      const __mmask32 both = _mm512_kunpackw(lanes[1], lanes[0]);
      std::memcpy(job.next_bits + pixels->number * (outputs / 8) + first / 8, &both, sizeof both);
    }
  }
}

// Channels that fill no block.
void finish_rest(const Job& job, const Pixel* pixels, int count, std::size_t first, const std::int32_t* acc) {
  const std::size_t left = static_cast<std::size_t>(job.shape.outputs) - first;
  for (int p = 0; p < count; ++p, acc += kBlock) {
    std::int32_t mismatches[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) mismatches[i] = (pixels[p].base[first + i] - acc[i]) / 2;
    finish_plainly(job, pixels[p], first, left < kBlock ? left : kBlock, mismatches);
  }
}

Finish finish_for(const Job& job) {
  if (job.shape.outputs % kBlock || !vectorizable(job, 0, kBlock, kBlock)) return finish_rest;
  Finish found = nullptr;
  with_shortcut(job.shape.shortcut, [&](auto shortcut) {
    constexpr Shortcut k = shortcut.value;
    if (job.next_bits) {
      found = !job.pooled ? finish<k, true, false, true> : job.y ? finish<k, true, true, true> : finish<k, false, true, true>;
    } else {
      found = !job.pooled ? finish<k, true, false, false> : job.y ? finish<k, true, true, false> : finish<k, false, true, false>;
    }
  });
  return found;
}

EDGEBNN_INLINE std::size_t block_bytes(const UnitShape& shape) {
  return static_cast<std::size_t>(shape.kernel * shape.kernel) * word_cell_bytes(shape) * kBlock;
}


// Lines that the tile after this one will write.
EDGEBNN_INLINE void fetch_written(const Job& job, const Pixel* pixels, int count, std::size_t block) {
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  const float* y = job.y + pixels->number * outputs + block * kBlock;
  for (int p = 0; p < count; ++p, y += outputs) {
    fetch(y);
    fetch(y + 16);
  }
}

// What finishing a block needs.
void fetch_constants(const Job& job, std::size_t block) {
  const Constants& constants = job.constants;
  const std::size_t first = block * kBlock, cases = job.shape.kernel == 3 ? 11 : 1;
  for (std::size_t i = 0; i < kBlock; i += 16) {
    for (std::size_t border = 0; border < cases; ++border) {
      fetch(constants.base + border * constants.padded_outputs + first + i);
    }
    fetch(constants.scale + first + i);
    fetch(constants.bias + first + i);
    fetch(constants.slope + first + i);
    if (constants.next_threshold) fetch(constants.next_threshold + first + i);
  }
}

template <int kPixels>
EDGEBNN_INLINE void convolve_tiles(const Job& job, const Pixel* pixels, std::size_t left, std::size_t block, Ahead& ahead, Finish finish) {
  alignas(64) std::int32_t acc[kPixels * kBlock];
  const Pixel* start = pixels;
  const bool afar = job.y && (job.y != job.x || job.shape.kernel == 3);
  for (; left >= kPixels; left -= kPixels, pixels += kPixels) {
    if (afar) {
      if (left >= 2 * kPixels)
        fetch_written(job, pixels + kPixels, kPixels, block);
      else fetch_written(job, start, kPixels, block + 1);
    }
    count<kPixels>(job, pixels, block, ahead, acc);
    finish(job, pixels, kPixels, block * kBlock, acc);
  }
  if constexpr (kPixels > 1) if (left) convolve_tiles<kPixels / 2>(job, pixels, left, block, ahead, finish);
}

void convolve(const Job& job) {
  const Finish finish = finish_for(job);
  Pixel pixels[kTaskPixels];
  Walk walk(job);
  for (std::size_t left = job.last_pixel - job.first_pixel; left;) {
    const std::size_t count = left < kTaskPixels ? left : kTaskPixels;
    walk.take(pixels, count);
    for (std::size_t block = job.first_block; block < job.last_block; ++block) {
      const std::uint8_t* next = job.constants.weight + (block + 1) * block_bytes(job.shape);
      fetch_constants(job, block + 1);
      Ahead ahead{next, next + block_bytes(job.shape)};
      convolve_tiles<kTilePixels>(job, pixels, count, block, ahead, finish);
    }
    left -= count;
  }
}

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
