/*
cmocka for this project's tests: include this instead of <cmocka.h>, before or after the project's own headers.

cmocka and llmc/base/check.h both have a fail(): cmocka's is a macro without a message, and it gives way. In a test,
fail_msg("..") fails the test, fail("..") is the project's own (it ends the program, so a test forks to see it).
*/
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#pragma push_macro("fail")
#include <cmocka.h>
#undef fail
#pragma pop_macro("fail")
#ifdef __cplusplus
}
#endif
#undef fail_msg
#define fail_msg(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

#ifdef TEST_BRIEFLY
enum { BRIEF = 1 };  // checking and sanitizer builds, which take up to tens of times as long: every kernel, in fewer cases
#else
enum { BRIEF = 0 };
#endif
