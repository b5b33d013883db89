/*
The flag table: every way to give a flag, every mistake with its sentence and exit code 2, and the texts it writes read back.
*/
#include "child.h"

#include "llmc/base/flags.h"

#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                     \
    SECTION("Data")                                                                                    \
    STRING(input_bin, "data/train_*.bin", "shards to train on")                                        \
    STRING(prompt, "", "text to continue")                                                             \
    INT(batch_size, 4, 1, 65536,                                                                       \
        "sequences per micro-step; a long help text that does not fit on one line of "                 \
        "the page and has to be broken at a space")                                                    \
    LONG(val_tokens, 1048576, 1, 5000000000, "tokens per validation")                                  \
    LONG(data_seed, 0, 0, INT64_MAX, "any number from 0")                                              \
    INT(seed, -1, INT32_MIN, INT32_MAX, "any number")                                                  \
    SECTION("Optimizer")                                                                               \
    FLOAT(learning_rate, 1e-4, 0, 10, "peak")                                                          \
    FLOAT(weight_decay, 0, 0, 1e30, "decay")                                                           \
    CHOICE(lr_schedule, "trapezoid", "trapezoid|cosine|linear|constant", "shape of the learning rate") \
    SECTION("Objective")                                                                               \
    SWITCH(mtp_enabled, 0, "look ahead")                                                               \
    SWITCH(tie_weights, 1, "one matrix for both ends")                                                 \
    INT(mtp_max_steps, 2, 2, 8, "tokens ahead")                                                        \
    FLOAT(mtp_weight, 0.1, 0, 10, "weight of the look-ahead loss")
DEFINE_OPTIONS(OPTIONS)

static Options options;
static FlagTable flags;

// Splits a line at spaces and parses it as a command line, in this process.
static void parse(const char* line) {
    static char buffer[1024];
    char* argv[32] = {(char*)"./train"};
    int argc = 1;
    snprintf(buffer, sizeof(buffer), "%s", line);
    for (char* word = strtok(buffer, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    flags_parse(&flags, argc, argv);
}

static void parse_in_child(const void* line) { parse((const char*)line); }

#define assert_refused(line, text)                                                                            \
    do {                                                                                                      \
        assert_int_equal(run_child(parse_in_child, line), 2);                                                 \
        assert_says(text);                                                                                    \
        assert_says("error: ");                                                                               \
        assert_ptr_equal(strchr(child_output, '\n'), child_output + strlen(child_output) - 1); /* one line */ \
    } while (0)

static int fresh(void** state) {
    (void)state;
    flags = options_table(&options);
    return 0;
}

static int release(void** state) {
    (void)state;
    flags_free(&flags);
    return 0;
}

static void defaults(void** state) {
    (void)state;
    assert_string_equal(options.input_bin, "data/train_*.bin");
    assert_string_equal(options.prompt, "");
    assert_int_equal(options.batch_size, 4);
    assert_true(options.val_tokens == 1048576);
    assert_int_equal(options.seed, -1);
    assert_true(options.learning_rate == 1e-4);
    assert_false(options.mtp_enabled);
    assert_true(options.tie_weights);
    assert_int_equal(flag_choice(&flags, "lr_schedule"), 0);
    for (int i = 0; i < flags.count; i++) assert_false(flags.set[i]);
}

static void all_forms(void** state) {
    (void)state;
    parse(
        "--batch_size 8 --val_tokens=5000000000 --learning_rate 3e-3 --lr_schedule=linear --mtp_enabled --mtp_weight=.35 --seed "
        "-7");
    assert_int_equal(options.batch_size, 8);
    assert_true(options.val_tokens == 5000000000);
    assert_true(options.learning_rate == 3e-3);
    assert_string_equal(options.lr_schedule, "linear");
    assert_int_equal(flag_choice(&flags, "lr_schedule"), 2);
    assert_true(options.mtp_enabled);
    assert_true(options.mtp_weight == .35);
    assert_int_equal(options.seed, -7);
    assert_true(flag_was_set(&flags, "batch_size"));
    assert_true(flag_was_set(&flags, "mtp_enabled"));
    assert_false(flag_was_set(&flags, "mtp_max_steps"));
    parse("--mtp_enabled 0 --tie_weights=0 --batch_size 8 --batch_size 16 --prompt=");  // later flags win
    assert_false(options.mtp_enabled);
    assert_false(options.tie_weights);
    assert_int_equal(options.batch_size, 16);
    parse("--mtp_enabled=1 --tie_weights --prompt=--x=y --input_bin -");
    assert_true(options.mtp_enabled);
    assert_true(options.tie_weights);
    assert_string_equal(options.prompt, "--x=y");
    assert_string_equal(options.input_bin, "-");
    parse("--mtp_enabled 1 --mtp_max_steps 8");
    assert_int_equal(options.mtp_max_steps, 8);
    parse("");
}

static void range_edges(void** state) {
    (void)state;
    parse("--batch_size 1");
    parse("--batch_size 65536");
    parse("--batch_size +5");
    parse("--val_tokens 1");
    parse("--val_tokens 5000000000");
    parse("--data_seed 9223372036854775807");
    parse("--seed -2147483648");
    parse("--seed 2147483647");
    parse("--learning_rate 0");
    parse("--learning_rate 10");
    parse("--learning_rate 1e-400");  // rounds to 0
    parse("--weight_decay 1e29");
    assert_refused("--batch_size 0", "--batch_size is 0: expected a whole number in 1..65536");
    assert_refused("--batch_size 65537", "--batch_size is 65537: expected a whole number in 1..65536");
    assert_refused("--val_tokens 5000000001", "in 1..5000000000");
    assert_refused("--seed 2147483648", "--seed is 2147483648: expected a whole number");
    assert_refused("--seed 99999999999999999999", "--seed is 99999999999999999999");
    assert_refused("--data_seed 9223372036854775808", "expected a whole number, 0 or more");
    assert_refused("--learning_rate -1e-9", "--learning_rate is -1e-9: expected a number in 0..10");
    assert_refused("--learning_rate 10.0001", "expected a number in 0..10");
    assert_refused("--learning_rate 1e999", "expected a number in 0..10");
    assert_refused("--weight_decay -1", "expected a number, 0 or more");
}

static void mistakes(void** state) {
    (void)state;
    assert_refused("--batch_size 4x", "--batch_size is \"4x\": expected a whole number in 1..65536");
    assert_refused("--batch_size 1e3", "--batch_size is \"1e3\"");
    assert_refused("--batch_size 4.0", "--batch_size is \"4.0\"");
    assert_refused("--batch_size=", "--batch_size is \"\"");
    assert_refused("--batch_size 0x10", "--batch_size is \"0x10\"");
    assert_refused("--learning_rate fast", "--learning_rate is \"fast\": expected a number in 0..10");
    assert_refused("--learning_rate 0.1.2", "--learning_rate is \"0.1.2\"");
    assert_refused("--learning_rate nan", "--learning_rate is \"nan\"");
    assert_refused("--learning_rate inf", "--learning_rate is \"inf\"");
    assert_refused("--learning_rate 0x1p-3", "--learning_rate is \"0x1p-3\"");
    assert_refused("--lr_schedule cosin", "--lr_schedule is \"cosin\": expected one of trapezoid, cosine, linear, constant");
    assert_refused("--lr_schedule trapezoid|cosine", "expected one of");
    assert_refused("--mtp_enabled=yes", "--mtp_enabled is \"yes\": expected 0 or 1");
    assert_refused("--mtp_enabled yes", "unexpected \"yes\"");
    assert_refused("--batch_size", "--batch_size needs a value: expected a whole number in 1..65536");
    assert_refused("--batch_size --mtp_enabled", "--batch_size needs a value");
    assert_refused("--lr_schedule", "--lr_schedule needs a value: expected one of trapezoid");
    assert_refused("foo", "unexpected \"foo\"");
    assert_refused("--batch_size 4 8", "unexpected \"8\"");
    assert_refused("@", "\"@\" needs a file name");
    assert_refused("@nowhere.txt", "@nowhere.txt: cannot read this file of flags: No such file or directory");
    assert_refused("@/tmp", "@/tmp: cannot read this file of flags: Is a directory");
}

static void did_you_mean(void** state) {
    (void)state;
    assert_refused("--mtp_wieght 0.1", "unknown flag --mtp_wieght: did you mean --mtp_weight?");
    assert_refused("--mtp_wieght=0.1", "unknown flag --mtp_wieght: did you mean --mtp_weight?");
    assert_refused("--batch-size 4", "did you mean --batch_size?");
    assert_refused("-batch_size 4", "did you mean --batch_size?");
    assert_refused("--mtp_steps 4", "did you mean --mtp_max_steps?");
    assert_refused("--mtp 1", "unknown flag --mtp (--help lists all flags)");
    assert_refused("--something_else 1", "unknown flag --something_else (--help lists all flags)");
    assert_refused("--Data 1", "unknown flag --Data");  // a section is no flag
    assert_refused("--", "unknown flag --");
    assert_refused("-", "unknown flag -");
    assert_refused("--=4", "unknown flag --");
    assert_int_equal(edit_distance("", "abc"), 3);
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    assert_int_equal(edit_distance("ab", "ba"), 1);
    assert_int_equal(edit_distance("abcdef", "abdcef"), 1);
}

static void help(void** state) {
    (void)state;
    assert_int_equal(run_child(parse_in_child, "--batch_size 3 --help --nonsense"), 0);
    assert_says("usage: ./train [@file] [--flag value] ...\n");
    assert_says("\nOptimizer\n");
    assert_says("  --lr_schedule NAME              shape of the learning rate (default trapezoid; one of trapezoid, cosine,\n");
    assert_says("  --learning_rate X               peak (default 1e-4; a number in 0..10)\n");
    assert_says("  --input_bin TEXT                shards to train on (default \"data/train_*.bin\")\n");
    assert_says("  --prompt TEXT                   text to continue (default none)\n");
    assert_says("  --tie_weights                   one matrix for both ends (default on)\n");
    for (char* line = child_output; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        assert_true(strcspn(line, "\n") <= FLAGS_HELP_WIDTH);
    }
    assert_int_equal(run_child(parse_in_child, "-h"), 0);
    assert_says("usage:");
}

static void files(void** state) {
    (void)state;
    char line[1024];
    mkdir(test_path("sub"), 0777);
    write_text(test_path("outer.txt"),
               "# a preset\r\n"
               "--batch_size 32   # with a comment\n"
               "\n"
               "  --prompt \"say \\\"a b\\\" # not a comment\\n\\tnext\"\n"
               "@sub/inner.txt\n"
               "--mtp_enabled\n"
               "--tie_weights 0\n"
               "--input_bin='two words/*.bin'\n"
               "--lr_schedule=cosine");
    write_text(test_path("sub/inner.txt"), "--batch_size 64\n@deeper.txt\n");
    write_text(test_path("sub/deeper.txt"), "--mtp_weight 0.25\n");
    snprintf(line, sizeof(line), "--batch_size 1 @%s --mtp_weight 0.5", test_path("outer.txt"));
    parse(line);
    assert_int_equal(options.batch_size, 64);
    assert_string_equal(options.prompt, "say \"a b\" # not a comment\n\tnext");
    assert_true(options.mtp_weight == 0.5);
    assert_true(options.mtp_enabled);
    assert_false(options.tie_weights);
    assert_string_equal(options.input_bin, "two words/*.bin");
    assert_string_equal(options.lr_schedule, "cosine");
}

#define assert_file_refused(content, text)                     \
    do {                                                       \
        char at[900];                                          \
        write_text(test_path("bad.txt"), content);             \
        snprintf(at, sizeof(at), "@%s", test_path("bad.txt")); \
        assert_refused(at, text);                              \
    } while (0)

static void file_mistakes(void** state) {
    (void)state;
    assert_file_refused("--batch_size 4\n# x\n--batch_size 0\n", "bad.txt:3: --batch_size is 0: expected");
    assert_file_refused("\n--batch_sise 4", "bad.txt:2: unknown flag --batch_sise: did you mean --batch_size?");
    assert_file_refused("--batch_size\n4\n", "bad.txt:1: --batch_size needs a value");
    assert_file_refused("--prompt \"abc\n", "bad.txt:1: the quote \" is never closed");
    assert_file_refused("--prompt a b\n", "bad.txt:1: unexpected \"b\"");
    assert_file_refused("@gone.txt\n", "bad.txt:1: @");
    assert_file_refused("@bad.txt\n", "name each other more than 8 deep");
    FILE* file = fopen(test_path("zero.txt"), "wb");
    fwrite("--batch_size 4\0\n", 1, 16, file);
    fclose(file);
    char line[900];
    snprintf(line, sizeof(line), "@%s", test_path("zero.txt"));
    assert_refused(line, "not a text file of flags");

    for (int depth = 1; depth <= 9; depth++) {  // a chain of 8 files is allowed, of 9 not
        char name[32], next[32];
        snprintf(name, sizeof(name), "chain%d.txt", depth);
        snprintf(next, sizeof(next), depth == 9 ? "--batch_size 9\n" : "@chain%d.txt\n", depth + 1);
        write_text(test_path(name), next);
    }
    snprintf(line, sizeof(line), "@%s", test_path("chain2.txt"));
    parse(line);
    assert_int_equal(options.batch_size, 9);
    snprintf(line, sizeof(line), "@%s", test_path("chain1.txt"));
    assert_refused(line, "@");
    assert_says("8 deep");
}

static void texts_round_trip(void** state) {
    (void)state;
    Options copy;
    FlagTable second = options_table(&copy);
    Text text = {0, 0, 0}, again = {0, 0, 0}, difference = {0, 0, 0};
    char* argv[] = {(char*)"x",
                    (char*)"--prompt",
                    (char*)" a \"q\" \\ 'x' # \n\ttail ",
                    (char*)"--learning_rate",
                    (char*)"0.1234567890123456",
                    (char*)"--val_tokens",
                    (char*)"4999999999",
                    (char*)"--mtp_enabled",
                    (char*)"--input_bin=--odd",
                    (char*)"--tie_weights=0"};
    flags_parse(&flags, 10, argv);
    flags_text(&flags, &text);
    assert_int_equal(flags_diff(&flags, &second, &difference), 6);
    assert_non_null(difference.data);
    assert_non_null(strstr(difference.data, "--val_tokens 4999999999 -> 1048576\n"));
    flags_parse_text(&second, text.data, "text");
    flags_text(&second, &again);
    assert_string_equal(text.data, again.data);
    assert_string_equal(copy.prompt, options.prompt);
    assert_string_equal(copy.input_bin, "--odd");
    assert_true(copy.learning_rate == options.learning_rate);
    assert_int_equal(flags_diff(&flags, &second, &difference), 0);
    assert_true(flag_was_set(&second, "mtp_enabled"));  // differs from its default
    assert_false(flag_was_set(&second, "batch_size"));  // named by the text, yet the default
    write_text(test_path("again.txt"), text.data);
    char line[900];
    snprintf(line, sizeof(line), "@%s", test_path("again.txt"));
    flags_free(&flags);
    flags = options_table(&options);
    parse(line);
    again.size = 0;
    flags_text(&flags, &again);
    assert_string_equal(text.data, again.data);
    flag_assign_by_name(&flags, "input_bin", "#1.bin");  // bare it would be a comment
    text.size = 0;
    flags_text(&flags, &text);
    flags_parse_text(&second, text.data, "text");
    assert_string_equal(copy.input_bin, "#1.bin");
    text_free(&text), text_free(&again), text_free(&difference);
    flags_free(&second);
}

static void stored(const void* text) { flags_parse_text(&flags, (const char*)text, "a.ckpt"); }

// Flags out of a checkpoint name no files, and do not end the program as --help does; files of flags are not without end.
static void limits(void** state) {
    (void)state;
    Text many = {0, 0, 0};
    char line[900];
    write_text(test_path("one.txt"), "--batch_size 8\n");
    snprintf(line, sizeof(line), "--batch_size 8\n@%s\n", test_path("one.txt"));
    const char* lies[] = {line, "--batch_size 8\n-h\n", "--batch_size 8\n--help\n"};
    const char* found[] = {"a.ckpt:2: unexpected \"@", "a.ckpt:2: unexpected \"-h\": flags that a program has stored",
                           "unknown flag --help"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_child(stored, lies[i]), 2);
        assert_says(found[i]);
    }
    for (int i = 0; i < 102; i++) text_add(&many, "@one.txt\n");
    write_text(test_path("many.txt"), many.data);
    snprintf(line, sizeof(line), "@%s", test_path("many.txt"));
    assert_int_equal(run_child(parse_in_child, line), 2);
    assert_says("one.txt: more than 100 files of flags");
    text_free(&many);
}

static void short_forms(void** state) {
    (void)state;
    Text text = {0, 0, 0};
    flags_changed(&flags, &text);
    assert_string_equal(text.data, "");
    parse("--learning_rate 0.0001 --batch_size 8 --mtp_enabled --prompt=\"");
    flags_changed(&flags, &text);
    assert_string_equal(text.data, "--prompt \"\\\"\" --batch_size 8 --mtp_enabled 1");  // 0.0001 is the default 1e-4
    text.size = 0;
    flags_json(&flags, &text);
    assert_string_equal(text.data,
                        "{\"input_bin\":\"data/"
                        "train_*.bin\",\"prompt\":\"\\\"\",\"batch_size\":8,\"val_tokens\":1048576,\"data_seed\":0,\"seed\":-1,"
                        "\"learning_rate\":0.0001,\"weight_decay\":0,\"lr_schedule\":\"trapezoid\",\"mtp_enabled\":true,"
                        "\"tie_weights\":true,\"mtp_max_steps\":2,\"mtp_weight\":0.1}");
    text.size = 0;
    text_add_json(&text, "a\n\x01\\\xc3\xa9");
    assert_string_equal(text.data, "\"a\\u000a\\u0001\\\\\xc3\xa9\"");
    flag_assign_by_name(&flags, "lr_schedule", "constant");
    assert_int_equal(flag_choice(&flags, "lr_schedule"), 3);
    assert_false(flag_was_set(&flags, "lr_schedule"));
    text_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, fresh, release),
        cmocka_unit_test_setup_teardown(all_forms, fresh, release),
        cmocka_unit_test_setup_teardown(range_edges, fresh, release),
        cmocka_unit_test_setup_teardown(mistakes, fresh, release),
        cmocka_unit_test_setup_teardown(did_you_mean, fresh, release),
        cmocka_unit_test_setup_teardown(help, fresh, release),
        cmocka_unit_test_setup_teardown(files, fresh, release),
        cmocka_unit_test_setup_teardown(file_mistakes, fresh, release),
        cmocka_unit_test_setup_teardown(texts_round_trip, fresh, release),
        cmocka_unit_test_setup_teardown(limits, fresh, release),
        cmocka_unit_test_setup_teardown(short_forms, fresh, release),
    };
    return cmocka_run_group_tests(tests, NULL, test_dir_remove);
}
