// The NEON path (64-bit ARM): EOR, CNT, ADD; 4 channels per vector, 32 bits of each per step.
//
// CNT counts the bits of each byte. A byte holds the sum of 31 steps; then pairs of bytes are added to 16-bit sums
// (UADALP). The three instructions share the two vector pipes of the usual cores: 1.5 cycles per step of 128 bits. A
// tile of 4 pixels by 16 channels needs 16 sums, 4 vectors of weights and one of activations, of 32 registers.
#include <arm_neon.h>

#include "generic/image_microkernel.h"
#include "generic/word_packing.h"

namespace edgebnn {
namespace {

constexpr int kVectors = 4;  // of 4 channels, in a block
constexpr std::size_t kBlock = 4 * kVectors;
constexpr std::size_t kMostWords = 31;  // of 8 mismatches a byte each that a byte can hold

struct Vector {
  using Floats = float32x4_t;
  static constexpr std::size_t kLanes = 4;
  static EDGEBNN_INLINE Floats all(float value) { return vdupq_n_f32(value); }
  static EDGEBNN_INLINE Floats load(const float* from) { return vld1q_f32(from); }
  static EDGEBNN_INLINE void store(float* to, Floats value) { vst1q_f32(to, value); }
  static EDGEBNN_INLINE Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
  static EDGEBNN_INLINE Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
  // a * b + c, rounded once.
  static EDGEBNN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static EDGEBNN_INLINE Floats prelu(Floats z, Floats slope) {
    return vbslq_f32(vcgeq_f32(z, vdupq_n_f32(0.0f)), z, vmulq_f32(slope, z));
  }
  static EDGEBNN_INLINE uint32x4_t at_least(Floats y, const float* threshold) {
    return vcgeq_f32(y, vld1q_f32(threshold));
  }
};

// Eight comparisons to bits.
EDGEBNN_INLINE std::uint8_t to_bits(uint32x4_t low, uint32x4_t high) {
  const uint16x8_t places = {1, 2, 4, 8, 16, 32, 64, 128};
  return static_cast<std::uint8_t>(vaddvq_u16(vandq_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)), places)));
}

void compare(const float* x, const float* threshold, std::size_t pixels, std::size_t inputs, std::uint8_t* bits) {
  if (inputs % 8) {
    compare_plainly(x, threshold, pixels, inputs, bits);
    return;
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t c = 0; c < inputs; c += 8, ++bits, x += 8) {
      const float* least = threshold + c;
      *bits = to_bits(Vector::at_least(vld1q_f32(x), least), Vector::at_least(vld1q_f32(x + 4), least + 4));
    }
  }
}

// 16-bit sums of the mismatches over `words` words, at most kMostWords, are added to `sums`.
template <int kPixels>
EDGEBNN_INLINE void count(const std::uint8_t* const (&cells)[kPixels], const std::uint8_t* weight,
                          std::size_t words, uint16x8_t (&sums)[kPixels * kVectors]) {
  uint8x16_t bytes[kPixels * kVectors];
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { bytes[i] = vdupq_n_u8(0); });
  for (std::size_t word = 0; word < words; ++word, weight += kBlock * 4) {
    uint8x16_t wanted[kVectors];
    repeat<kVectors>([&](auto v) __attribute__((always_inline)) { wanted[v] = vld1q_u8(weight + 16 * v); });
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      std::uint32_t cell;
      std::memcpy(&cell, cells[p] + 4 * word, sizeof cell);
      const uint8x16_t seen = vreinterpretq_u8_u32(vdupq_n_u32(cell));
      repeat<kVectors>([&](auto v) __attribute__((always_inline)) {
        uint8x16_t& sum = bytes[p * kVectors + v];
        sum = vaddq_u8(sum, vcntq_u8(veorq_u8(seen, wanted[v])));
      });
    });
  }
  repeat<kPixels * kVectors>([&](auto i) __attribute__((always_inline)) { sums[i] = vpadalq_u8(sums[i], bytes[i]); });
}

// The outputs of four channels, stored. `source` is where the channels begin in the shortcut.
template <Shortcut kShortcut>
EDGEBNN_INLINE float32x4_t finish_vector(const Job& job, const Pixel& pixel, std::size_t channel, std::size_t source,
                                         std::size_t inputs, std::size_t row, int32x4_t twice_mismatches) {
  const Constants& constants = job.constants;
  float32x4_t z = vcvtq_f32_s32(vsubq_s32(vld1q_s32(pixel.base + channel), twice_mismatches));
  z = Vector::add(Vector::multiply(z, Vector::load(constants.scale + channel)), Vector::load(constants.bias + channel));
  z = add_shortcut<Vector, kShortcut>(z, pixel.x + source, inputs, row);
  const float32x4_t y = Vector::prelu(z, Vector::load(constants.slope + channel));
  if (job.y) Vector::store(pixel.y(job) + channel, y);
  if (pixel.corner != Corner::kNone) pool<Vector>(pixel.pooled(job) + channel, pixel.corner, y);
  return y;
}

// The output transform of a tile: two vectors of channels at a time, which make one byte of bits.
template <int kPixels, Shortcut kShortcut>
EDGEBNN_INLINE void finish(const Job& job, const Pixel* pixels, std::size_t first,
                           const uint16x8_t (&sums)[kPixels * kVectors]) {
  const std::size_t inputs = static_cast<std::size_t>(job.shape.inputs), row = job.width * inputs;
  const std::size_t outputs = static_cast<std::size_t>(job.shape.outputs);
  const bool vectors = vectorizable(job, first, kBlock, Vector::kLanes);
  for (int p = 0; p < kPixels; ++p) {
    const Pixel& pixel = pixels[p];
    for (int v = 0; v < kVectors; v += 2) {
      const std::size_t channel = first + static_cast<std::size_t>(4 * v);
      const int32x4_t twice[2] = {vreinterpretq_s32_u32(vpaddlq_u16(vshlq_n_u16(sums[p * kVectors + v], 1))),
                                  vreinterpretq_s32_u32(vpaddlq_u16(vshlq_n_u16(sums[p * kVectors + v + 1], 1)))};
      if (vectors) {
        uint32x4_t lanes[2];
        repeat<2>([&](auto i) __attribute__((always_inline)) {
          const std::size_t four = channel + 4 * i;
          const std::size_t source = kShortcut == Shortcut::kRepeat && four >= inputs ? four - inputs : four;
          const float32x4_t y = finish_vector<kShortcut>(job, pixel, four, source, inputs, row, twice[i]);
          lanes[i] = job.next_bits ? Vector::at_least(y, job.constants.next_threshold + four) : vdupq_n_u32(0);
        });
        if (job.next_bits) pixel.next_bits(job)[channel / 8] = to_bits(lanes[0], lanes[1]);
      } else if (channel < outputs) {
        std::int32_t plain[8];
        vst1q_s32(plain, vshrq_n_s32(twice[0], 1));
        vst1q_s32(plain + 4, vshrq_n_s32(twice[1], 1));
        finish_plainly(job, pixel, channel, outputs - channel < 8 ? outputs - channel : 8, plain);
      }
    }
  }
}

template <int kPixels, Shortcut kShortcut>
void convolve_tile(const Job& job, const Pixel* pixels, std::size_t block) {
  constexpr int kSums = kPixels * kVectors;
  const std::size_t run = static_cast<std::size_t>(job.shape.kernel) * job.cell_bytes / 4;  // words
  const std::uint8_t* weight =
      job.constants.weight + block * kBlock * 4 * run * static_cast<std::size_t>(job.shape.kernel);
  uint16x8_t sums[kSums];
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { sums[i] = vdupq_n_u16(0); });
  for (int row = 0; row < job.shape.kernel; ++row) {
    const std::uint8_t* cells[kPixels];
    repeat<kPixels>([&](auto p) __attribute__((always_inline)) {
      cells[p] = pixels[p].window + static_cast<std::size_t>(row) * job.row_bytes;
    });
    for (std::size_t left = run; left;) {
      const std::size_t words = left < kMostWords ? left : kMostWords;
      count<kPixels>(cells, weight, words, sums);
      repeat<kPixels>([&](auto p) __attribute__((always_inline)) { cells[p] += words * 4; });
      weight += words * kBlock * 4;
      left -= words;
    }
  }
  finish<kPixels, kShortcut>(job, pixels, block * kBlock, sums);
}

// One block of channels of pixels in tiles of kPixels, then of half as many, down to single ones.
template <Shortcut kShortcut, int kPixels>
EDGEBNN_INLINE void convolve_block(const Job& job, std::size_t block, const Pixel* pixels, std::size_t left) {
  for (; left >= kPixels; left -= kPixels, pixels += kPixels) convolve_tile<kPixels, kShortcut>(job, pixels, block);
  if constexpr (kPixels > 1) convolve_block<kShortcut, kPixels / 2>(job, block, pixels, left);
}

// Some pixels at a time. They are found once for all blocks of the job, because finding one takes as long as counting a
// few words.
template <Shortcut kShortcut>
void convolve_blocks(const Job& job) {
  Pixel pixels[kTaskPixels];
  Walk walk(job);
  for (std::size_t left = job.last_pixel - job.first_pixel; left;) {
    const std::size_t count = left < kTaskPixels ? left : kTaskPixels;
    walk.take(pixels, count);
    for (std::size_t block = job.first_block; block < job.last_block; ++block) {
      convolve_block<kShortcut, 4>(job, block, pixels, count);
    }
    left -= count;
  }
}

void convolve(const Job& job) {
  with_shortcut(job.shape.shortcut, [&](auto shortcut) { convolve_blocks<shortcut.value>(job); });
}

struct ImageTile {
  using Vector = edgebnn::Vector;
  static constexpr int kPixels = 4, kVectors = 4;
  static EDGEBNN_INLINE void keep(float32x4_t& values) { __asm__ volatile("" : "+w"(values)); }
  static EDGEBNN_INLINE void bits(const float32x4_t (&y)[kVectors], const float* threshold, std::uint8_t* to) {
    for (int v = 0; v < kVectors; v += 2, threshold += 8) {
      *to++ = to_bits(Vector::at_least(y[v], threshold), Vector::at_least(y[v + 1], threshold + 4));
    }
  }
};

void convolve_image(const ImageRow& row) { convolve_image_with<ImageTile>(row); }

std::uint64_t ceiling(std::uint64_t steps) {
  constexpr int kSums = 16;
  const uint8x16_t wanted = vdupq_n_u8(0x3c);
  uint8x16_t seen = vdupq_n_u8(0x5a), sums[kSums];
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { sums[i] = vdupq_n_u8(0); });
  for (std::uint64_t step = 0; step < steps; ++step) {
    repeat<kSums>([&](auto i) __attribute__((always_inline)) {
      __asm__ volatile("" : "+w"(seen));  // or the loop would be counted once
      sums[i] = vaddq_u8(sums[i], vcntq_u8(veorq_u8(seen, wanted)));
    });
  }
  repeat<kSums>([&](auto i) __attribute__((always_inline)) { sums[0] = vaddq_u8(sums[0], sums[i]); });
  volatile int used = vgetq_lane_u8(sums[0], 0);
  (void)used;
  return steps * kSums * 128;
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
                        false,
                        ImageTile::kVectors * Vector::kLanes,
                        convolve_image,
                        ceiling};

}  // namespace

const Path* neon_path() { return &kPath; }

}  // namespace edgebnn
