// A micro-benchmark: a few units of ReActNet-A on each available path, beside the path's popcount ceiling.
//     edgebnn_bench [--rounds N] [--path NAME]
// In each round every unit runs once on every path, in an order drawn anew, and the ceilings are measured again. Other
// load on the machine then affects all lines alike. One thread. The bits of x are passed in, as in a network.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/isa.h"
#include "core/path.h"
#include "random_unit.h"

namespace {

using namespace edgebnn;
using Clock = std::chrono::steady_clock;

constexpr int kWarmUps = 2;

struct Form {
  const char* text;
  UnitShape shape;
  std::size_t side;
};

constexpr Form kForms[] = {
    {"3x3  128 to  128 at 56x56", {128, 128, 3, 1, Padding::kZero, Shortcut::kIdentity}, 56},
    {"3x3  512 to  512 at 14x14", {512, 512, 3, 1, Padding::kZero, Shortcut::kIdentity}, 14},
    {"3x3 1024 to 1024 at  7x7 ", {1024, 1024, 3, 1, Padding::kZero, Shortcut::kIdentity}, 7},
    {"3x3  256 to  256 at 28x28, stride 2", {256, 256, 3, 2, Padding::kZero, Shortcut::kPool}, 28},
    {"1x1   32 to   64 at 112x112", {32, 64, 1, 1, Padding::kZero, Shortcut::kRepeat}, 112},
    {"1x1  512 to  512 at 14x14", {512, 512, 1, 1, Padding::kZero, Shortcut::kIdentity}, 14},
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One unit on one path.
class Timed {
 public:
  Timed(const Form& form, Isa isa, std::mt19937& random) : form_(form), isa_(isa) {
    const UnitShape& shape = form.shape;
    const random_unit::Constants constants(shape, random);
    unit_ = Unit::make(shape, constants.pointers(), isa);
    const std::size_t pixels = form.side * form.side, stride = static_cast<std::size_t>(shape.stride);
    const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
    x_ = random_unit::floats(random, pixels * static_cast<std::size_t>(shape.inputs));
    bits_ = random_unit::pack(x_, constants.threshold);
    const std::size_t out_pixels = pixels / (stride * stride);
    y_.resize(out_pixels * outputs);
    next_bits_.resize(out_pixels * ((outputs + 7) / 8));
    macs_ = static_cast<double>(out_pixels * outputs) * shape.inputs * shape.kernel * shape.kernel;
  }

  double run() {
    const auto start = Clock::now();
    unit_->run({.x = x_.data(), .bits = bits_.data(), .y = y_.data(), .next_bits = next_bits_.data()}, 1, form_.side,
               form_.side, random_unit::serial());
    return seconds_since(start);
  }

  void measure() { times_.push_back(run()); }

  void print(double ceiling) {
    std::sort(times_.begin(), times_.end());
    const auto at = [&](double share) { return times_[static_cast<std::size_t>(share * double(times_.size() - 1))]; };
    const double rate = macs_ / at(0.5);
    std::printf("%-7s %-36s %9.1f %9.1f %9.1f %9.0f %7.0f%%\n", name(isa_), form_.text, 1e6 * at(0.5), 1e6 * at(0.1),
                1e6 * at(0.9), rate / 1e9, 100 * rate / ceiling);
  }

  Isa isa() const { return isa_; }

 private:
  const Form& form_;
  const Isa isa_;
  std::unique_ptr<Unit> unit_;
  std::vector<float> x_, y_;
  std::vector<std::uint8_t> bits_, next_bits_;
  double macs_;
  std::vector<double> times_;
};

// Returns the binary multiply-accumulates per second of XOR, popcount and add on registers, over about a millisecond.
double measure_ceiling(Isa isa) {
  const auto start = Clock::now();
  const std::uint64_t macs = path(isa)->ceiling(200000);
  return static_cast<double>(macs) / seconds_since(start);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int count, char** arguments) {
  int rounds = 30;
  const char* only = nullptr;
  for (int i = 1; i < count; i += 2) {
    if (i + 1 < count && std::strcmp(arguments[i], "--rounds") == 0 && std::atoi(arguments[i + 1]) > 0) {
      rounds = std::atoi(arguments[i + 1]);
    } else if (i + 1 < count && std::strcmp(arguments[i], "--path") == 0 && choose_isa(arguments[i + 1]).isa) {
      only = arguments[i + 1];
    } else {
      std::fprintf(stderr, "usage: edgebnn_bench [--rounds N] [--path NAME], with an available path\n");
      return 2;
    }
  }
  std::mt19937 random(1);
  std::vector<Timed> units;
  for (const Isa isa : kFastestFirst) {
    if (!available(isa) || (only && std::strcmp(only, name(isa)) != 0)) continue;
    for (const Form& form : kForms) units.emplace_back(form, isa, random);
  }
  for (int i = 0; i < kWarmUps; ++i) {
    for (Timed& unit : units) unit.run();
  }
  std::vector<std::size_t> order(units.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<std::vector<double>> ceilings(std::size(kFastestFirst));
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      units[i].measure();
      ceilings[static_cast<std::size_t>(units[i].isa())].push_back(measure_ceiling(units[i].isa()));
    }
  }
  std::printf("%d rounds, one thread. us: microseconds. GMAC/s: 1e9 binary multiply-accumulates per second.\n", rounds);
  std::printf("%-7s %-36s %9s %9s %9s %9s %8s\n", "path", "unit", "median us", "10% us", "90% us", "GMAC/s", "ceiling");
  for (Timed& unit : units) unit.print(median(ceilings[static_cast<std::size_t>(unit.isa())]));
  return 0;
}
