// The AVX-512 path, with VPOPCNTDQ and VNNI: XOR, popcount, add; 16 channels per vector, 32 bits of each at a time.
//
// The three instructions share two ports, so a vector takes 1.5 cycles at best. But a full adder turns three words into
// two whose counts add up to the same. Let x and y be the mismatches (XOR) of two words, and s a third word that is
// carried along:
//
//     count(s) + count(x) + count(y) = count(s ^ x ^ y) + 2 * count(majority of s, x and y)
//
// One VPTERNLOG computes s ^ x from s, activations and weights. A second computes s ^ x ^ y, the new s. A third
// computes the majority from s and these two. Only the majority is counted: 5 instructions in place of 6. s is counted
// at the end of the window. Windows of few words are counted one word at a time.
//
// A tile is 6 pixels by 32 channels: s and the counts of 12 vectors, and the weights of a pair, fit into the registers.
// Few words need no s and take 7 pixels, which divides the maps of 224x224 images. Where averages are computed, a tile
// is two squares. The counts end as accumulators, so only floats remain. The output transform is a loop of its own,
// behind a pointer, with its constants in registers. It was slower when unrolled into the code of each tile.
#include <immintrin.h>

#include "x86/avx512_microkernel.h"
#include "x86/avx512_output_transform.h"
#include "generic/image_microkernel.h"

namespace edgebnn {
namespace {

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

constexpr std::size_t kSquaresAhead = kTaskPixels / 4;

EDGEBNN_INLINE void fetch(const void* from) { __builtin_prefetch(from, 0, 3); }

// Prefetches the memory that a tile will write, while the tile is counted. Averages are prefetched much earlier,
// because their lines come from memory.
EDGEBNN_INLINE void fetch_outputs(const Job& job, const Pixel* pixels, int count, std::size_t first) {
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  if (job.pooled) {
    for (int p = 0; p < count; p += 4) {
      const float* pooled = job.pooled + (pixels[p].square + kSquaresAhead) * outputs + first;
      fetch(pooled);
      fetch(pooled + 16);
    }
  } else {
    const float* y = job.y + pixels->number * outputs + first;
    for (int p = 0; p < count; ++p, y += outputs) {
      fetch(y);
      fetch(y + 16);
    }
  }
}

// Prefetches the constants of a block, with the accumulator inits of all border cases.
void fetch_constants(const Job& job, std::size_t block) {
  const Constants& constants = job.constants;
  const std::size_t first = block * kBlock, cases = job.shape.kernel == 3 ? 11 : 1;  // all but of one-pixel sides
  for (std::size_t i = first; i < first + kBlock; i += 16) {
    for (std::size_t border = 0; border < cases; ++border) {
      fetch(constants.base + border * constants.padded_outputs + i);
    }
    fetch(constants.scale + i);
    fetch(constants.bias + i);
    fetch(constants.slope + i);
    if (constants.next_threshold) fetch(constants.next_threshold + i);
  }
}

// A block of channels of `left` pixels, in tiles of kPixels, then of kFewest: one square, or two pixels and one.
template <int kPixels, int kFewest>
EDGEBNN_INLINE void convolve_tiles(const Job& job, const Pixel* pixels, std::size_t left, std::size_t block,
                                   const Part& part, Ahead& ahead, Finish finish_tile) {
  alignas(64) std::int32_t acc[kPixels * kBlock];
  const bool afar = job.y != job.x || job.shape.kernel == 3;  // else what is written was read a moment before
  for (; left >= kPixels; left -= kPixels, pixels += kPixels) {
    if (afar) fetch_outputs(job, pixels, kPixels, block * kBlock);
    count<kPixels>(job, part, pixels, block, ahead, acc);
    finish_tile(job, pixels, kPixels, block * kBlock, acc);
  }
  if constexpr (kPixels > kFewest) {
    constexpr int kNext = kFewest == 1 && kPixels > 2 ? 2 : kFewest;
    if (left) convolve_tiles<kNext, kFewest>(job, pixels, left, block, part, ahead, finish_tile);
  }
}

// Returns how many of `count` pixels from `first` on come before pixel `end`.
EDGEBNN_INLINE std::size_t before(std::size_t end, std::size_t first, std::size_t count) {
  return end <= first ? 0 : end - first < count ? end - first : count;
}

// Some pixels at a time. They are found once for all blocks of the job, because finding one takes as long as counting a
// word or two.
template <int kPixels, int kFewest>
void convolve_in_tiles(const Job& job) {
  constexpr std::size_t kMost = kTaskPixels / kFewest * kFewest;
  const std::size_t blocks = job.constants.padded_outputs / kBlock;
  const std::size_t bytes = word_weight_bytes<kBlock>(job.shape) / blocks;
  const Finish finish_whole = finish_for(job);
  const Window window(job);
  // Rows of pixels whose windows reach beyond the border, and the first pixel after the upper, of the lower one.
  const bool skips = job.constants.inner_base && !job.pooled;
  const bool lower = skips && (job.out_height - 1) * static_cast<std::size_t>(job.shape.stride) + 1 >= job.height;
  const std::size_t top_end = skips ? job.out_width : 0;
  const std::size_t bottom = lower ? (job.out_height - 1) * job.out_width : job.out_height * job.out_width;
  const Part all(window), at_top(job, window, true, lower && job.out_height == 1), at_bottom(job, window, false, true);
  Pixel pixels[kMost];
  Walk walk(job);
  for (std::size_t left = job.last_pixel - job.first_pixel; left;) {
    const std::size_t count = left < kMost ? left : kMost;
    if (job.pooled) {
      walk.take_squares(pixels, count / 4);
    } else {
      walk.take(pixels, count);
    }
    const std::size_t first = job.last_pixel - left, upper = before(top_end, first, count);
    const std::size_t lower_begin = before(bottom, first, count);
    const std::size_t inner_end = lower_begin < upper ? upper : lower_begin;  // less if there is but one row
    for (std::size_t block = job.first_block; block < job.last_block; ++block) {
      const std::size_t following = block + 1 < blocks ? block + 1 : 0;
      fetch_constants(job, following);
      Ahead ahead{job.constants.weight + following * bytes, bytes / 64};
      const bool whole = vectorizable(job, block * kBlock, kBlock, Vector::kLanes);
      const Finish finish_tile = whole ? finish_whole : finish_rest;
      const auto convolve_run = [&](const Part& part, std::size_t begin, std::size_t end) {
        if (begin < end) {
          convolve_tiles<kPixels, kFewest>(job, pixels + begin, end - begin, block, part, ahead, finish_tile);
        }
      };
      convolve_run(at_top, 0, upper);
      convolve_run(all, upper, inner_end);
      convolve_run(at_bottom, inner_end, count);
    }
    left -= count;
  }
}

void convolve(const Job& job) {
  if (job.pooled) {
    convolve_in_tiles<8, 4>(job);  // of whole squares
  } else if (window_words(job.shape) < kFewWords) {
    convolve_in_tiles<kPixelsOfFew, 1>(job);
  } else {
    convolve_in_tiles<6, 1>(job);
  }
}

struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 7, kVectors = 2;
  static EDGEBNN_INLINE void keep([[maybe_unused]] __m512& values) {
#if EDGEBNN_AVX512
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
#if EDGEBNN_AVX512
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
                        true,
                        ImageTile::kVectors * Vector::kLanes,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* avx512_path() { return &kPath; }

}  // namespace edgebnn
