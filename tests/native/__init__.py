"""The C++ tests of the compiled part, and the pytest module that runs them."""
