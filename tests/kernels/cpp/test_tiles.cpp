// Every path against the scalar one, bit for bit, at the edges of tiles and blocks. The scalar path is compared with
// the NumPy reference in test_unit.py and test_image_conv.py.
#include <algorithm>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>

#include "check.h"
#include "core/image_conv.h"
#include "core/isa.h"
#include "random_unit.h"

namespace {

using namespace edgebnn;

constexpr std::size_t kGuard = 64;
constexpr std::uint8_t kUntouched = 0xa5;

// An output with a guard on both sides, which a kernel must not touch.
struct Output {
  std::vector<std::uint8_t> bytes;

  explicit Output(std::size_t size) : bytes(size + 2 * kGuard, kUntouched) {}

  template <class T>
  T* data() {
    return reinterpret_cast<T*>(bytes.data() + kGuard);
  }
  bool operator==(const Output& other) const { return bytes == other.bytes; }
};

struct UnitCase {
  UnitShape shape;
  std::size_t height, width;
  bool has_bits, writes_y, writes_pooled;

  std::string text() const {
    std::ostringstream out;
    out << shape.inputs << " to " << shape.outputs << " channels, " << shape.kernel << "x" << shape.kernel
        << ", stride " << shape.stride << ", shortcut " << static_cast<int>(shape.shortcut) << ", padding "
        << static_cast<int>(shape.padding) << ", " << height << "x" << width << (has_bits ? ", bits" : "")
        << (writes_y ? ", y" : "") << (writes_pooled ? ", pooled" : "");
    return out.str();
  }

  // Returns y, its averages and the next bits of a path, with their guards.
  std::vector<Output> run(const random_unit::Constants& constants, const std::vector<float>& x,
                          const std::vector<std::uint8_t>& bits, Isa isa) const {
    const std::size_t stride = static_cast<std::size_t>(shape.stride);
    const std::size_t pixels = height / stride * (width / stride), outputs = static_cast<std::size_t>(shape.outputs);
    std::vector<Output> out{Output(writes_y ? pixels * outputs * 4 : 0), Output(writes_pooled ? pixels * outputs : 0),
                            Output(pixels * ((outputs + 7) / 8))};
    const std::unique_ptr<Unit> unit = Unit::make(shape, constants.pointers(), isa);
    const UnitArrays arrays{.x = x.data(),
                            .bits = has_bits ? bits.data() : nullptr,
                            .y = writes_y ? out[0].data<float>() : nullptr,
                            .pooled = writes_pooled ? out[1].data<float>() : nullptr,
                            .next_bits = out[2].data<std::uint8_t>()};
    unit->run(arrays, 1, height, width, random_unit::serial());
    return out;
  }
};

void check_unit(const UnitCase& unit, std::mt19937& random) {
  const random_unit::Constants constants(unit.shape, random);
  const std::vector<float> x =
      random_unit::floats(random, unit.height * unit.width * static_cast<std::size_t>(unit.shape.inputs));
  const std::vector<std::uint8_t> bits = random_unit::pack(x, constants.threshold);
  const std::vector<Output> wanted = unit.run(constants, x, bits, Isa::kScalar);
  for (const Isa isa : kFastestFirst) {
    if (isa == Isa::kScalar || !available(isa)) continue;
    const bool same = unit.run(constants, x, bits, isa) == wanted;
    CHECK_EQUAL(name(isa) + (same ? "" : " on " + unit.text()), std::string(name(isa)));
  }
}

UnitShape shape_of(int channels, int kernel, Shortcut shortcut, Padding padding) {
  return {.inputs = channels,
          .outputs = shortcut == Shortcut::kRepeat ? 2 * channels : channels,
          .kernel = kernel,
          .stride = shortcut == Shortcut::kPool ? 2 : 1,
          .padding = padding,
          .shortcut = shortcut};
}

}  // namespace

// Widths around every tile: 1 to 17 pixels, on maps of one to three rows, whose windows cross opposite sides.
TEST(pixels_at_the_edges_of_tiles) {
  std::mt19937 random(1);
  for (std::size_t width = 1; width <= 17; ++width) {
    for (const std::size_t height : {1u, 2u, 3u}) {
      for (const int kernel : {1, 3}) {
        const Padding padding = random() % 2 ? Padding::kZero : Padding::kOne;
        const UnitShape shape = shape_of(64, kernel, Shortcut::kIdentity, padding);
        check_unit({shape, height, width, random() % 2 == 0, true, false}, random);
      }
    }
  }
}

TEST(channels_at_the_edges_of_blocks_and_words) {
  std::mt19937 random(2);
  for (const int edge : {8, 16, 32, 64, 96, 128, 256}) {
    for (const int channels : {edge - 1, edge, edge + 1}) {
      for (const Shortcut shortcut : {Shortcut::kIdentity, Shortcut::kRepeat, Shortcut::kPool, Shortcut::kNone}) {
        const UnitShape shape = shape_of(channels, random() % 2 ? 3 : 1, shortcut, Padding::kZero);
        check_unit({shape, 4, 6, random() % 2 == 0, true, false}, random);
      }
    }
  }
}

TEST(averages_at_the_edges_of_tiles) {
  std::mt19937 random(3);
  for (const std::size_t width : {2u, 4u, 6u, 10u, 14u}) {
    for (const int channels : {31, 32, 40, 128}) {
      const UnitShape shape = shape_of(channels, random() % 2 ? 3 : 1, Shortcut::kIdentity, Padding::kZero);
      check_unit({shape, 4, width, random() % 2 == 0, random() % 2 == 0, true}, random);
    }
  }
}

TEST(images_at_the_edges_of_tiles) {
  std::mt19937 random(4);
  for (const int outputs : {1, 8, 31, 32, 33, 64}) {
    for (const int stride : {1, 2}) {
      for (const std::size_t columns : {1u, 2u, 7u, 8u, 28u, 29u, 57u}) {
        const ImageConvShape shape{.channels = 3, .outputs = outputs, .stride = stride};
        const std::size_t height = 2 * static_cast<std::size_t>(stride),
                          width = columns * static_cast<std::size_t>(stride);
        const std::size_t channels = static_cast<std::size_t>(outputs);
        const std::vector<float> image = random_unit::floats(random, 3 * height * width);
        const std::vector<float> weight = random_unit::floats(random, channels * 27);
        const std::vector<float> bias = random_unit::floats(random, channels);
        const std::vector<float> next = random_unit::floats(random, channels);
        const auto run = [&](Isa isa) {
          std::vector<Output> out{Output(2 * columns * channels * 4), Output(2 * columns * ((channels + 7) / 8))};
          ImageConv::make(shape, {weight.data(), bias.data(), next.data()}, isa)
              ->run(image.data(), 1, height, width, out[0].data<float>(), out[1].data<std::uint8_t>(),
                    random_unit::serial());
          return out;
        };
        const std::vector<Output> wanted = run(Isa::kScalar);
        for (const Isa isa : kFastestFirst) {
          if (isa == Isa::kScalar || !available(isa)) continue;
          CHECK(run(isa) == wanted);
        }
      }
    }
  }
}
