// Runs the unit tests that the command line names, or all. Exits with 0 if at least one ran and none failed.
#include <cstring>

#include "check.h"

// A check that fails, to test the runner: runs only if it is named.
static void a_failing_check() { CHECK_EQUAL(1 + 1, 3); }
static const check::Registered registered{"a_failing_check", a_failing_check, true};

int main(int count, char** names) {
  int ran = 0, failed = 0;
  for (const check::Test& test : check::tests()) {
    bool wanted = count == 1 && !test.only_by_name;
    for (int i = 1; i < count; ++i) wanted = wanted || std::strcmp(names[i], test.name) == 0;
    if (!wanted) continue;
    const int before = check::failures();
    test.run();
    ++ran;
    if (check::failures() == before) continue;
    ++failed;
    std::cout << "FAILED " << test.name << "\n";
  }
  std::cout << ran << " tests, " << failed << " failed\n";
  return ran > 0 && failed == 0 ? 0 : 1;
}
