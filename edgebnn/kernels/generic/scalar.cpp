// The scalar path, for any processor: 32-bit words, one pixel by eight channels at a time.
#include "generic/image_microkernel.h"
#include "generic/output_transform.h"
#include "generic/pixel_iterator.h"
#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr std::size_t kBlock = 8;

EDGEBNN_INLINE std::uint32_t popcount(std::uint32_t word) {
  return static_cast<std::uint32_t>(__builtin_popcount(word));
}

void convolve(const ConvTask& task) {
  const std::size_t kernel = static_cast<std::size_t>(task.shape.kernel);
  const std::size_t words = kernel * task.pixel_bytes / 4;  // of a row of the window
  const std::size_t outputs = static_cast<std::size_t>(task.shape.outputs);
  for (std::size_t block = task.first_block; block < task.last_block; ++block) {
    const std::uint8_t* weight = task.constants.weight + block * kBlock * kernel * words * 4;
    PixelIterator iterator(task);
    for (std::size_t i = task.first_pixel; i < task.last_pixel; ++i) {
      const Pixel pixel = iterator.next();
      std::int32_t mismatches[kBlock] = {};
      for (std::size_t row = 0; row < kernel; ++row) {
        for (std::size_t word = 0; word < words; ++word) {
          std::uint32_t activation, weights[kBlock];
          std::memcpy(&activation, pixel.window + row * task.row_bytes + word * 4, 4);
          std::memcpy(weights, weight + (row * words + word) * kBlock * 4, sizeof weights);
          for (std::size_t o = 0; o < kBlock; ++o) {
            mismatches[o] += static_cast<std::int32_t>(popcount(activation ^ weights[o]));
          }
        }
      }
      const std::size_t first = block * kBlock;
      transform_output_scalar(task, pixel, first, outputs - first < kBlock ? outputs - first : kBlock, mismatches);
    }
  }
}

struct ImageTile {
  // A vector of one channel. The compiler combines several into a wider one, if it can.
  struct Vector {
    using Floats = float;
    static constexpr std::size_t kLanes = 1;
    static EDGEBNN_INLINE Floats all(float value) { return value; }
    static EDGEBNN_INLINE Floats load(const float* from) { return *from; }
    static EDGEBNN_INLINE void store(float* to, Floats value) { *to = value; }
    // Returns a * b + c, rounded once. The product is exact in double. The sum is rounded twice, to double and then to
    // float. The result is wrong only if the double lies half-way between two floats, or near denormal floats. Only
    // then the C library's fma is called: it takes a hundred times as long on processors without an instruction for it.
    static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
      const double sum = static_cast<double>(a) * b + c;
      std::uint64_t bits;
      std::memcpy(&bits, &sum, sizeof bits);
      const bool half_way = (bits & 0x1fffffff) == 0x10000000 || __builtin_fabs(sum) < 0x1p-126;
      return __builtin_expect(half_way, false) ? __builtin_fmaf(a, b, c) : static_cast<float>(sum);
    }
  };
  static constexpr int kPixels = 1, kVectors = kBlock;
  static EDGEBNN_INLINE void pin(float&) {}
  static EDGEBNN_INLINE void bits(const float (&y)[kBlock], const float* threshold, std::uint8_t* to) {
    *to = 0;
    for (std::size_t i = 0; i < kBlock; ++i) *to |= static_cast<std::uint8_t>((y[i] >= threshold[i] ? 1u : 0u) << i);
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  std::uint32_t activation = 0x12345678u, counts[4] = {};
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      __asm__ volatile("" : "+r"(activation));  // keeps the compiler from hoisting the count
      counts[i] += popcount(activation ^ i);
    }
  }
  volatile std::uint32_t used = counts[0] + counts[1] + counts[2] + counts[3];
  (void)used;
  return steps * 4 * 32;
}

std::size_t block(std::size_t) { return kBlock; }

constexpr Path kPath = {
    .block = block,
    .pixel_bytes = word_pixel_bytes,
    .pack_activations = pack_word_activations,
    .wrap_pixels = no_wrap_pixels,
    .bitpack = bitpack_scalar,
    .weight_bytes = word_weight_bytes<kBlock>,
    .pack_weights = pack_word_weights<kBlock>,
    .convolve = convolve,
    .skips_padding_rows = false,
    .image_block = kBlock,
    .convolve_image = convolve_image,
    .ceiling = ceiling,
};

}  // namespace

const Path* scalar_path() { return &kPath; }

}  // namespace edgebnn
