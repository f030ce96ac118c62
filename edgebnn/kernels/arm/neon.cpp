// The NEON path (64-bit ARM): EOR, CNT, ADD. A vector holds 4 channels, a step counts 32 bits of each.
//
// CNT counts the bits of each byte. A byte can hold the sum of 31 steps. After at most 31 steps pairs of bytes are
// added to 16-bit sums (UADALP). The three instructions share the two vector pipes of the usual cores, so a step of 128
// bits takes 1.5 cycles. A tile of 4 pixels by 16 channels needs 16 sums, 4 vectors of weights and one of activations.
// The processor has 32 registers.
#include <arm_neon.h>

#include "generic/image_microkernel.h"
#include "generic/output_transform.h"
#include "generic/pixel_iterator.h"
#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr int kVectors = 4;  // of 4 channels in a block
constexpr std::size_t kBlock = 4 * kVectors;
constexpr std::size_t kMostWords = 31;  // a word adds up to 8 mismatches to a byte, which holds 255

struct Vector {
  using Floats = float32x4_t;
  static constexpr std::size_t kLanes = 4;
  static EDGEBNN_INLINE Floats all(float value) { return vdupq_n_f32(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return vld1q_f32(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { vst1q_f32(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
  // Returns a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    return vbslq_f32(vcgeq_f32(z, vdupq_n_f32(0.0f)), z, vmulq_f32(slope, z));
  }
  static EDGEBNN_INLINE uint32x4_t at_least(Floats y, const float* threshold) {
    return vcgeq_f32(y, vld1q_f32(threshold));
  }
};

// Packs eight comparisons into a byte.
EDGEBNN_INLINE std::uint8_t to_bits(uint32x4_t low, uint32x4_t high) {
  const uint16x8_t places = {1, 2, 4, 8, 16, 32, 64, 128};
  return static_cast<std::uint8_t>(vaddvq_u16(vandq_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)), places)));
}

void bitpack(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 8) {
    bitpack_scalar(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 8, ++bits, x += 8) {
      const float* least = threshold + c;
      *bits = to_bits(Vector::at_least(vld1q_f32(x), least), Vector::at_least(vld1q_f32(x + 4), least + 4));
    }
  }
}

// The micro-kernel: adds the mismatches over `words` words, at most kMostWords, to the 16-bit `sums`.
template <int kPixels>
EDGEBNN_INLINE void count(const std::uint8_t* const (&activations)[kPixels], const std::uint8_t* weight,
                          std::size_t words, uint16x8_t (&sums)[kPixels * kVectors]) {
  uint8x16_t bytes[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) EDGEBNN_INLINE_LAMBDA { bytes[i] = vdupq_n_u8(0); });
  for (std::size_t word = 0; word < words; ++word, weight += kBlock * 4) {
    uint8x16_t weights[kVectors];
    repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA { weights[v] = vld1q_u8(weight + 16 * v); });
    repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
      std::uint32_t bits;
      std::memcpy(&bits, activations[p] + 4 * word, sizeof bits);
      const uint8x16_t activation = vreinterpretq_u8_u32(vdupq_n_u32(bits));
      repeat<kVectors>([&](auto v) EDGEBNN_INLINE_LAMBDA {
        uint8x16_t& sum = bytes[p * kVectors + v];
        sum = vaddq_u8(sum, vcntq_u8(veorq_u8(activation, weights[v])));
      });
    });
  }
  repeat<kPixels * kVectors>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[i] = vpadalq_u8(sums[i], bytes[i]); });
}

// Transforms four channels, and returns their outputs. `source` is where the channels begin in the shortcut.
template <Shortcut kShortcut>
EDGEBNN_INLINE float32x4_t transform_vector(const ConvTask& task, const Pixel& pixel, std::size_t channel,
                                            std::size_t source, std::size_t inputs, std::size_t row,
                                            int32x4_t twice_mismatches) {
  const Constants& constants = task.constants;
  float32x4_t z = vcvtq_f32_s32(vsubq_s32(vld1q_s32(pixel.acc_init + channel), twice_mismatches));
  z = Vector::add(Vector::multiply(z, Vector::load(constants.scale + channel)), Vector::load(constants.bias + channel));
  z = add_shortcut<Vector, kShortcut>(z, pixel.x + source, inputs, row);
  const float32x4_t y = Vector::prelu(z, Vector::load(constants.slope + channel));
  if (task.y) Vector::store(pixel.y(task) + channel, y);
  if (pixel.corner != Corner::kNone) pool<Vector>(pixel.pooled(task) + channel, pixel.corner, y);
  return y;
}

// The output transform of a tile: two vectors of channels at a time, because their bits fill one byte.
template <int kPixels, Shortcut kShortcut>
EDGEBNN_INLINE void transform_output(const ConvTask& task, const Pixel* pixels, std::size_t first,
                                     const uint16x8_t (&sums)[kPixels * kVectors]) {
  const std::size_t inputs = static_cast<std::size_t>(task.shape.inputs), row = task.width * inputs;
  const std::size_t outputs = static_cast<std::size_t>(task.shape.outputs);
  const bool vectors = vectorizable(task, first, kBlock, Vector::kLanes);
  for (int p = 0; p < kPixels; ++p) {
    const Pixel& pixel = pixels[p];
    for (int v = 0; v < kVectors; v += 2) {
      const std::size_t channel = first + static_cast<std::size_t>(4 * v);
      const int32x4_t twice[2] = {vreinterpretq_s32_u32(vpaddlq_u16(vshlq_n_u16(sums[p * kVectors + v], 1))),
                                  vreinterpretq_s32_u32(vpaddlq_u16(vshlq_n_u16(sums[p * kVectors + v + 1], 1)))};
      if (vectors) {
        uint32x4_t lanes[2];
        repeat<2>([&](auto i) EDGEBNN_INLINE_LAMBDA {
          const std::size_t four = channel + 4 * i;
          const std::size_t source = kShortcut == Shortcut::kRepeat && four >= inputs ? four - inputs : four;
          const float32x4_t y = transform_vector<kShortcut>(task, pixel, four, source, inputs, row, twice[i]);
          lanes[i] = task.next_bits ? Vector::at_least(y, task.constants.next_threshold + four) : vdupq_n_u32(0);
        });
        if (task.next_bits) pixel.next_bits(task)[channel / 8] = to_bits(lanes[0], lanes[1]);
      } else if (channel < outputs) {
        std::int32_t mismatches[8];
        vst1q_s32(mismatches, vshrq_n_s32(twice[0], 1));
        vst1q_s32(mismatches + 4, vshrq_n_s32(twice[1], 1));
        transform_output_scalar(task, pixel, channel, outputs - channel < 8 ? outputs - channel : 8, mismatches);
      }
    }
  }
}

template <int kPixels, Shortcut kShortcut>
void convolve_tile(const ConvTask& task, const Pixel* pixels, std::size_t block) {
  constexpr int kSums = kPixels * kVectors;
  const std::size_t row_words = static_cast<std::size_t>(task.shape.kernel) * task.pixel_bytes / 4;  // of the window
  const std::uint8_t* weight =
      task.constants.weight + block * kBlock * 4 * row_words * static_cast<std::size_t>(task.shape.kernel);
  uint16x8_t sums[kSums];
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[i] = vdupq_n_u16(0); });
  for (int row = 0; row < task.shape.kernel; ++row) {
    const std::uint8_t* activations[kPixels];
    repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA {
      activations[p] = pixels[p].window + static_cast<std::size_t>(row) * task.row_bytes;
    });
    for (std::size_t left = row_words; left;) {
      const std::size_t words = left < kMostWords ? left : kMostWords;
      count<kPixels>(activations, weight, words, sums);
      repeat<kPixels>([&](auto p) EDGEBNN_INLINE_LAMBDA { activations[p] += words * 4; });
      weight += words * kBlock * 4;
      left -= words;
    }
  }
  transform_output<kPixels, kShortcut>(task, pixels, block * kBlock, sums);
}

// Computes one block of channels of `left` pixels: in tiles of kPixels, then of half as many, down to single pixels.
template <Shortcut kShortcut, int kPixels>
EDGEBNN_INLINE void convolve_block(const ConvTask& task, std::size_t block, const Pixel* pixels, std::size_t left) {
  for (; left >= kPixels; left -= kPixels, pixels += kPixels) convolve_tile<kPixels, kShortcut>(task, pixels, block);
  if constexpr (kPixels > 1) convolve_block<kShortcut, kPixels / 2>(task, block, pixels, left);
}

// Takes some pixels at a time, and computes them for all blocks of the task. Finding a pixel takes as long as counting
// a few words, so each is found only once.
template <Shortcut kShortcut>
void convolve_blocks(const ConvTask& task) {
  Pixel pixels[kTaskPixels];
  PixelIterator iterator(task);
  for (std::size_t left = task.last_pixel - task.first_pixel; left;) {
    const std::size_t count = left < kTaskPixels ? left : kTaskPixels;
    iterator.take(pixels, count);
    for (std::size_t block = task.first_block; block < task.last_block; ++block) {
      convolve_block<kShortcut, 4>(task, block, pixels, count);
    }
    left -= count;
  }
}

void convolve(const ConvTask& task) {
  with_shortcut(task.shape.shortcut, [&](auto shortcut) { convolve_blocks<shortcut.value>(task); });
}

struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 4, kVectors = 4;
  static EDGEBNN_INLINE void pin(float32x4_t& values) { __asm__ volatile("" : "+w"(values)); }
  static EDGEBNN_INLINE void bits(const float32x4_t (&y)[kVectors], const float* threshold, std::uint8_t* to) {
    for (int v = 0; v < kVectors; v += 2, threshold += 8) {
      *to++ = to_bits(Vector::at_least(y[v], threshold), Vector::at_least(y[v + 1], threshold + 4));
    }
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  constexpr int kSums = 16;
  const uint8x16_t weights = vdupq_n_u8(0x3c);
  uint8x16_t activation = vdupq_n_u8(0x5a), sums[kSums];
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[i] = vdupq_n_u8(0); });
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA {
      __asm__ volatile("" : "+w"(activation));  // keeps the compiler from hoisting the count
      sums[i] = vaddq_u8(sums[i], vcntq_u8(veorq_u8(activation, weights)));
    });
  }
  repeat<kSums>([&](auto i) EDGEBNN_INLINE_LAMBDA { sums[0] = vaddq_u8(sums[0], sums[i]); });
  volatile int used = vgetq_lane_u8(sums[0], 0);
  (void)used;
  return steps * kSums * 128;
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
    .skips_padding_rows = false,
    .image_block = ImageTile::kVectors * Vector::kLanes,
    .convolve_image = convolve_image,
    .ceiling = ceiling,
};

}  // namespace

const Path* neon_path() { return &kPath; }

}  // namespace edgebnn
