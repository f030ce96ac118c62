// AVX2: counting by table lookup instead of XOR and popcount, two pixels at a time.
//
// AVX2 has no popcount, and XOR with a popcount made of two table lookups costs 8 instructions for 256 bits. But
// vpshufb can look up the mismatches themselves: for four input channels the activation bits choose a table of 16
// bytes, the weight bits of an output channel choose an entry, and the entry is the number of bits in which the two
// differ. That is at most 4, so the other half of the byte is free for a second pixel: the bits of both choose one of
// 256 tables, whose entries are the mismatches of the first plus 16 times those of the second. One vpshufb then looks
// up 4 inputs of 32 output channels of 2 pixels.
//
// Three such entries x add up to 12 + 16 * 12 without a carry. `all` sums x modulo 256, `second` the upper halves of
// x; `first` = all - 16 * second follows at the end, exactly, since no sum reaches 256 (kMostTriples). In all 9
// instructions for 3 * 256 multiply-accumulates.
//
// Cells: for every 4 channels a 16-bit number, where the table of this pixel and its partner begins. The partner is
// the one that the next output pixel sees in this one's place: `stride` to the right, or at a seam (path.h) in the row
// below.
// Weights: blocks of 128 channels, the last of 32, 64 or 128: (groups of 4 inputs, channels) bytes, whose low half
// are the four bits; byte 4 j + b of 32 is channel 8 b + j, so that the byte sums unfold into vectors of 8
// neighbouring channels by masks and shifts.
//
// A block is counted a chunk of inputs at a time, for all pairs of pixels one after the other, so that the weights of
// a chunk stay in the first cache; 16-bit sums wait in memory.
#include <immintrin.h>

#include "words.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 128;

std::size_t block(std::size_t outputs) { return outputs > 64 ? kBlock : outputs > 32 ? 64 : 32; }

constexpr std::size_t kMostTriples = 21;  // of 12 mismatches each that a byte can hold
constexpr std::size_t kMostPairs = 49;    // of pixels whose sums wait in memory: 25 kB

struct Tables {
  alignas(64) std::uint8_t mismatches[256][16];
};

constexpr unsigned count_bits(unsigned value) {
  unsigned count = 0;
  for (; value; value &= value - 1) ++count;
  return count;
}

constexpr Tables make_tables() {
  Tables tables{};
  for (unsigned pair = 0; pair < 256; ++pair) {
    for (unsigned weight = 0; weight < 16; ++weight) {
      const unsigned first = count_bits((pair & 15) ^ weight), second = count_bits((pair >> 4) ^ weight);
      tables.mismatches[pair][weight] = static_cast<std::uint8_t>(first + 16 * second);
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

// Groups of 4 channels in a cell. A row of a 3x3 window is three cells, so it is triples of groups in any case.
std::size_t cell_groups(const UnitShape& shape) {
  const std::size_t groups = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 4;
  return shape.kernel == 1 ? rounded_up(groups, 3) : groups;
}

std::size_t cell_bytes(const UnitShape& shape) { return 2 * cell_groups(shape); }

// 16 or 4 bytes of bits of two pixels: `low` halves of bytes are even groups.
struct Halves {
  __m128i even, odd;
};
EDGEBNN_INLINE Halves pair_halves(__m128i first, __m128i second) {
  const __m128i low = _mm_set1_epi8(15), high = _mm_set1_epi8(static_cast<char>(0xf0));
  return {_mm_or_si128(_mm_and_si128(first, low), _mm_and_si128(_mm_slli_epi16(second, 4), high)),
          _mm_or_si128(_mm_and_si128(_mm_srli_epi16(first, 4), low), _mm_and_si128(second, high))};
}

// Eight bytes, each the number of a table, to where the tables begin.
EDGEBNN_INLINE void store_places(std::uint8_t* to, __m128i bytes_above_zeros) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_srli_epi16(bytes_above_zeros, 4));
}

// The cells of `bytes` bytes of packed bits and of their partners.
EDGEBNN_INLINE void pair_bytes(const std::uint8_t* first, const std::uint8_t* second, std::size_t bytes,
                               std::uint8_t* cells) {
  const __m128i zero = _mm_setzero_si128();
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    const Halves halves = pair_halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first + i)),
                                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(second + i)));
    const __m128i low = _mm_unpacklo_epi8(halves.even, halves.odd), high = _mm_unpackhi_epi8(halves.even, halves.odd);
    store_places(cells + 4 * i, _mm_unpacklo_epi8(zero, low));
    store_places(cells + 4 * i + 16, _mm_unpackhi_epi8(zero, low));
    store_places(cells + 4 * i + 32, _mm_unpacklo_epi8(zero, high));
    store_places(cells + 4 * i + 48, _mm_unpackhi_epi8(zero, high));
  }
  for (; i + 4 <= bytes; i += 4) {
    std::int32_t four, partners;
    std::memcpy(&four, first + i, 4);
    std::memcpy(&partners, second + i, 4);
    const Halves halves = pair_halves(_mm_cvtsi32_si128(four), _mm_cvtsi32_si128(partners));
    store_places(cells + 4 * i, _mm_unpacklo_epi8(zero, _mm_unpacklo_epi8(halves.even, halves.odd)));
  }
  for (; i < bytes; ++i) {
    const unsigned even = (first[i] & 15u) | (second[i] & 15u) << 4, odd = first[i] >> 4 | (second[i] & 0xf0u);
    const std::uint16_t places[2] = {static_cast<std::uint16_t>(16 * even), static_cast<std::uint16_t>(16 * odd)};
    std::memcpy(cells + 4 * i, places, sizeof places);
  }
}

// Cells of pixels of `bytes` bytes, which end on kEmpty groups without inputs.
template <std::size_t kEmpty>
void pair_pixels(const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels, std::size_t bytes,
                 std::uint8_t* cells) {
  constexpr std::uint8_t kNone[2 * kEmpty] = {};
  for (; pixels; --pixels, bits += bytes, partners += bytes, cells += 4 * bytes + sizeof kNone) {
    pair_bytes(bits, partners, bytes, cells);
    std::memcpy(cells + 4 * bytes, kNone, sizeof kNone);
  }
}

// Rows of odd length would leave a pixel alone in each.
std::size_t seam(const UnitShape& shape, std::size_t out_width) {
  return shape.kernel == 3 && out_width % 2 ? static_cast<std::size_t>(shape.kernel) : 0;
}

void to_cells(const UnitShape& shape, const std::uint8_t* bits, const std::uint8_t* partners, std::size_t pixels,
              std::uint8_t* cells) {
  const std::size_t bytes = rounded_up(static_cast<std::size_t>(shape.inputs), 8) / 8;
  switch (cell_groups(shape) - 2 * bytes) {
    case 0: return pair_bytes(bits, partners, pixels * bytes, cells);
    case 1: return pair_pixels<1>(bits, partners, pixels, bytes, cells);
    default: return pair_pixels<2>(bits, partners, pixels, bytes, cells);
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

// The channels of the block that begins with channel `first`, rounded up to what is counted together.
std::size_t block_channels(const UnitShape& shape, std::size_t first) {
  const std::size_t left = static_cast<std::size_t>(shape.outputs) - first;
  return left > 64 ? kBlock : left > 32 ? 64 : 32;
}

std::size_t weight_bytes(const UnitShape& shape) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel);
  const std::size_t last = static_cast<std::size_t>(shape.outputs - 1) / kBlock * kBlock;
  return (last + block_channels(shape, last)) * taps * cell_groups(shape);
}

void pack_weights(const UnitShape& shape, const std::uint8_t* weight, std::uint8_t* packed) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel * shape.kernel), groups = cell_groups(shape);
  const std::size_t inputs = static_cast<std::size_t>(shape.inputs), outputs = static_cast<std::size_t>(shape.outputs);
  const std::size_t bytes = rounded_up(inputs, 8) / 8;
  std::memset(packed, 0, weight_bytes(shape));
  for (std::size_t o = 0; o < outputs; ++o) {
    const std::size_t first = o / kBlock * kBlock, channels = block_channels(shape, first);
    const std::size_t place = (o - first) / 32 * 32 + 4 * (o % 8) + o % 32 / 8;
    std::uint8_t* to = packed + first * taps * groups + place;
    for (std::size_t tap = 0; tap < taps; ++tap) {
      for (std::size_t byte = 0; byte < bytes; ++byte) {
        const std::uint8_t pair = weight[(o * taps + tap) * bytes + byte];
        to[(tap * groups + 2 * byte) * channels] = pair & 15;
        to[(tap * groups + 2 * byte + 1) * channels] = pair >> 4;
      }
    }
  }
}

// sum += entry. Written out because GCC 12 spends a copy of the sum on each of these additions.
EDGEBNN_INLINE void add_bytes(__m256i& sum, __m256i entry) {
  __asm__("vpaddb %1, %0, %0" : "+x"(sum) : "x"(entry));
}

// 16-bit sums of 32 channels of a pair of pixels: even and odd bytes of the first, then of the second.
constexpr int kSums = 4;

// Up to kMostPairs pairs of neighbours; the last pixel of a row goes with the next row's first if there is a seam.
struct Pairs {
  Pixel pixels[kMostPairs][2];
  bool alone[kMostPairs];
  std::size_t count, pixels_taken;

  std::size_t members(std::size_t pair) const { return alone[pair] ? 1 : 2; }

  void take(const Job& job, Walk& walk, std::size_t most_pixels) {
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
  }
};

// A piece of the window: some rows, or a part of one.
struct Chunk {
  std::size_t offset;   // of its first cell from the window's
  std::size_t rows;     // at least one
  std::size_t triples;  // of groups in each; at most kMostTriples in all rows
};

// The mismatches of a chunk for 32 * kVectors channels of kPairs pairs, in bytes: of both pixels as `all`, of the second.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_bytes(const std::uint8_t* (&cells)[kPairs], std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, __m256i (&all)[kPairs * kVectors],
                                __m256i (&second)[kPairs * kVectors]) {
  const auto* tables = reinterpret_cast<const std::uint8_t*>(kTables.mismatches);
  const __m256i low = _mm256_set1_epi8(15);
  std::size_t rows = chunk.rows;
  do {
    std::size_t triples = chunk.triples;
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
          add_bytes(second[pair * kVectors + v], _mm256_and_si256(_mm256_srli_epi16(x[v], 4), low));
        });
        cells[pair] += 6;
      });
      weight += 96 * kVectors;
    } while (--triples);
    repeat<kPairs>([&](auto pair) __attribute__((always_inline)) { cells[pair] += row_bytes - 6 * chunk.triples; });
  } while (--rows);
}

// What to fetch while a chunk is counted.
struct Ahead {
  const std::uint8_t* weight;  // of the next chunk
  std::size_t lines;           // of 64 bytes of it
  std::size_t first;           // of the floats of each pixel that finishing is about to read and write
  std::size_t channels;        // their number
};

EDGEBNN_INLINE void fetch(const void* from) { _mm_prefetch(static_cast<const char*>(from), _MM_HINT_T1); }

EDGEBNN_INLINE void fetch(const float* from, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; i += 16) fetch(from + i);
}

// Adds the mismatches of a chunk to the sums of kPairs pairs; the first chunk finds nothing there.
template <int kPairs, int kVectors>
EDGEBNN_INLINE void count_pairs(const Pairs& pairs, std::size_t pair, std::size_t row_bytes, const Chunk& chunk,
                                const std::uint8_t* weight, bool first, __m256i* sums) {
  constexpr int kAll = kPairs * kVectors;
  const __m256i low = _mm256_set1_epi8(15), even = _mm256_set1_epi16(0xff);
  const std::uint8_t* cells[kPairs];
  repeat<kPairs>([&](auto p) __attribute__((always_inline)) {
    cells[p] = pairs.pixels[pair + p][0].window + chunk.offset;
  });
  __m256i all[kAll], second[kAll];
  repeat<kAll>([&](auto v) __attribute__((always_inline)) { all[v] = second[v] = _mm256_setzero_si256(); });
  count_bytes<kPairs, kVectors>(cells, row_bytes, chunk, weight, all, second);
  repeat<kAll>([&](auto v) __attribute__((always_inline)) {
    const __m256i sixteenfold = _mm256_slli_epi16(_mm256_and_si256(second[v], low), 4);  // modulo 256
    const __m256i own = _mm256_sub_epi8(all[v], sixteenfold);
    const __m256i counts[kSums] = {_mm256_and_si256(own, even), _mm256_srli_epi16(own, 8),
                                   _mm256_and_si256(second[v], even), _mm256_srli_epi16(second[v], 8)};
    repeat<kSums>([&](auto i) __attribute__((always_inline)) {
      __m256i& sum = sums[v * kSums + i];
      sum = first ? counts[i] : _mm256_add_epi16(sum, counts[i]);
    });
  });
}

// The same for all pairs, while what comes next is fetched.
template <int kVectors>
void count_chunk(const Pairs& pairs, std::size_t row_bytes, const Chunk& chunk, const std::uint8_t* weight, bool first,
                 const Ahead& ahead, __m256i* sums) {
  std::size_t pair = 0;
  if constexpr (kVectors == 1) {  // a table serves one shuffle only, but weights four pairs
    for (; pair + 4 <= pairs.count; pair += 4, sums += 4 * kSums) {
      count_pairs<4, 1>(pairs, pair, row_bytes, chunk, weight, first, sums);
    }
  }
  const std::size_t lines = (ahead.lines + pairs.count - 1) / pairs.count;  // for each pair
  const std::uint8_t* next = ahead.weight;
  for (; pair < pairs.count; ++pair, sums += kVectors * kSums) {
    for (std::size_t line = 0; line < lines; ++line, next += 64) fetch(next);
    for (std::size_t p = 0; ahead.channels && p < pairs.members(pair); ++p) {
      fetch(pairs.pixels[pair][p].x, ahead.first, ahead.channels);
      fetch(pairs.pixels[pair][p].y, ahead.first, ahead.channels);
    }
    count_pairs<1, kVectors>(pairs, pair, row_bytes, chunk, weight, first, sums);
  }
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

// A block's constants side by side, so that one register reaches them all.
struct BlockConstants {
  BlockConstants(const Job& job, std::size_t first, std::size_t channels) {
    const Constants& from = job.constants;
    // Without next_bits what is compared does not matter, only that it is there.
    const float* next_threshold = job.next_bits ? from.next_threshold : from.scale;
    for (std::size_t c = 0; c < channels; c += Vector::kLanes) {
      Vector::store(scale + c, Vector::load(from.scale + first + c));
      Vector::store(bias + c, Vector::load(from.bias + first + c));
      Vector::store(slope + c, Vector::load(from.slope + first + c));
      Vector::store(threshold + c, Vector::load(next_threshold + first + c));
    }
  }
  alignas(32) float scale[kBlock];
  float bias[kBlock], slope[kBlock], threshold[kBlock];
};

// Sums of 32 channels to outputs and bits, `vectors` times. `c` begins at the first channel, as do all pointers.
template <Shortcut kShortcut>
EDGEBNN_INLINE void finish_vectors(const float* c, const std::int32_t* base, const float* x, float* y,
                                   std::uint8_t* next_bits, const __m256i* sums, std::size_t vectors,
                                   std::size_t inputs, std::size_t row) {
  for (std::size_t v = 0; v < vectors; ++v, c += 32, base += 32, x += 32, y += 32, sums += kSums) {
    __m256 lanes[4];
    repeat<4>([&](auto byte) __attribute__((always_inline)) {
      __m256 z = Vector::accumulator(base + 8 * byte, unfold_twice<byte>(sums[0], sums[1]));
      z = _mm256_add_ps(_mm256_mul_ps(z, Vector::load(c + 8 * byte)), Vector::load(c + kBlock + 8 * byte));
      if constexpr (kShortcut != Shortcut::kNone) {
        z = _mm256_add_ps(z, shortcut_of<Vector, kShortcut>(x + 8 * byte, inputs, row));
      }
      z = Vector::prelu(z, Vector::load(c + 2 * kBlock + 8 * byte));
      Vector::store(y + 8 * byte, z);
      lanes[byte] = Vector::at_least(z, c + 3 * kBlock + 8 * byte);
    });
    if (next_bits) {
      const std::uint32_t bits = to_bits(lanes);
      std::memcpy(next_bits + 4 * v, &bits, sizeof bits);
    }
  }
}

// Channels that fill no vector.
EDGEBNN_INLINE void finish_rest(const Job& job, const Pixel& pixel, std::size_t first, const __m256i* sums) {
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  if (first >= outputs) return;
  alignas(32) std::int32_t plain[32];
  repeat<4>([&](auto byte) __attribute__((always_inline)) {
    const __m256i counts = _mm256_srli_epi32(unfold_twice<byte>(sums[0], sums[1]), 1);
    _mm256_store_si256(reinterpret_cast<__m256i*>(plain + 8 * byte), counts);
  });
  finish_plainly(job, pixel, first, outputs - first < 32 ? outputs - first : 32, plain);
}

// The sums of a pixel to outputs and bits. The first `whole` times 32 channels lie side by side in the shortcut too, but
// for the step from its last channel to its first.
template <Shortcut kShortcut>
EDGEBNN_INLINE void finish(const Job& job, const BlockConstants& constants, const Pixel& pixel, std::size_t first,
                           std::size_t vectors, std::size_t whole, const __m256i* sums) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::int32_t* base = pixel.base + first;
  float* y = pixel.y + first;
  std::uint8_t* next_bits = job.next_bits ? pixel.next_bits + first / 8 : nullptr;
  std::size_t done = 0;
  if (kShortcut == Shortcut::kRepeat && first < inputs) {
    done = (inputs - first) / 32 < whole ? (inputs - first) / 32 : whole;
    finish_vectors<kShortcut>(constants.scale, base, pixel.x + first, y, next_bits, sums, done, inputs, row);
  }
  const std::size_t channel = first + 32 * done;
  const std::size_t source = kShortcut == Shortcut::kRepeat && channel >= inputs ? channel - inputs : channel;
  finish_vectors<kShortcut>(constants.scale + 32 * done, base + 32 * done, pixel.x + source, y + 32 * done,
                            next_bits ? next_bits + 4 * done : nullptr, sums + kSums * done, whole - done, inputs, row);
  for (std::size_t v = whole; v < vectors; ++v) finish_rest(job, pixel, first + 32 * v, sums + v * kSums);
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
  const bool far = outputs > kBlock;  // weights do not stay in the caches, pixels are taken in pieces
  const std::size_t triples = kernel * job.cell_bytes / 6;  // of a row of the window
  const std::size_t parts = (triples + kMostTriples - 1) / kMostTriples;
  const std::size_t rows = triples < kMostTriples ? kMostTriples / triples : 1;
  __m256i sums[kMostPairs * kVectors * kSums];
  Pairs pairs;
  Walk walk(job);
  for (std::size_t left = job.last_pixel - job.first_pixel; left; left -= pairs.pixels_taken) {
    pairs.take(job, walk, left);
    const std::uint8_t* weight = job.constants.weight + first * kernel * kernel * job.cell_bytes / 2;
    for (std::size_t row = 0; row < kernel; row += rows) {
      for (std::size_t part = 0; part < parts; ++part) {
        const std::size_t start = part * triples / parts, end = (part + 1) * triples / parts;
        const Chunk chunk{row * job.row_bytes + 6 * start, rows < kernel - row ? rows : kernel - row, end - start};
        const std::size_t bytes = chunk.rows * chunk.triples * 96 * kVectors;
        // What comes from afar is asked for while there is something to count.
        const bool last = row + rows >= kernel && part + 1 == parts;
        const Ahead ahead{weight + bytes, far ? bytes / 64 : 0, first, far && last ? channels : 0};
        count_chunk<kVectors>(pairs, job.row_bytes, chunk, weight, row + part == 0, ahead, sums);
        weight += bytes;
      }
    }
    for (std::size_t pair = 0; pair < pairs.count; ++pair) {
      const __m256i* own = sums + pair * kVectors * kSums;
      const Pixel* pixels = pairs.pixels[pair];
      if (kShortcut == Shortcut::kRepeat && !far && pair + 2 < pairs.count && !pairs.alone[pair + 2]) {
        // Stores of twice what is loaded: their lines are fetched, too, or wait for each other.
        fetch(pairs.pixels[pair + 2][0].y, first, channels);
        fetch(pairs.pixels[pair + 2][1].y, first, channels);
      }
      finish<kShortcut>(job, constants, pixels[0], first, kVectors, whole, own);
      if (!pairs.alone[pair]) finish<kShortcut>(job, constants, pixels[1], first, kVectors, whole, own + kSums / 2);
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

constexpr Path kPath = {block, cell_bytes, to_cells, seam, compare, weight_bytes, pack_weights, convolve, ceiling};

}  // namespace

const Path* avx2_path() { return &kPath; }

}  // namespace edgebnn
