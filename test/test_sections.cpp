/*
The sections of a profile under a clock that a test moves: each gets exactly the time in which it was current, and together they
are the whole.
*/
#include "harness.h"

#include <time.h>

static double now;  // seconds
static int fake_clock(clockid_t, struct timespec* t) {
    t->tv_sec = (time_t)now;
    t->tv_nsec = (long)((now - (double)t->tv_sec) * 1e9 + 0.5);
    return 0;
}
#define clock_gettime fake_clock
#include "llmc/io/profile_report.h"

static void check_seconds(Section s, double seconds) { assert_float_equal(profile.seconds[s], seconds, 1e-6); }
static double all_seconds(void) {
    double sum = 0;
    for (int s = 0; s < SECTIONS; s++) sum += profile.seconds[s];
    return sum;
}

static int start(void** state) {
    (void)state;
    profile = Profile{};
    now = 100;
    return 0;
}

static void sections_take_their_time_out_of_the_outer_one(void** state) {
    (void)state;
    profile_start(0);
    now += 1;
    Section outer = section_begin(SECTION_MIXER);
    now += 2;
    Section inner = section_begin(SECTION_ATTENTION);
    now += 4;
    section_end(inner);
    now += 8;
    section_begin(SECTION_MLP);
    now += 16;
    section_end(outer);
    now += 32;
    profile_stop();
    now += 64;  // nothing counts any more
    section_end(section_begin(SECTION_HEAD));
    check_seconds(SECTION_OTHER, 33);
    check_seconds(SECTION_MIXER, 10);
    check_seconds(SECTION_ATTENTION, 4);
    check_seconds(SECTION_MLP, 16);
    check_seconds(SECTION_HEAD, 0);
    assert_float_equal(all_seconds(), 63, 1e-6);
    assert_int_equal(profile.entries[SECTION_MIXER], 1);
    assert_int_equal(profile.entries[SECTION_HEAD], 0);
}

static void validation_is_whole(void** state) {
    (void)state;
    profile_start(0);
    Section outer = section_begin(SECTION_VALIDATION);
    now += 1;
    Section inside = section_begin(SECTION_HEAD);
    now += 2;
    section_end(inside);
    now += 4;
    assert_int_equal(profile.section, SECTION_VALIDATION);
    section_end(outer);
    now += 8;
    outer = section_begin(SECTION_HEAD);
    now += 16;
    section_end(outer);
    profile_stop();
    check_seconds(SECTION_VALIDATION, 7);
    check_seconds(SECTION_HEAD, 16);
    check_seconds(SECTION_OTHER, 8);
    assert_int_equal(profile.entries[SECTION_HEAD], 1);
}

// The current section is known all the same: a dry run's plan goes by it.
static void off_counts_nothing(void** state) {
    (void)state;
    Section outer = section_begin(SECTION_HEAD);
    now += 1;
    assert_int_equal(profile.section, SECTION_HEAD);
    section_end(outer);
    assert_int_equal(profile.section, SECTION_OTHER);
    assert_float_equal(all_seconds(), 0, 0);
    assert_int_equal(profile.entries[SECTION_HEAD], 0);
}

static void every_section_has_a_name_of_its_own(void** state) {
    (void)state;
    assert_true((int)SECTIONS <= (int)METRICS_MAX);
    for (int a = 0; a < SECTIONS; a++) {
        assert_int_equal(strncmp(SECTION_NAMES[a].key, "profile_", 8), 0);
        for (int b = 0; b < a; b++) {
            assert_true(strcmp(SECTION_NAMES[a].key, SECTION_NAMES[b].key) &&
                        strcmp(SECTION_NAMES[a].title, SECTION_NAMES[b].title));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sections_take_their_time_out_of_the_outer_one, start),
        cmocka_unit_test_setup(validation_is_whole, start),
        cmocka_unit_test_setup(off_counts_nothing, start),
        cmocka_unit_test_setup(every_section_has_a_name_of_its_own, start),
    };
    return cmocka_run_group_tests_name("sections", tests, NULL, NULL);
}
