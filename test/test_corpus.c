/*
data/make_corpus: the same seed gives the same text, and the text is clean: no pattern signs left over, articles and capitals
right.
*/
#include "child.h"

#define main make_corpus_main
#include "data/make_corpus.c"
#undef main

enum { TEXT_BYTES = 3000000 };

static Text stories(uint64_t seed, size_t bytes) {
    static Story story;
    Text text = {NULL, 0, 0};
    story.rng = rng_start(seed, "stories");
    while (text.size < bytes) {
        if (text.size) text_add_char(&text, '\n');
        tell_story(&story, sizeof plots / sizeof plots[0], &text);
    }
    return text;
}

static void test_seeds(void** state) {
    (void)state;
    Text a = stories(1, 20000), b = stories(1, 20000), c = stories(2, 20000);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    assert_true(a.size != c.size || memcmp(a.data, c.data, a.size) != 0);
    text_free(&a);
    text_free(&b);
    text_free(&c);
}

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static void test_clean_text(void** state) {
    (void)state;
    Text text = stories(5, TEXT_BYTES);
    const char* t = text.data;
    for (size_t i = 0; i + 4 < text.size; i++) {
        const char* here = t + i;
        if (!((*here >= ' ' && *here < 127) || *here == '\n') || strchr("{}<>()|/^_", *here) || !strncmp(here, "  ", 2) ||
            !strncmp(here, " ,", 2) || !strncmp(here, " .", 2) || !strncmp(here, "\n ", 2) || !strncmp(here, " \n", 2) ||
            !strncmp(here, "\n\n\n", 3)) {
            fail_msg("unclean: %.60s", i > 20 ? here - 20 : here);
        }
        bool starts_word = i > 0 && !is_word(here[-1]) && is_word(*here);
        if (starts_word && (*here | 32) == 'a' && here[1] == ' ' && strchr("aeiou", here[2])) fail_msg("article: %.40s", here);
        if (starts_word && !strncmp(here + 1, "n ", 2) && (*here | 32) == 'a' && !strchr("aeiou", here[3]) &&
            strncmp(here + 3, "honest", 6)) {
            fail_msg("article: %.40s", here);
        }
        if (strchr(".!?", *here) && here[1] == ' ' && here[2] >= 'a' && here[2] <= 'z') fail_msg("capital: %.40s", here);
        if (*here == '\n' && here[1] >= 'a') fail_msg("capital: %.40s", here);
    }
    text_free(&text);
}

// Every plot and every word list is used, and stories do not repeat.
static void test_variety(void** state) {
    (void)state;
    Text text = stories(9, TEXT_BYTES);
    for (size_t i = 0; i < sizeof word_lists / sizeof word_lists[0]; i++) {
        char used[2][24];
        snprintf(used[0], sizeof used[0], "{%s", word_lists[i].name);
        snprintf(used[1], sizeof used[1], "<%s>", word_lists[i].name);
        const char* const by_code[] = {"girl", "boy", "animal", "woman", "man", "house", "den"};
        bool found = false;
        for (size_t k = 0; k < sizeof by_code / sizeof by_code[0]; k++) found = found || !strcmp(by_code[k], word_lists[i].name);
        for (size_t k = 0; k < sizeof word_lists / sizeof word_lists[0]; k++) {
            found = found || strstr(word_lists[k].items, used[0]) || strstr(word_lists[k].items, used[1]);
        }
        for (size_t p = 0; p < sizeof plots / sizeof plots[0]; p++) {
            for (int k = 0; k < PLOT_PARAGRAPHS && plots[p][k]; k++) {
                found = found || strstr(plots[p][k], used[0]) || strstr(plots[p][k], used[1]);
            }
        }
        if (!found) fail_msg("no pattern uses the list %s", word_lists[i].name);
    }
    uint64_t hashes[8192];
    int count = 0;
    for (char *story = text.data, *end; story; story = end ? end + 2 : NULL) {
        end = strstr(story, "\n\n");
        if (end) *end = '\0';
        uint64_t hash = rand_key(0, story);
        for (int i = 0; i < count; i++) assert_true(hashes[i] != hash);
        if (count < 8192) hashes[count++] = hash;
    }
    assert_in_range(count, 2500, 8192);
    text_free(&text);
}

static void run_tool(const void* line) {
    char words[1024], *argv[16] = {(char*)"data/make_corpus"}, *save = NULL;
    int argc = 1;
    snprintf(words, sizeof words, "%s", (const char*)line);
    for (char* word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) argv[argc++] = word;
    argv[argc] = NULL;
    exit(make_corpus_main(argc, argv));
}

static void test_tool(void** state) {
    (void)state;
    char line[900];
    struct stat info;
    assert_int_equal(run_child(run_tool, "--bytes 3000"), 0);
    assert_in_range(strlen(child_output), 3000, 6000);
    snprintf(line, sizeof line, "--bytes 3000 --out %s", test_path("stories.txt"));
    size_t printed = strlen(child_output);
    assert_int_equal(run_child(run_tool, line), 0);
    assert_says("stories, 0.0 MB, seed 1");
    assert_int_equal(stat(test_path("stories.txt"), &info), 0);
    assert_int_equal(info.st_size, printed);
    assert_int_equal(run_child(run_tool, "--bytes 3000 --plots 1"), 0);
    assert_says("was gone!");  // the first plot: something is lost
    assert_int_equal(run_child(run_tool, "--bytes 3000 --plots 19"), EXIT_USAGE);
    assert_says("1..18");
    assert_int_equal(run_child(run_tool, "--byte 3000"), EXIT_USAGE);
    assert_says("did you mean --bytes?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_clean_text),
        cmocka_unit_test(test_variety),
        cmocka_unit_test(test_tool),
    };
    return cmocka_run_group_tests_name("data/make_corpus", tests, NULL, test_dir_remove);
}
