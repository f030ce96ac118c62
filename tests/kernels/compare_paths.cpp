// Every path of this build and processor against the scalar one, on random units: a program without Python, for machines
// that exist only inside an emulator. As process 1 of such a machine it turns the machine off at the end.
#include <sys/reboot.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "c_api.h"

namespace {

std::mt19937 generator(1);

int below(int end) { return static_cast<int>(generator() % static_cast<unsigned>(end)); }

// Small whole numbers, so that comparisons meet equality and zeros of both signs; some are extreme.
std::vector<float> numbers(std::size_t count, bool extreme) {
  static const std::uint32_t kExtreme[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 1u, 0x80000001u, 0x7f7fffffu};
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(below(5) - 2) * (below(2) ? 1.0f : -0.37f);
    if (extreme && below(10) == 0) std::memcpy(&value, &kExtreme[below(6)], sizeof value);
  }
  return values;
}

struct Result {
  std::vector<float> y;
  std::vector<std::uint8_t> next_bits;
};

struct Case {
  int inputs, outputs, kernel, stride, height, width;
  const char *padding, *shortcut;
  std::vector<float> x, threshold, scale, bias, slope, next_threshold;
  std::vector<std::uint8_t> weight;

  Case(int channels, int kernel, const char* shortcut, int height, int width)
      : inputs(channels), outputs(std::strcmp(shortcut, "repeat") ? channels : 2 * channels), kernel(kernel),
        stride(std::strcmp(shortcut, "pool") ? 1 : 2), height(height * stride), width(width * stride),
        padding(below(2) ? "zero" : "one"), shortcut(shortcut) {
    const bool extreme = below(2);
    x = numbers(static_cast<std::size_t>(this->height) * this->width * inputs, extreme);
    threshold = numbers(inputs, extreme);
    for (auto* constants : {&scale, &bias, &slope, &next_threshold}) *constants = numbers(outputs, extreme);
    const std::size_t bytes = (inputs + 7) / 8;
    weight.resize(static_cast<std::size_t>(outputs) * kernel * kernel * bytes);
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const unsigned tail = inputs % 8 && i % bytes == bytes - 1 ? (1u << (inputs % 8)) - 1 : 255u;
      weight[i] = static_cast<std::uint8_t>(generator() & tail);
    }
  }

  // Fails by an empty result.
  Result run(const char* isa) const {
    Result result;
    void* unit = edgebnn_unit_create(isa, inputs, outputs, kernel, stride, padding, shortcut, weight.data(),
                                     threshold.data(), scale.data(), bias.data(), slope.data(), next_threshold.data());
    if (!unit || std::strcmp(edgebnn_unit_isa(unit), isa)) return result;
    const std::size_t pixels = static_cast<std::size_t>(height / stride) * (width / stride);
    result.y.resize(pixels * outputs);
    result.next_bits.resize(pixels * ((outputs + 7) / 8));
    edgebnn_unit_run(unit, x.data(), nullptr, 1, height, width, result.y.data(), result.next_bits.data(), 1);
    edgebnn_unit_destroy(unit);
    return result;
  }
};

bool same(const Result& a, const Result& b) {
  if (a.y.size() != b.y.size() || a.y.empty() || a.next_bits != b.next_bits) return false;
  for (std::size_t i = 0; i < a.y.size(); ++i) {
    const bool nan = a.y[i] != a.y[i];
    if (nan ? b.y[i] == b.y[i] : std::memcmp(&a.y[i], &b.y[i], sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 1;
  int passed = 0, failed = 0;
  std::printf("paths: %s; chosen: %s\n", edgebnn_isas(), edgebnn_isa());
  std::istringstream names(edgebnn_isas());
  for (std::string isa; names >> isa;) {
    if (isa == "scalar") continue;
    for (int channels : {1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 192, 255, 256, 257, 511, 512, 1024}) {
      for (int kernel : {1, 3}) {
        for (const char* shortcut : {"identity", "pool", "repeat"}) {
          for (int round = 0; round < rounds; ++round) {
            const int side = channels > 256 ? 2 : 6;
            const Case unit(channels, kernel, shortcut, 1 + below(side), 1 + below(2 * side));
            const bool equal = same(unit.run(isa.c_str()), unit.run("scalar"));
            (equal ? passed : failed) += 1;
            if (!equal) {
              std::printf("%s differs: %d channels, %dx%d, %s, padding %s, %d x %d pixels\n", isa.c_str(), channels,
                          kernel, kernel, shortcut, unit.padding, unit.height, unit.width);
            }
          }
        }
      }
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  std::fflush(stdout);
  if (getpid() == 1) {
    sync();
    reboot(RB_POWER_OFF);
  }
  return failed || !passed;
}
