/*
Endless short stories in plain English: something to train on where there is no network. All of it is written for this project.

    data/make_corpus --bytes 4000000 --seed 1 --out stories.txt      the same seed gives the same text on every machine
    data/make_corpus --bytes 1000                                    to standard output

A story is a plot (story_plots.h): paragraphs of patterns over word lists (story_words.h). The grammar of a pattern:

    (a|b|c)     one of them; each may be a pattern
    <list>      one item of the list, a new one every time
    {list}      one item of the list, the same all through the story; {list.2} its second form (items write forms as one/two)
    {h} {he} {him} {his} {kind} {home}    the hero, bound when the story starts; {f} {fhe} .. a friend, {g} {ghe} .. a grown-up

    !           in front of a plot: about children, not animals

    pattern  -> expand ->  "one sunny morning, Lily found a old box."  -> polish ->  "One sunny morning, Lily found an old box."

Hero and friend are never both he or both she, so a pronoun always says who. The text ends with a whole story; a blank line stands
between stories, a line end between paragraphs. 20 MB are 20,000 stories, no two alike, of fewer than a thousand words.

Left out: stories from one pool of sentences in any order. They would read like lists; a plot gives cause and effect.
*/
#include "llmc/base/flags.h"
#include "llmc/base/rand.h"
#include "llmc/io/file.h"

#include "story_plots.h"
#include "story_words.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                              \
    SECTION("Simple English stories to train on")                                                               \
    LONG(bytes, 1000000, 1, 1000000000000, "size of the text; the story that reaches it is finished")           \
    LONG(seed, 1, 0, 9223372036854775807, "another seed, other stories")                                        \
    INT(plots, 18, 1, 18, "kinds of stories: with fewer the text is easier to learn")                           \
    STRING(out, "", "file to write (default: standard output)")
// clang-format on
DEFINE_OPTIONS(OPTIONS)
_Static_assert(sizeof plots / sizeof plots[0] == 18, "--plots names the number of plots");

enum { BOUND_MAX = 64, NAME_BYTES = 16, VALUE_BYTES = 256 };

typedef struct {
    char name[NAME_BYTES];
    char value[VALUE_BYTES];  // forms separated by /
} Bound;

typedef struct {
    Rng rng;
    Bound bound[BOUND_MAX];
    int bound_count;
} Story;

static void expand(Story* story, const char* from, const char* end, Text* out);

// End of the bracket that opens at `from`.
static const char* closing(const char* from, const char* end) {
    int depth = 0;
    for (const char* p = from; p < end; p++) {
        depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
        if (depth == 0) return p;
    }
    fail("the story pattern \"%.60s\" has a ( without )", from);
}

// Adds one of the |-separated parts of from..end.
static void expand_choice(Story* story, const char* from, const char* end, Text* out) {
    int depth = 0, parts = 1;
    for (const char* p = from; p < end; p++) {
        depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
        parts += *p == '|' && depth == 0;
    }
    int chosen = (int)rng_below(&story->rng, (uint64_t)parts), part = 0;
    const char* start = from;
    for (const char* p = from; p <= end; p++) {
        bool here = p == end || (*p == '|' && depth == 0);
        if (here && part++ == chosen) {
            expand(story, start, p, out);
            return;
        }
        if (here) start = p + 1;
        else depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
    }
}

// Adds a random item of a list, all its forms.
static void expand_list(Story* story, const char* name, Text* out) {
    for (size_t i = 0; i < sizeof word_lists / sizeof word_lists[0]; i++) {
        if (strcmp(word_lists[i].name, name)) continue;
        expand_choice(story, word_lists[i].items, word_lists[i].items + strlen(word_lists[i].items), out);
        return;
    }
    fail("the story patterns use the word list \"%s\", which data/story_words.h does not have", name);
}

static void bind(Story* story, const char* name, const char* value) {
    if (story->bound_count == BOUND_MAX || strlen(name) >= NAME_BYTES || strlen(value) >= VALUE_BYTES) {
        fail("the story word \"%s\" does not fit: raise the limits in data/make_corpus.c", name);
    }
    Bound* b = &story->bound[story->bound_count++];
    strcpy(b->name, name);
    strcpy(b->value, value);
}

// What the name stands for in this story; chosen now when it is new.
static const char* bound_value(Story* story, const char* name) {
    for (int i = 0; i < story->bound_count; i++) {
        if (!strcmp(story->bound[i].name, name)) return story->bound[i].value;
    }
    Text value = {0, 0, 0};
    text_reserve(&value, 0);
    value.data[0] = 0;
    expand_list(story, name, &value);
    bind(story, name, value.data);
    text_free(&value);
    return story->bound[story->bound_count - 1].value;
}

// Adds form number `form` (from 1) of a value.
static void add_form(Text* out, const char* value, int form) {
    while (--form > 0) {
        value += strcspn(value, "/");
        value += *value == '/';
    }
    text_add(out, "%.*s", (int)strcspn(value, "/"), value);
}

static void expand(Story* story, const char* from, const char* end, Text* out) {
    for (const char* p = from; p < end; p++) {
        if (*p == '(') {
            const char* close = closing(p, end);
            expand_choice(story, p + 1, close, out);
            p = close;
        } else if (*p == '{' || *p == '<') {
            char name[NAME_BYTES];
            size_t length = strcspn(p + 1, *p == '{' ? ".}" : ">");
            if (length >= NAME_BYTES) fail("the story pattern \"%.40s\" has a name that is too long", p);
            memcpy(name, p + 1, length);
            name[length] = '\0';
            if (*p == '<') {
                Text item = {0, 0, 0};
                expand_list(story, name, &item);
                if (item.data) add_form(out, item.data, 1);
                text_free(&item);
            } else {
                const char* dot = p + 1 + length;
                add_form(out, bound_value(story, name), *dot == '.' ? atoi(dot + 1) : 1);
            }
            while (*p != '}' && *p != '>') p++;
        } else text_add_char(out, *p);
    }
}

// Names, kinds and pronouns of one character. prefix: "" hero, "f" friend, "g" grown-up (whose name is a word: mother).
static void bind_character(Story* story, const char* prefix, const char* list, bool female) {
    const char* words[3][2] = {{"he", "she"}, {"him", "her"}, {"his", "her"}};
    Text value = {0, 0, 0};
    char name[NAME_BYTES];
    expand_list(story, list, &value);
    bind(story, *prefix ? prefix : "h", value.data);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, words[i][0]);
        bind(story, name, words[i][female]);
    }
    text_free(&value);
}

static void bind_cast(Story* story, bool animals) {
    bool female = rng_below(&story->rng, 2);
    Text kind = {0, 0, 0}, other = {0, 0, 0}, home = {0, 0, 0};
    bind_character(story, "", female ? "girl" : "boy", female);
    bind_character(story, "f", female ? "boy" : "girl", !female);
    bool elder = rng_below(&story->rng, 2);
    bind_character(story, "g", elder ? "woman" : "man", elder);
    expand_list(story, animals ? "den" : "house", &home);
    if (animals) {
        expand_list(story, "animal", &kind);
        do {
            other.size = 0;
            expand_list(story, "animal", &other);
        } while (!strcmp(kind.data, other.data));
    } else {
        text_add(&kind, "%s", female ? "girl" : "boy");
        text_add(&other, "%s", female ? "boy" : "girl");
    }
    bind(story, "kind", kind.data);
    bind(story, "fkind", other.data);
    bind(story, "home", home.data);
    text_free(&kind);
    text_free(&other);
    text_free(&home);
}

// Adds a paragraph with its blanks, capitals and articles put right.
static void polish(const char* in, Text* out) {
    bool sentence = true;  // the next letter starts one
    for (const char* p = in; *p; p++) {
        char last = out->size ? out->data[out->size - 1] : '\n';
        if (*p == ' ' && (last == ' ' || last == '\n' || !p[1])) continue;
        char c = *p;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (letter && sentence && c >= 'a') c = (char)(c - 32);
        if (letter || c == ',') sentence = false;
        bool article = last == ' ' && out->size >= 2 && (out->data[out->size - 2] | 32) == 'a' &&
                       (out->size == 2 || strchr(" \n\"", out->data[out->size - 3]));
        if (article && (strchr("aeiou", *p) || !strncmp(p, "honest", 6))) {
            out->data[out->size - 1] = 'n';
            text_add_char(out, ' ');
        }
        text_add_char(out, c);
        // . ! ? end a sentence, also behind a closing quote; after "..!" and "..?" the speaker may follow, so the pattern decides
        if (c == '.' || ((c == '!' || c == '?') && p[1] == ' ')) sentence = true;
    }
    while (out->size && out->data[out->size - 1] == ' ') out->data[--out->size] = '\0';
    text_add_char(out, '\n');
}

// Adds one story with one of the first `plot_count` plots.
static void tell_story(Story* story, int plot_count, Text* out) {
    const char* const* plot = plots[rng_below(&story->rng, (uint64_t)plot_count)];
    story->bound_count = 0;
    bool children = plot[0][0] == '!', animals = rng_below(&story->rng, 4) == 0 && !children;
    bind_cast(story, animals);
    for (int i = 0; i < PLOT_PARAGRAPHS && plot[i]; i++) {
        Text paragraph = {0, 0, 0};
        expand(story, plot[i] + (i == 0 && children), plot[i] + strlen(plot[i]), &paragraph);
        polish(paragraph.data, out);
        text_free(&paragraph);
    }
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    flags_parse(&flags, argc, argv);
    static Story story;
    NewFile file = {stdout, NULL, (char*)"standard output"};
    Text text = {0, 0, 0};
    int64_t bytes = 0, stories = 0;
    story.rng = rng_start((uint64_t)o.seed, "stories");
    if (*o.out) new_file_open(&file, o.out);
    while (bytes < o.bytes) {
        text.size = 0;
        if (bytes) text_add_char(&text, '\n');
        tell_story(&story, o.plots, &text);
        new_file_write(&file, text.data, text.size);
        bytes += (int64_t)text.size;
        stories++;
    }
    text_free(&text);
    if (*o.out) {
        new_file_commit(&file);
        printf("%s: %lld stories, %.1f MB, seed %lld\n", o.out, (long long)stories, 1e-6 * (double)bytes, (long long)o.seed);
    } else if (fflush(stdout)) fail("cannot write standard output: %s", strerror(errno));
    flags_free(&flags);
    return 0;
}
