// A runner for the unit tests: TEST(name) { ... CHECK(condition); CHECK_EQUAL(found, wanted); }
#pragma once

#include <iostream>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
  bool only_by_name;  // runs only if the command line names it
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registered {
  Registered(const char* name, void (*run)(), bool only_by_name = false) {
    tests().push_back({name, run, only_by_name});
  }
};

template <class Found, class Wanted>
void equal(const Found& found, const Wanted& wanted, const char* text, const char* file, int line) {
  if (found == wanted) return;
  ++failures();
  std::cout << file << ":" << line << ": " << text << " is " << found << ", wanted " << wanted << "\n";
}

inline void holds(bool condition, const char* text, const char* file, int line) {
  if (condition) return;
  ++failures();
  std::cout << file << ":" << line << ": " << text << " does not hold\n";
}

}  // namespace check

#define TEST(name)                                               \
  static void name();                                            \
  static const check::Registered registered_##name{#name, name}; \
  static void name()
#define CHECK(condition) check::holds((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(found, wanted) check::equal((found), (wanted), #found, __FILE__, __LINE__)
