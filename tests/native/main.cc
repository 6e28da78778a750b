// The entry point of every test program; doctest's own code is compiled here once.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest.h>
