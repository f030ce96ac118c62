// The path of any processor: 32-bit words, one pixel by eight channels at a time.
#include "generic/image_microkernel.h"
#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 8;

EDGEBNN_INLINE std::uint32_t popcount(std::uint32_t word) {
  return static_cast<std::uint32_t>(__builtin_popcount(word));
}

void convolve(const Job& job) {
  const std::size_t kernel = static_cast<std::size_t>(job.shape.kernel);
  const std::size_t words = kernel * job.cell_bytes / 4;  // of a run
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  for (std::size_t block = job.first_block; block < job.last_block; ++block) {
    const std::uint8_t* weight = job.constants.weight + block * kBlock * kernel * words * 4;
    Walk walk(job);
    for (std::size_t i = job.first_pixel; i < job.last_pixel; ++i) {
      const Pixel pixel = walk.next();
      std::int32_t mismatches[kBlock] = {};
      for (std::size_t row = 0; row < kernel; ++row) {
        for (std::size_t word = 0; word < words; ++word) {
          std::uint32_t seen, wanted[kBlock];
          std::memcpy(&seen, pixel.window + row * job.row_bytes + word * 4, 4);
          std::memcpy(wanted, weight + (row * words + word) * kBlock * 4, sizeof wanted);
          for (std::size_t o = 0; o < kBlock; ++o) {
            mismatches[o] += static_cast<std::int32_t>(popcount(seen ^ wanted[o]));
          }
        }
      }
      const std::size_t first = block * kBlock;
      finish_plainly(job, pixel, first, outputs - first < kBlock ? outputs - first : kBlock, mismatches);
    }
  }
}

struct ImageTile {
  // A vector of one channel; the compiler makes wider ones of them, if it can.
  struct Vector {
    using Floats = float;
    static constexpr std::size_t kLanes = 1;
    static EDGEBNN_INLINE Floats all(float value) { return value; }
    static EDGEBNN_INLINE Floats load(const float* from) { return *from; }
    static EDGEBNN_INLINE void store(float* to, Floats value) { *to = value; }
    // a * b + c, rounded once. The product is exact in double; to round the sum twice, to double and to float, errs
    // only where the first ends half-way between two floats, or near denormal ones. The C library's own function is
    // called there alone: without an instruction for it, it takes a hundred times as long.
    static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
      const double sum = static_cast<double>(a) * b + c;
      std::uint64_t bits;
      std::memcpy(&bits, &sum, sizeof bits);
      const bool half_way = (bits & 0x1fffffff) == 0x10000000 || __builtin_fabs(sum) < 0x1p-126;
      return __builtin_expect(half_way, false) ? __builtin_fmaf(a, b, c) : static_cast<float>(sum);
    }
  };
  static constexpr int kPixels = 1, kVectors = kBlock;
  static EDGEBNN_INLINE void keep(float&) {}
  static EDGEBNN_INLINE void bits(const float (&y)[kBlock], const float* threshold, std::uint8_t* to) {
    *to = 0;
    for (std::size_t i = 0; i < kBlock; ++i) *to |= static_cast<std::uint8_t>((y[i] >= threshold[i] ? 1u : 0u) << i);
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  std::uint32_t seen = 0x12345678u, counts[4] = {};
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      __asm__ volatile("" : "+r"(seen));  // or the loop would be counted once
      counts[i] += popcount(seen ^ i);
    }
  }
  volatile std::uint32_t used = counts[0] + counts[1] + counts[2] + counts[3];
  (void)used;
  return steps * 4 * 32;
}

std::size_t block(std::size_t) { return kBlock; }

constexpr Path kPath = {block,
                        word_cell_bytes,
                        to_word_cells,
                        no_seam,
                        compare_plainly,
                        word_weight_bytes<kBlock>,
                        pack_word_weights<kBlock>,
                        convolve,
                        false,
                        kBlock,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* scalar_path() { return &kPath; }

}  // namespace edgebnn
