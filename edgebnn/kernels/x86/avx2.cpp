// The AVX2 path: counts mismatches by table lookup, two pixels at a time.
//
// AVX2 has no popcount, and XOR with a popcount made of two table lookups costs 8 instructions for 256 bits. But
// VPSHUFB can look up the mismatches themselves. For four input channels the activation bits choose a table of 16
// bytes, and the weight bits of an output channel choose an entry: the number of bits in which the two differ. That is
// at most 4, so the other half of the byte is free for a second pixel. The bits of both pixels choose one of 256
// tables, whose entries are the mismatches of the first pixel plus 16 times those of the second. One VPSHUFB then looks
// up 4 inputs of 32 output channels of 2 pixels.
//
// Three such entries are added to x, which is at most 12 + 16 * 12, so nothing is carried. Two running sums are kept
// per byte, modulo 256: `all` adds x, and `second` adds x >> 4, which should be the second pixel's mismatches. AVX2
// shifts 16-bit numbers and no bytes. So the even bytes of `second` also receive the first pixel's mismatches of the
// odd bytes, times 16. A mask would cost an instruction each time. Instead the sums are corrected once at the end: all
// - 16 * second is the first pixel's count, in even bytes too, where the excess counts 256 times. With the first
// pixel's count of the odd bytes, the even bytes of `second` are corrected. This is exact, since no count of mismatches
// reaches 256 (kMostTriples). In all it takes 8 instructions for 3 * 256 multiply-accumulates.
//
// Cells: one 16-bit number for every 4 channels, the place where the table of this pixel and its partner begins. The
// partner is the pixel at the same place in the next output pixel's window: `stride` to the right, or at a seam
// (path.h) in the row below. Weights: blocks of 128 channels, the last one of 32, 64 or 128. A block has (groups of 4
// inputs, channels) bytes, whose low half is the four bits. Byte 4 j + b of 32 is channel 8 b + j, so that masks and
// shifts spread the byte sums into vectors of 8 neighbouring channels.
//
// A block is counted one chunk of inputs at a time, for all pairs of pixels one after the other, so that the weights of
// a chunk stay in the first-level cache. The 16-bit sums wait in memory.
#include "x86/avx2_microkernel.h"
#include "x86/avx2_output_transform.h"
#include "generic/image_microkernel.h"

namespace edgebnn {
namespace {

constexpr std::size_t kFarApart = 256;  // bytes of a cell: the processor's own prefetching does not step so far
constexpr std::size_t kMostPairs = 49;  // of pixels whose sums wait in memory: 25 kB

// Up to kMostPairs pairs of neighbours. With a seam, the last pixel of a row is paired with the first of the next row.
struct Pairs {
  Pixel pixels[kMostPairs][2];
  bool alone[kMostPairs];
  std::size_t count, pixels_taken;

  std::size_t members(std::size_t pair) const { return alone[pair] ? 1 : 2; }

  // Not inlined, and with its own copy of the walk, so that everything fits into registers.
  __attribute__((noinline)) void take(const Job& job, Walk& from, std::size_t most_pixels) {
    Walk walk = from;
    const std::size_t seam_cells = seam(job.shape, job.out_width);
    const std::size_t last_window = (job.out_width - 1) * static_cast<std::size_t>(job.shape.stride) * job.cell_bytes;
    pixels_taken = 0;
    for (count = 0; pixels_taken < most_pixels && count < kMostPairs; ++count) {
      pixels[count][0] = walk.next();
      ++pixels_taken;
      alone[count] = pixels_taken == most_pixels || (walk.at_row_start() && !seam_cells);
      if (alone[count]) continue;
      if (walk.at_row_start()) {
        pixels[count][0].window += job.row_bytes - seam_cells * job.cell_bytes - last_window;
      }
      pixels[count][1] = walk.next();
      ++pixels_taken;
    }
    from = walk;
  }
};

// The memory to prefetch while a chunk is counted.
struct Ahead {
  const std::uint8_t* weight;  // of the next chunk
  std::size_t lines;           // of 64 bytes of it
  std::size_t channels;        // floats of each pixel that finishing is about to read and write
  std::size_t x, y;            // where they begin among the pixel's
};

EDGEBNN_INLINE void fetch(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T1); }
EDGEBNN_INLINE void fetch_close(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T0); }

EDGEBNN_INLINE void fetch(const float* from, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; i += 16) fetch(from + i);
}

// Adds the mismatches of a chunk to the sums of kPairs pairs, or writes them if the sums are fresh.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_pairs(const Pairs& pairs, std::size_t pair, std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, bool fresh, __m256i* sums) {
  constexpr int kAll = kPairs * kVectors;
  const __m256i low = _mm256_set1_epi8(15), upper_of_even = _mm256_set1_epi16(0xf0);
  const std::uint8_t* cells[kPairs];
  repeat<kPairs>([&](auto p) __attribute__((always_inline)) {
    cells[p] = pairs.pixels[pair + p][0].window + chunk.offset;
  });
  __m256i all[kAll], second[kAll];
  repeat<kAll>([&](auto v) __attribute__((always_inline)) { all[v] = second[v] = _mm256_setzero_si256(); });
  count_bytes<kPairs, kVectors>(cells, row_bytes, chunk, weight, all, second);
  repeat<kAll>([&](auto v) __attribute__((always_inline)) {
    // All of bytes modulo 256: 16 times a byte are 16 times its lower half.
    const __m256i sixteenfold = _mm256_slli_epi16(_mm256_and_si256(second[v], low), 4);
    const __m256i first = _mm256_sub_epi8(all[v], sixteenfold);
    const __m256i of_odd = _mm256_and_si256(_mm256_srli_epi16(first, 4), upper_of_even);
    const __m256i partner = _mm256_sub_epi8(second[v], of_odd);
    const __m256i counts[kSums] = {first, _mm256_srli_epi16(first, 8), partner, _mm256_srli_epi16(partner, 8)};
    repeat<kSums>([&](auto i) __attribute__((always_inline)) {
      __m256i& sum = sums[v * kSums + i];
      sum = fresh ? counts[i] : _mm256_add_epi16(sum, counts[i]);
    });
  });
}

// The same for all pairs, while the next data are prefetched.
template <int kVectors>
void count_chunk(const Job& job, const Pairs& pairs, const Chunk& chunk, const std::uint8_t* weight, bool fresh,
                 const Ahead& ahead, __m256i* sums) {
  const std::size_t row_bytes = job.row_bytes;
  std::size_t pair = 0;
  if constexpr (kVectors == 1) {  // a table serves one shuffle only, but weights four pairs
    for (; pair + 4 <= pairs.count; pair += 4, sums += 4 * kSums) {
      count_pairs<4, 1>(pairs, pair, row_bytes, chunk, weight, fresh, sums);
    }
  }
  const std::size_t lines = (ahead.lines + pairs.count - 1) / pairs.count;  // for each pair
  const std::uint8_t* next = ahead.weight;
  const bool far_apart = job.cell_bytes >= kFarApart;
  for (; pair < pairs.count; ++pair, sums += kVectors * kSums) {
    for (std::size_t line = 0; line < lines; ++line, next += 64) fetch(next);
    for (std::size_t p = 0; ahead.channels && p < pairs.members(pair); ++p) {
      fetch(pairs.pixels[pair][p].x, ahead.x, ahead.channels);
      fetch(pairs.pixels[pair][p].written(job), ahead.y, ahead.channels);
    }
    if (far_apart && pair + 1 < pairs.count) {
      const std::uint8_t* window = pairs.pixels[pair + 1][0].window + chunk.offset;
      fetch_close(window);
      fetch_close(window + 64);
      fetch_close(window + 6 * (chunk.triples < chunk.in_row ? chunk.triples : chunk.in_row) - 1);
    }
    count_pairs<1, kVectors>(pairs, pair, row_bytes, chunk, weight, fresh, sums);
  }
}

// One block of channels of the job's pixels.
template <int kVectors, Shortcut kShortcut>
void convolve_block(const Job& job, std::size_t first) {
  constexpr std::size_t channels = 32 * kVectors;
  const std::size_t kernel = static_cast<std::size_t>(job.shape.kernel);
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs);
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  const BlockConstants constants(job, first, channels);
  const bool side_by_side = kShortcut != Shortcut::kRepeat || inputs % 32 == 0;
  const std::size_t whole = !side_by_side ? 0 : outputs - first < channels ? (outputs - first) / 32 : kVectors;
  const std::size_t source = kShortcut == Shortcut::kRepeat && first >= inputs ? first - inputs : first;
  const bool far = outputs > kBlock;  // weights do not stay in the caches, pixels are taken in pieces
  const std::size_t triples = kernel * job.cell_bytes / 6;  // of a row of the window
  const std::size_t parts = (kernel * triples + kMostTriples - 1) / kMostTriples;
  __m256i sums[kMostPairs * kVectors * kSums];
  Pairs pairs;
  Walk walk(job);
  for (std::size_t left = job.last_pixel - job.first_pixel; left; left -= pairs.pixels_taken) {
    pairs.take(job, walk, left);
    const std::uint8_t* weight = job.constants.weight + first * kernel * kernel * job.cell_bytes / 2;
    for (std::size_t part = 0; part < parts; ++part) {
      const std::size_t start = part * kernel * triples / parts, end = (part + 1) * kernel * triples / parts;
      const std::size_t row = start / triples, column = start % triples;
      const Chunk chunk{row * job.row_bytes + 6 * column, end - start, triples - column, triples};
      const std::size_t bytes = chunk.triples * 96 * kVectors;
      // What comes from afar is asked for while there is something to count.
      const bool last = part + 1 == parts;
      const Ahead ahead{weight + bytes, far ? bytes / 64 : 0, far && last ? channels : 0, source, first};
      count_chunk<kVectors>(job, pairs, chunk, weight, part == 0, ahead, sums);
      weight += bytes;
    }
    for (std::size_t pair = 0; pair < pairs.count; ++pair) {
      const __m256i* own = sums + pair * kVectors * kSums;
      if (kShortcut == Shortcut::kRepeat && !far && pair + 2 < pairs.count && !pairs.alone[pair + 2]) {
        // Stores of twice what is loaded: their lines are fetched, too, or wait for each other.
        fetch(pairs.pixels[pair + 2][0].written(job), first, channels);
        fetch(pairs.pixels[pair + 2][1].written(job), first, channels);
      }
      const Pixel* pixels = pairs.pixels[pair];
      finish<kVectors, kShortcut>(job, constants, pixels[0], first, whole, own);
      if (pairs.alone[pair]) continue;
      finish<kVectors, kShortcut>(job, constants, pixels[1], first, whole, own + kSums / 2);
    }
  }
}

template <Shortcut kShortcut>
void convolve_with(const Job& job) {
  for (std::size_t block = job.first_block; block < job.last_block; ++block) {
    const std::size_t first = block * kBlock;
    switch (block_channels(job.shape, first)) {
      case 32: convolve_block<1, kShortcut>(job, first); break;
      case 64: convolve_block<2, kShortcut>(job, first); break;
      default: convolve_block<4, kShortcut>(job, first);
    }
  }
}

void convolve(const Job& job) {
  with_shortcut(job.shape.shortcut, [&](auto shortcut) { convolve_with<shortcut.value>(job); });
}

// Two multiply-adds a cycle; 8 sums hide a latency of 4 cycles.
struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 2, kVectors = 4;
  static EDGEBNN_INLINE void keep(__m256& sum) { __asm__ volatile("" : "+x"(sum)); }
  static EDGEBNN_INLINE void bits(const __m256 (&y)[kVectors], const float* threshold, std::uint8_t* to) {
    store_bits(y, threshold, to);
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

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

constexpr Path kPath = {block,
                        cell_bytes,
                        to_cells,
                        seam,
                        compare,
                        weight_bytes,
                        pack_weights,
                        convolve,
                        false,
                        ImageTile::kVectors * Vector::kLanes,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* avx2_path() { return &kPath; }

}  // namespace edgebnn
