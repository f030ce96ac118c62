// The AVX-512 path, with VPOPCNTDQ and VNNI: XOR, popcount, add. A vector holds 16 channels, a word 32 bits of each.
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
// Few words need no s and take 7 pixels, which divides the maps of 224x224 images. If averages are computed, a tile is
// two squares.
//
// The micro-kernel writes accumulators, so the output transform works on floats alone. The transform is a loop of its
// own, called through a pointer, with its constants in registers. It was slower when unrolled into each tile's code.
#include <immintrin.h>

#include "generic/image_microkernel.h"
#include "x86/avx512_microkernel.h"
#include "x86/avx512_output_transform.h"

namespace edgebnn {
namespace {

void bitpack(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 16) {
    bitpack_scalar(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 16, bits += 2, x += 16) {
      const std::uint16_t lanes = Vector::at_least(Vector::load(x), threshold + c);
      std::memcpy(bits, &lanes, sizeof lanes);
    }
  }
}

constexpr std::size_t kPrefetchSquares = kTaskPixels / 4;

EDGEBNN_INLINE void prefetch_l1(const void* from) { __builtin_prefetch(from, 0, 3); }

// Prefetches the memory that a tile will write, while the tile is counted. Averages are prefetched much earlier,
// because their lines come from memory.
EDGEBNN_INLINE void prefetch_outputs(const ConvTask& task, const Pixel* pixels, int count, std::size_t first) {
  const std::size_t outputs = static_cast<std::size_t>(task.shape.outputs);
  if (task.pooled) {
    for (int p = 0; p < count; p += 4) {
      const float* pooled = task.pooled + (pixels[p].square + kPrefetchSquares) * outputs + first;
      prefetch_l1(pooled);
      prefetch_l1(pooled + 16);
    }
  } else {
    const float* y = task.y + pixels->number * outputs + first;
    for (int p = 0; p < count; ++p, y += outputs) {
      prefetch_l1(y);
      prefetch_l1(y + 16);
    }
  }
}

// Prefetches the constants of a block, with the accumulator inits of the padding cases.
void prefetch_constants(const ConvTask& task, std::size_t block) {
  const Constants& constants = task.constants;
  const std::size_t first = block * kBlock,
                    cases = task.shape.kernel == 3 ? 11 : 1;  // opposite sides: 1-pixel maps only
  for (std::size_t i = first; i < first + kBlock; i += 16) {
    for (std::size_t padding_case = 0; padding_case < cases; ++padding_case) {
      prefetch_l1(constants.acc_init + padding_case * constants.padded_outputs + i);
    }
    prefetch_l1(constants.scale + i);
    prefetch_l1(constants.bias + i);
    prefetch_l1(constants.slope + i);
    if (constants.next_threshold) prefetch_l1(constants.next_threshold + i);
  }
}

// Computes a block of channels of `left` pixels: in tiles of kPixels, and the rest in tiles of kFewest, a square or one
// pixel. If kFewest is 1, tiles of two pixels come in between.
template <int kPixels, int kFewest>
EDGEBNN_INLINE void convolve_tiles(const ConvTask& task, const Pixel* pixels, std::size_t left, std::size_t block,
                                   const WindowPart& part, WeightPrefetch& prefetch, OutputTransform transform_tile) {
  alignas(64) std::int32_t acc[kPixels * kBlock];
  // A 1x1 unit that works in place has just read what it writes.
  const bool prefetches_outputs = task.y != task.x || task.shape.kernel == 3;
  for (; left >= kPixels; left -= kPixels, pixels += kPixels) {
    if (prefetches_outputs) prefetch_outputs(task, pixels, kPixels, block * kBlock);
    count<kPixels>(task, part, pixels, block, prefetch, acc);
    transform_tile(task, pixels, kPixels, block * kBlock, acc);
  }
  if constexpr (kPixels > kFewest) {
    constexpr int kNext = kFewest == 1 && kPixels > 2 ? 2 : kFewest;
    if (left) convolve_tiles<kNext, kFewest>(task, pixels, left, block, part, prefetch, transform_tile);
  }
}

// Returns how many of `count` pixels from `first` on come before pixel `end`.
EDGEBNN_INLINE std::size_t before(std::size_t end, std::size_t first, std::size_t count) {
  return end <= first ? 0 : end - first < count ? end - first : count;
}

// Takes some pixels at a time, and computes them for all blocks of the task. Finding a pixel takes as long as counting
// a word or two, so each is found only once.
template <int kPixels, int kFewest>
void convolve_in_tiles(const ConvTask& task) {
  constexpr std::size_t kMost = kTaskPixels / kFewest * kFewest;
  const std::size_t blocks = task.constants.padded_outputs / kBlock;
  const std::size_t bytes = word_weight_bytes<kBlock>(task.shape) / blocks;
  const OutputTransform transform_whole = select_output_transform(task);
  const WindowOffsets window(task);
  // The first and the last row of pixels may have windows with a row in the padding, which is skipped.
  const bool skips = task.constants.acc_init_rows_skipped && !task.pooled;
  const bool skips_bottom =
      skips && (task.out_height - 1) * static_cast<std::size_t>(task.shape.stride) + 1 >= task.height;
  const std::size_t top_end = skips ? task.out_width : 0;  // the first pixel after the first row
  const std::size_t bottom_begin =
      skips_bottom ? (task.out_height - 1) * task.out_width : task.out_height * task.out_width;
  const WindowPart all(window), at_top(task, window, true, skips_bottom && task.out_height == 1),
      at_bottom(task, window, false, true);
  Pixel pixels[kMost];
  PixelIterator iterator(task);
  for (std::size_t left = task.last_pixel - task.first_pixel; left;) {
    const std::size_t count = left < kMost ? left : kMost;
    if (task.pooled) {
      iterator.take_squares(pixels, count / 4);
    } else {
      iterator.take(pixels, count);
    }
    const std::size_t first = task.last_pixel - left, inner_begin = before(top_end, first, count);
    const std::size_t bottom = before(bottom_begin, first, count);
    const std::size_t inner_end = bottom < inner_begin ? inner_begin : bottom;  // less if the map has one row
    for (std::size_t block = task.first_block; block < task.last_block; ++block) {
      const std::size_t following = block + 1 < blocks ? block + 1 : 0;
      prefetch_constants(task, following);
      WeightPrefetch prefetch{task.constants.weight + following * bytes, bytes / 64};
      const bool whole = vectorizable(task, block * kBlock, kBlock, Vector::kLanes);
      const OutputTransform transform_tile = whole ? transform_whole : transform_remainder;
      const auto convolve_run = [&](const WindowPart& part, std::size_t begin, std::size_t end) {
        if (begin < end) {
          convolve_tiles<kPixels, kFewest>(task, pixels + begin, end - begin, block, part, prefetch, transform_tile);
        }
      };
      convolve_run(at_top, 0, inner_begin);
      convolve_run(all, inner_begin, inner_end);
      convolve_run(at_bottom, inner_end, count);
    }
    left -= count;
  }
}

void convolve(const ConvTask& task) {
  if (task.pooled) {
    convolve_in_tiles<8, 4>(task);  // whole squares
  } else if (window_words(task.shape) < kFewWords) {
    convolve_in_tiles<kPixelsOfFewWords, 1>(task);
  } else {
    convolve_in_tiles<6, 1>(task);
  }
}

struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 7, kVectors = 2;
  static EDGEBNN_INLINE void pin([[maybe_unused]] __m512& values) {
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
  const __m512i weights = _mm512_set1_epi32(0x3c5a);
  __m512i activation = _mm512_set1_epi32(0x5a5a), sums[kSums];
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[i] = _mm512_setzero_si512(); });
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA {
#if EDGEBNN_AVX512
      __asm__ volatile("" : "+v"(activation));  // keeps the compiler from hoisting the count
#endif
      add_words(sums[i], _mm512_popcnt_epi32(_mm512_xor_si512(activation, weights)));
    });
  }
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[0] = _mm512_add_epi32(sums[0], sums[i]); });
  volatile int used = _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
  (void)used;
  return steps * kSums * 512;
}

std::size_t block(std::size_t) { return kBlock; }

constexpr Path kPath = {
    .block = block,
    .pixel_bytes = word_pixel_bytes,
    .pack_activations = pack_word_activations,
    .wrap_pixels = no_wrap_pixels,
    .bitpack = bitpack,
    .weight_bytes = word_weight_bytes<kBlock>,
    .pack_weights = pack_word_weights<kBlock>,
    .convolve = convolve,
    .skips_padding_rows = true,
    .image_block = ImageTile::kVectors * Vector::kLanes,
    .convolve_image = convolve_image,
    .ceiling = ceiling,
};

}  // namespace

const Path* avx512_path() { return &kPath; }

}  // namespace edgebnn
