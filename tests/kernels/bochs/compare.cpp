// Compares the AVX-512 path with the scalar path on random units and image convolutions, bit for bit. Of a NaN only its
// position is compared. test_unit.py compares the scalar path with the NumPy reference.
#include <cstring>
#include <initializer_list>

#include "core/image_conv.h"
#include "core/isa.h"
#include "machine.h"
#include "core/path.h"

namespace {

using namespace edgebnn;
using machine::print;

constexpr int kChannels[] = {1,  2,  7,  8,  9,   15,  16,  17,  24,  31,  32,  33,  47,  48,
                             63, 64, 65, 96, 127, 128, 129, 160, 192, 255, 256, 257, 272, 513};
constexpr int kRounds = 3;            // units of a number of channels, a kernel and a shortcut
constexpr std::size_t kWork = 16000;  // words XORed by a unit, at most, or all this would take hours
constexpr std::size_t kFloats = 1 << 20, kBytes = 4 << 20;  // of the largest arrays

std::uint64_t state = 1;

std::uint32_t random() {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<std::uint32_t>(state * 0x2545f4914f6cdd1du >> 32);
}

int below(int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); }

enum Values { kFractions, kWhole, kExtreme, kKinds };

// kFractions: numbers whose sums are rounded. kWhole: small whole numbers, which lie on thresholds and make zeros of
// both signs. kExtreme: the same with NaN, infinities, denormals and huge numbers among them.
void fill(float* values, std::size_t count, Values kind) {
  constexpr std::uint32_t kBits[] = {0x7fc00000, 0x7f800000, 1, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7e967699};
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits = (120u + random() % 10) << 23 | random() >> 9;
    values[i] = static_cast<float>(below(3));
    if (kind == kExtreme && below(10) == 0) {
      std::memcpy(values + i, kBits + below(7), 4);
    } else if (kind == kFractions) {
      std::memcpy(values + i, &bits, 4);
    }
    if (below(2)) values[i] = -values[i];
  }
}

float x[kFloats], threshold[4096], scale[4096], bias[4096], slope[4096], next_threshold[4096];
std::uint8_t bits[kBytes / 32], weight[kBytes];
struct Result {
  float y[kFloats];
  std::uint8_t next_bits[kBytes / 32];
} of_scalar, of_avx512;

const Parallel one_after_the_other = {nullptr, [](void*, std::size_t count, Parallel::Task task, void* what) {
                                        for (std::size_t i = 0; i < count; ++i) task(what, i);
                                      }};

// Fills the result with a pattern of the path, so that values which are not written differ. The bytes after the end
// must stay as they are.
void spoil(Result& result, Isa isa, std::size_t floats, std::size_t bytes) {
  std::memset(result.y, isa == Isa::kScalar ? 0x11 : 0x22, floats * 4);
  std::memset(result.next_bits, isa == Isa::kScalar ? 0x55 : 0xaa, bytes);
  std::memset(result.y + floats, 0x33, 256);
  std::memset(result.next_bits + bytes, 0x33, 256);
}

// Returns null, or the name of the output that differs between the paths.
const char* compared(std::size_t floats, std::size_t bytes) {
  for (std::size_t i = 0; i < floats + 64; ++i) {
    const float a = of_scalar.y[i], b = of_avx512.y[i];
    if (a != a ? b == b : std::memcmp(&a, &b, 4) != 0) return i < floats ? "y" : "memory after y";
  }
  return std::memcmp(of_scalar.next_bits, of_avx512.next_bits, bytes + 256) ? "next_bits" : nullptr;
}

struct Case {
  UnitShape shape;
  std::size_t batch, height, width;
  bool given_bits, has_next, wants_next, wants_y, wants_pooled;

  Case(int channels, int kernel, Shortcut shortcut) {
    shape.inputs = channels;
    shape.outputs = shortcut == Shortcut::kRepeat ? 2 * channels : channels;
    shape.kernel = kernel;
    const bool halved = shortcut == Shortcut::kPool || shortcut == Shortcut::kPooled;
    shape.stride = halved ? 2 : shortcut == Shortcut::kNone ? 1 + below(2) : 1;
    shape.padding = below(2) ? Padding::kOne : Padding::kZero;
    shape.shortcut = shortcut;
    const std::size_t words = static_cast<std::size_t>((channels + 31) / 32 * kernel * kernel * shape.outputs);
    std::size_t most = kWork / words;  // pixels
    most = most < 2 ? 2 : most > 400 ? 400 : most;
    std::size_t out_width = 1 + random() % (most < 32 ? most : 32);
    std::size_t out_height = 1 + random() % (most / out_width);
    wants_pooled = below(3) == 0;
    wants_y = !wants_pooled || below(2);
    if (wants_pooled) {
      out_width += out_width % 2;
      out_height += out_height % 2;
    }
    const std::size_t stride = static_cast<std::size_t>(shape.stride);
    height = out_height * stride;
    width = out_width * stride;
    batch = 2 * out_height * out_width <= most && below(3) == 0 ? 2 : 1;
    given_bits = below(2) || shortcut == Shortcut::kPooled;
    has_next = below(4) != 0;
    wants_next = has_next && below(4) != 0;

    const Values kind = static_cast<Values>(below(kKinds));
    const std::size_t inputs = static_cast<std::size_t>(channels), outputs = static_cast<std::size_t>(shape.outputs);
    const std::size_t bytes = (inputs + 7) / 8, pixels = batch * height * width;
    fill(x, pixels * inputs, kind);
    fill(threshold, inputs, kind);
    for (float* constants : {scale, bias, slope, next_threshold}) fill(constants, outputs, kind);
    std::memset(bits, 0, pixels * bytes);
    for (std::size_t i = 0; i < pixels * inputs; ++i) {
      const std::size_t c = i % inputs;
      if (x[i] >= threshold[c]) bits[i / inputs * bytes + c / 8] |= static_cast<std::uint8_t>(1u << c % 8);
    }
    const unsigned last = channels % 8 ? (1u << channels % 8) - 1 : 255u;
    // Sometimes all bits are equal, so that counts reach their limits.
    const unsigned fixed = below(8) ? 0 : random() % 2 * 255, loose = fixed || below(8) == 0 ? 0 : 255;
    for (std::size_t i = 0; i < outputs * static_cast<std::size_t>(kernel * kernel) * bytes; ++i) {
      weight[i] = static_cast<std::uint8_t>(((random() & loose) | fixed) & (i % bytes == bytes - 1 ? last : 255u));
    }
  }

  std::size_t out_pixels() const {
    return batch * height * width / static_cast<std::size_t>(shape.stride * shape.stride);
  }
  // The floats of y and of the averages after it.
  std::size_t floats() const { return of_y() + (wants_pooled ? out_pixels() / 4 * outputs() : 0); }
  std::size_t of_y() const { return wants_y ? out_pixels() * outputs() : 0; }
  std::size_t outputs() const { return static_cast<std::size_t>(shape.outputs); }
  std::size_t bytes() const {
    return wants_next ? out_pixels() * static_cast<std::size_t>((shape.outputs + 7) / 8) : 0;
  }

  void run(Isa isa, Result& result) const {
    const UnitConstants constants = {weight, threshold, scale, bias, slope, has_next ? next_threshold : nullptr};
    const auto unit = Unit::make(shape, constants, isa);
    spoil(result, isa, floats(), bytes());
    unit->run({x, given_bits ? bits : nullptr, wants_y ? result.y : nullptr, wants_pooled ? result.y + of_y() : nullptr,
               wants_next ? result.next_bits : nullptr},
              batch, height, width, one_after_the_other);
  }

  // Returns null, or the name of the output that differs.
  const char* difference() const {
    run(Isa::kScalar, of_scalar);
    run(Isa::kAvx512, of_avx512);
    return compared(floats(), bytes());
  }

  void print_shape() const {
    constexpr const char* kShortcuts[] = {"identity", "pool", "repeat", "none", "pooled"};
    print(shape.inputs), print(" channels, kernel "), print(shape.kernel), print(", ");
    print(kShortcuts[static_cast<int>(shape.shortcut)]), print(", padding "), print(static_cast<int>(shape.padding));
    print(", "), print(static_cast<long>(batch)), print(" x "), print(static_cast<long>(height)), print(" x ");
    print(static_cast<long>(width)), print(" pixels");
    print(given_bits ? ", bits" : ""), print(has_next ? ", next" : ""), print(wants_y ? ", y" : "");
    print(wants_pooled ? ", averages\n" : "\n");
  }
};

float image_weight[1 << 15];

struct ImageCase {
  ImageConvShape shape;
  std::size_t batch, height, width;
  bool has_next, wants_next;

  explicit ImageCase(int outputs) : shape{1 + below(5), outputs, 1 + below(2)} {
    const std::size_t stride = static_cast<std::size_t>(shape.stride);
    batch = 1 + random() % 2;
    height = (1 + random() % 9) * stride;
    width = (1 + random() % 19) * stride;
    has_next = below(4) != 0;
    wants_next = has_next && below(4) != 0;
    const Values kind = static_cast<Values>(below(kKinds));
    const std::size_t channels = static_cast<std::size_t>(shape.channels), count = static_cast<std::size_t>(outputs);
    fill(x, batch * channels * height * width, kind);
    fill(image_weight, count * channels * 9, kind);
    for (float* constants : {bias, next_threshold}) fill(constants, count, kind);
  }

  void run(Isa isa, Result& result, std::size_t floats, std::size_t bytes) const {
    const auto conv = ImageConv::make(shape, {image_weight, bias, has_next ? next_threshold : nullptr}, isa);
    spoil(result, isa, floats, bytes);
    conv->run(x, batch, height, width, result.y, wants_next ? result.next_bits : nullptr, one_after_the_other);
  }

  const char* difference() const {
    const std::size_t pixels = batch * height * width / static_cast<std::size_t>(shape.stride * shape.stride);
    const std::size_t floats = pixels * static_cast<std::size_t>(shape.outputs);
    const std::size_t bytes = wants_next ? pixels * static_cast<std::size_t>((shape.outputs + 7) / 8) : 0;
    run(Isa::kScalar, of_scalar, floats, bytes);
    run(Isa::kAvx512, of_avx512, floats, bytes);
    return compared(floats, bytes);
  }

  void print_shape() const {
    print(shape.channels), print(" channels to "), print(shape.outputs), print(", stride "), print(shape.stride);
    print(", "), print(static_cast<long>(batch)), print(" x "), print(static_cast<long>(height)), print(" x ");
    print(static_cast<long>(width)), print(" pixels"), print(has_next ? ", next\n" : "\n");
  }
};

}  // namespace

int main() {
  machine::turn_on();
  const Isa* chosen = chosen_isa();
  print("chosen path: "), print(chosen ? name(*chosen) : isa_error()), print("\n");
  if (!chosen || *chosen != Isa::kAvx512) machine::turn_off();
  int units = 0, failures = 0;
  for (int channels : kChannels) {
    for (int kernel : {1, 3}) {
      for (Shortcut shortcut :
           {Shortcut::kIdentity, Shortcut::kPool, Shortcut::kRepeat, Shortcut::kNone, Shortcut::kPooled}) {
        for (int round = 0; round < (channels > 128 ? 1 : kRounds); ++round, ++units) {
          const Case unit(channels, kernel, shortcut);
          const char* what = unit.difference();
          if (!what) continue;
          if (++failures <= 10) print(what), print(" differs: "), unit.print_shape();
        }
      }
    }
  }
  int images = 0;
  for (int outputs : kChannels) {
    for (int round = 0; round < kRounds; ++round, ++images) {
      const ImageCase image(outputs);
      const char* what = image.difference();
      if (!what) continue;
      if (++failures <= 10) print(what), print(" differs: "), image.print_shape();
    }
  }
  // The loop that measures the ceiling, to see that it runs.
  const std::uint64_t operations = path(Isa::kAvx512)->ceiling(100);
  if (operations != 100 * 14 * 512) print("the ceiling counts wrongly\n"), ++failures;
  print(units), print(" units, "), print(images), print(" image convolutions, "), print(failures), print(" differ\n");
  machine::turn_off();
}
