// The choice of the path in core/isa.h.
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "core/isa.h"
#include "core/path.h"

namespace {

using namespace edgebnn;

std::string found(const IsaChoice& choice) { return choice.isa ? name(*choice.isa) : "none"; }

std::string fastest() {
  for (const Isa isa : kFastestFirst) {
    if (available(isa)) return name(isa);
  }
  return "none";
}

}  // namespace

TEST(without_a_name_the_fastest_path_is_chosen) {
  CHECK_EQUAL(found(choose_isa(nullptr)), fastest());
  CHECK_EQUAL(found(choose_isa("")), fastest());
}

TEST(every_path_can_be_chosen_by_name_where_it_is_available) {
  for (const Isa isa : kFastestFirst) CHECK_EQUAL(found(choose_isa(name(isa))), available(isa) ? name(isa) : "none");
}

TEST(an_unknown_path_is_refused_with_the_available_ones) {
  for (const char* wrong : {"sse9", "avx", "AVX2", " scalar", "scalar "}) {
    const IsaChoice choice = choose_isa(wrong);
    CHECK(choice.isa == nullptr);
    CHECK_EQUAL(choice.error.find(wrong), std::strlen("EDGEBNN_ISA is '"));
    for (const Isa isa : kFastestFirst) {
      CHECK_EQUAL(choice.error.find(name(isa), choice.error.find(';')) != std::string::npos, available(isa));
    }
  }
}

TEST(a_path_that_was_not_built_is_not_available) {
  for (const Isa isa : kFastestFirst) CHECK(path(isa) || !available(isa));
  CHECK(available(Isa::kScalar));
}

// The only test that asks for the environment's choice, because a process reads it once.
TEST(the_environment_forces_a_path_and_is_read_once) {
  setenv("EDGEBNN_ISA", "scalar", 1);
  CHECK(chosen_isa() && *chosen_isa() == Isa::kScalar);
  setenv("EDGEBNN_ISA", "sse9", 1);
  CHECK(chosen_isa() && *chosen_isa() == Isa::kScalar);
  CHECK_EQUAL(std::string(isa_error()), "");
}

TEST(every_path_computes_whole_bytes_of_bits) {
  for (const Isa isa : kFastestFirst) {
    if (!path(isa)) continue;
    CHECK_EQUAL(path(isa)->image_block % 8, 0u);
    for (const std::size_t outputs : {1u, 31u, 32u, 33u, 64u, 65u, 128u, 129u, 2048u}) {
      CHECK_EQUAL(path(isa)->block(outputs) % 8, 0u);
    }
  }
}
