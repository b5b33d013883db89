/*
The detector of outliers: what it remembers, against sums in double, and how it takes spikes, jumps and enormous values.
*/
#include "harness.h"

#include "llmc/base/rand.h"
#include "llmc/optim/guard.h"

static float noise(int i) { return (float)((double)rand_at(5, (uint64_t)i) / 18446744073709551616.0 - 0.5); }

// The first 128 values weigh the same, and none is skipped; after n of them value i weighs (1 - 1/128)^(n - i) as much.
static void remembers(void** state) {
    (void)state;
    Outlier o = {0, 0, 0, 0};
    double mean = 0, variance = 0, sum = 0, squares = 0;
    for (int i = 0; i < 1000; i++) {
        float x = i == 40 ? 50.0f : 3.0f + noise(i);
        bool first = i < OUTLIER_STEPS;
        double z = (x - mean) / sqrt(variance), d = x - mean, a = 1.0 / 128;
        assert_false(outlier_update(&o, x, 6.0f));
        if (!first) assert_true(fabs(o.z - z) < 1e-3);
        if (first) assert_true(o.z == 0.0f);
        sum += x, squares += (double)x * x;
        mean = first ? sum / (i + 1) : mean + a * d;
        variance = first ? squares / (i + 1) - mean * mean : (1 - a) * (variance + a * d * d);
        assert_true(fabs(o.mean - mean) < 1e-4 * mean && fabs(o.variance - variance) < 1e-3 * variance + 1e-4);
    }
    assert_int_equal(o.count, OUTLIER_STEPS);
}

// Spikes in a row are all skipped, however high the first; a level that rose for good is reached; a falling one is never skipped.
static void spikes_and_jumps(void** state) {
    (void)state;
    Outlier o = {0, 0, 0, 0};
    for (int i = 0; i < 300; i++) outlier_update(&o, 3.0f + noise(i), 6.0f);
    Outlier calm = o;
    assert_true(outlier_update(&o, 1e30f, 6.0f));
    for (int i = 0; i < 5; i++) assert_true(outlier_update(&o, 8.0f, 6.0f));
    assert_false(outlier_update(&o, 3.4f, 6.0f));
    o = calm;
    int skipped = 0;
    for (int i = 0; i < 300; i++) skipped += outlier_update(&o, 9.0f + noise(i), 6.0f);
    if (skipped < 5 || skipped > 100) fail_msg("after a jump %d of 300 steps were skipped", skipped);
    o = calm;
    for (int i = 0; i < 300; i++) assert_false(outlier_update(&o, 3.0f - 0.1f * (float)i, 1.0f));
}

// Neither equal values nor enormous ones leave the numbers.
static void stays_finite(void** state) {
    (void)state;
    Outlier o = {0, 0, 0, 0};
    for (int i = 0; i < 200; i++) assert_false(outlier_update(&o, 0.1f, 3.0f));
    assert_true(o.z == 0.0f || fabsf(o.z) < 3.0f);
    Outlier huge = {0, 0, 0, 0};
    for (int i = 0; i < 400; i++) {
        outlier_update(&huge, i % 2 ? 3e38f : -3e38f, 3.0f);
        assert_true(isfinite(huge.mean) && isfinite(huge.variance) && isfinite(huge.z));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers),
        cmocka_unit_test(spikes_and_jumps),
        cmocka_unit_test(stays_finite),
    };
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
