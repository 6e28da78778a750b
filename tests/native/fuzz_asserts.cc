// Lets a fuzz target use what the tests use (support.h), asserts included: outside of a test case a failed one ends the
// process.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest.h>

#include <cstdlib>
#include <iostream>

namespace {

void OnAssert(const doctest::AssertData& assertion) {
  if (!assertion.m_failed) return;
  std::cerr << assertion.m_file << ":" << assertion.m_line << ": " << assertion.m_expr << std::endl;
  std::abort();
}

struct Asserts {
  Asserts() {
    context.setAssertHandler(OnAssert);
    context.setAsDefaultForAssertsOutOfTestCases();
  }
  doctest::Context context;
};

const Asserts asserts;

}  // namespace
