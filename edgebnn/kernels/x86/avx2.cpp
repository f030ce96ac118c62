// The AVX2 path: counts mismatches by table lookup, two pixels at a time.
//
// AVX2 has no popcount. XOR with a popcount made of two table lookups costs 8 instructions for 256 bits. But VPSHUFB
// can look up the mismatches themselves. The activation bits of four input channels choose a table of 16 bytes. The
// weight bits of an output channel choose an entry: the number of bits in which the two differ. An entry is at most 4,
// so the other half of its byte is free for a second pixel. The bits of both pixels choose one of 256 tables, whose
// entries are the mismatches of the first pixel plus 16 times those of the second pixel. One VPSHUFB then looks up 4
// inputs of 32 output channels of 2 pixels.
//
// The entries of three groups of inputs, a triple, are added to x. x is at most 12 + 16 * 12, so nothing is carried.
// Two running sums are kept per byte, modulo 256: `all` adds x, and `shifted` adds x >> 4, the mismatches of the second
// pixel. AVX2 shifts 16-bit numbers and no bytes. So the even bytes of `shifted` also receive the first pixel's
// mismatches of the odd bytes, times 16. A mask would cost an instruction each time. Instead the sums are corrected
// once at the end (count_pairs). all - 16 * shifted is the first pixel's count, in even bytes too, because there the
// excess counts 256 times. The first pixel's count of the odd bytes then corrects the even bytes of `shifted`. This is
// exact, because no count of mismatches reaches 256 (kMostTriples). In all, 8 instructions do 3 * 256
// multiply-accumulates.
//
// Packed activations: one 16-bit number for every 4 channels, the offset of the table for this pixel and its partner.
// The partner is the pixel at the same place in the next output pixel's window: `stride` to the right. At the end of a
// row of odd length the partner lies in the row below (wrap_pixels in path.h).
//
// Packed weights: blocks of 128 channels, the last one of 32, 64 or 128. A block has (groups of 4 inputs, channels)
// bytes, whose low half is the four bits. Byte 4 j + b of 32 is channel 8 b + j, so that masks and shifts spread the
// byte sums into vectors of 8 neighbouring channels.
//
// A block is counted one chunk of inputs at a time, for all pairs of pixels one after the other. The weights of a chunk
// then stay in the first-level cache. The 16-bit sums wait in memory.
#include "generic/image_microkernel.h"
#include "x86/avx2_microkernel.h"
#include "x86/avx2_output_transform.h"

namespace edgebnn {
namespace {

// Packed pixels of this size and larger are prefetched, because the processor itself prefetches smaller steps only.
constexpr std::size_t kPrefetchPixelBytes = 256;
constexpr std::size_t kMostPairs = 49;  // of pixels, whose sums wait in memory: 25 kB

// Up to kMostPairs pairs of neighbours. If pixels wrap around, the last pixel of a row is paired with the first pixel
// of the next row.
struct Pairs {
  Pixel pixels[kMostPairs][2];
  bool alone[kMostPairs];
  std::size_t count, pixels_taken;

  std::size_t members(std::size_t pair) const { return alone[pair] ? 1 : 2; }

  // Not inlined, and with its own copy of the iterator, so that everything fits into registers.
  __attribute__((noinline)) void take(const ConvTask& task, PixelIterator& from, std::size_t most_pixels) {
    PixelIterator iterator = from;
    const std::size_t wrap_count = wrap_pixels(task.shape, task.out_width);
    const std::size_t last_window =
        (task.out_width - 1) * static_cast<std::size_t>(task.shape.stride) * task.pixel_bytes;
    pixels_taken = 0;
    for (count = 0; pixels_taken < most_pixels && count < kMostPairs; ++count) {
      pixels[count][0] = iterator.next();
      ++pixels_taken;
      alone[count] = pixels_taken == most_pixels || (iterator.at_row_start() && !wrap_count);
      if (alone[count]) continue;
      if (iterator.at_row_start()) {
        pixels[count][0].window += task.row_bytes - wrap_count * task.pixel_bytes - last_window;
      }
      pixels[count][1] = iterator.next();
      ++pixels_taken;
    }
    from = iterator;
  }
};

// The memory to prefetch while a chunk is counted.
struct Prefetch {
  const std::uint8_t* weight;  // the weights of the next chunk
  std::size_t lines;           // of 64 bytes of these weights
  std::size_t channels;        // floats of each pixel that the output transform is about to read and write
  std::size_t x, y;            // the first of these channels in the shortcut, and in the output
};

EDGEBNN_INLINE void prefetch_l2(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T1); }
EDGEBNN_INLINE void prefetch_l1(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T0); }

EDGEBNN_INLINE void prefetch_l2(const float* from, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; i += 16) prefetch_l2(from + i);
}

// Adds the mismatches of a chunk to the sums of kPairs pairs. Writes them if the sums are fresh.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_pairs(const Pairs& pairs, std::size_t pair, std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, bool fresh, __m256i* sums) {
  constexpr int kAll = kPairs * kVectors;
  const __m256i low = _mm256_set1_epi8(15), upper_of_even = _mm256_set1_epi16(0xf0);
  const std::uint8_t* activations[kPairs];
  repeat<kPairs>([&](auto p) EDGEBNN_INLINE_LAMBDA {
    const Pixel& pixel = pairs.pixels[pair + p][0];
    activations[p] = pixel.window + chunk.offset;
  });
  __m256i all[kAll], shifted[kAll];
  repeat<kAll>([&](auto v) EDGEBNN_INLINE_LAMBDA { all[v] = shifted[v] = _mm256_setzero_si256(); });
  count_bytes<kPairs, kVectors>(activations, row_bytes, chunk, weight, all, shifted);
  repeat<kAll>([&](auto v) EDGEBNN_INLINE_LAMBDA {
    // Modulo 256, 16 times a byte is 16 times its lower half.
    const __m256i sixteenfold = _mm256_slli_epi16(_mm256_and_si256(shifted[v], low), 4);
    const __m256i first = _mm256_sub_epi8(all[v], sixteenfold);
    const __m256i of_odd = _mm256_and_si256(_mm256_srli_epi16(first, 4), upper_of_even);
    const __m256i partner = _mm256_sub_epi8(shifted[v], of_odd);
    const __m256i counts[kSums] = {first, _mm256_srli_epi16(first, 8), partner, _mm256_srli_epi16(partner, 8)};
    repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA {
      __m256i& sum = sums[v * kSums + i];
      sum = fresh ? counts[i] : _mm256_add_epi16(sum, counts[i]);
    });
  });
}

// Adds the mismatches of a chunk to the sums of all pairs, and meanwhile prefetches what is needed next.
template <int kVectors>
void count_chunk(const ConvTask& task, const Pairs& pairs, const Chunk& chunk, const std::uint8_t* weight, bool fresh,
                 const Prefetch& prefetch, __m256i* sums) {
  const std::size_t row_bytes = task.row_bytes;
  std::size_t pair = 0;
  if constexpr (kVectors == 1) {  // a table serves only one shuffle, so weights serve four pairs
    for (; pair + 4 <= pairs.count; pair += 4, sums += 4 * kSums) {
      count_pairs<4, 1>(pairs, pair, row_bytes, chunk, weight, fresh, sums);
    }
  }
  const std::size_t lines = (prefetch.lines + pairs.count - 1) / pairs.count;  // for each pair
  const std::uint8_t* next = prefetch.weight;
  const bool prefetches_pixels = task.pixel_bytes >= kPrefetchPixelBytes;
  for (; pair < pairs.count; ++pair, sums += kVectors * kSums) {
    for (std::size_t line = 0; line < lines; ++line, next += 64) prefetch_l2(next);
    for (std::size_t p = 0; prefetch.channels && p < pairs.members(pair); ++p) {
      prefetch_l2(pairs.pixels[pair][p].x, prefetch.x, prefetch.channels);
      prefetch_l2(pairs.pixels[pair][p].written(task), prefetch.y, prefetch.channels);
    }
    if (prefetches_pixels && pair + 1 < pairs.count) {
      const std::uint8_t* window = pairs.pixels[pair + 1][0].window + chunk.offset;
      prefetch_l1(window);
      prefetch_l1(window + 64);
      prefetch_l1(window + 6 * (chunk.triples < chunk.left_in_row ? chunk.triples : chunk.left_in_row) - 1);
    }
    count_pairs<1, kVectors>(pairs, pair, row_bytes, chunk, weight, fresh, sums);
  }
}

// Computes one block of channels of the task's pixels.
template <int kVectors, Shortcut kShortcut>
void convolve_block(const ConvTask& task, std::size_t first) {
  constexpr std::size_t channels = 32 * kVectors;
  const std::size_t kernel = static_cast<std::size_t>(task.shape.kernel);
  const std::size_t inputs = static_cast<std::size_t>(task.shape.inputs);
  const std::size_t outputs = static_cast<std::size_t>(task.shape.outputs);
  const BlockConstants constants(task, first, channels);
  const bool contiguous_shortcut = kShortcut != Shortcut::kRepeat || inputs % 32 == 0;
  const std::size_t whole = !contiguous_shortcut ? 0 : outputs - first < channels ? (outputs - first) / 32 : kVectors;
  const std::size_t source = kShortcut == Shortcut::kRepeat && first >= inputs ? first - inputs : first;
  const bool several_blocks = outputs > kBlock;  // then neither weights nor the pixels' floats stay in the caches
  const std::size_t triples = kernel * task.pixel_bytes / 6;  // of a row of the window
  const std::size_t parts = (kernel * triples + kMostTriples - 1) / kMostTriples;
  __m256i sums[kMostPairs * kVectors * kSums];
  Pairs pairs;
  PixelIterator iterator(task);
  for (std::size_t left = task.last_pixel - task.first_pixel; left; left -= pairs.pixels_taken) {
    pairs.take(task, iterator, left);
    const std::uint8_t* weight = task.constants.weight + first * kernel * kernel * task.pixel_bytes / 2;
    for (std::size_t part = 0; part < parts; ++part) {
      const std::size_t start = part * kernel * triples / parts, end = (part + 1) * kernel * triples / parts;
      const std::size_t row = start / triples, column = start % triples;
      const Chunk chunk{.offset = row * task.row_bytes + 6 * column,
                        .triples = end - start,
                        .left_in_row = triples - column,
                        .per_row = triples};
      const std::size_t bytes = chunk.triples * 96 * kVectors;
      const bool last = part + 1 == parts;
      const Prefetch prefetch{.weight = weight + bytes,
                              .lines = several_blocks ? bytes / 64 : 0,
                              .channels = several_blocks && last ? channels : 0,
                              .x = source,
                              .y = first};
      count_chunk<kVectors>(task, pairs, chunk, weight, part == 0, prefetch, sums);
      weight += bytes;
    }
    for (std::size_t pair = 0; pair < pairs.count; ++pair) {
      const __m256i* pixel_sums = sums + pair * kVectors * kSums;
      if (kShortcut == Shortcut::kRepeat && !several_blocks && pair + 2 < pairs.count && !pairs.alone[pair + 2]) {
        // This shortcut stores twice as much as it loads. Without prefetching, the stores would wait for each other.
        prefetch_l2(pairs.pixels[pair + 2][0].written(task), first, channels);
        prefetch_l2(pairs.pixels[pair + 2][1].written(task), first, channels);
      }
      const Pixel* pixels = pairs.pixels[pair];
      transform_output<kVectors, kShortcut>(task, constants, pixels[0], first, whole, pixel_sums);
      if (pairs.alone[pair]) continue;
      transform_output<kVectors, kShortcut>(task, constants, pixels[1], first, whole, pixel_sums + kSums / 2);
    }
  }
}

template <Shortcut kShortcut>
void convolve_with(const ConvTask& task) {
  for (std::size_t block = task.first_block; block < task.last_block; ++block) {
    const std::size_t first = block * kBlock;
    switch (block_channels(task.shape, first)) {
      case 32: convolve_block<1, kShortcut>(task, first); break;
      case 64: convolve_block<2, kShortcut>(task, first); break;
      default: convolve_block<4, kShortcut>(task, first);
    }
  }
}

void convolve(const ConvTask& task) {
  with_shortcut(task.shape.shortcut, [&](auto shortcut) { convolve_with<shortcut.value>(task); });
}

// The processor does two multiply-adds per cycle, so 8 sums hide a latency of 4 cycles.
struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 2, kVectors = 4;
  static EDGEBNN_INLINE void pin(__m256& sum) { __asm__ volatile("" : "+x"(sum)); }
  static EDGEBNN_INLINE void bits(const __m256 (&y)[kVectors], const float* threshold, std::uint8_t* to) {
    store_bits(y, threshold, to);
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_set1_epi8(15);
  __m256i activation = _mm256_set1_epi8(0x5a), sums[8];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<8>([&](auto i) EDGEBNN_INLINE_LAMBDA {
      __asm__ volatile("" : "+x"(activation));  // keeps the compiler from hoisting the count
      const __m256i differ = _mm256_xor_si256(activation, low);
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

constexpr Path kPath = {
    .block = block,
    .pixel_bytes = pixel_bytes,
    .pack_activations = pack_activations,
    .wrap_pixels = wrap_pixels,
    .bitpack = bitpack,
    .weight_bytes = weight_bytes,
    .pack_weights = pack_weights,
    .convolve = convolve,
    .skips_padding_rows = false,
    .image_block = ImageTile::kVectors * Vector::kLanes,
    .convolve_image = convolve_image,
    .ceiling = ceiling,
};

}  // namespace

const Path* avx2_path() { return &kPath; }

}  // namespace edgebnn
