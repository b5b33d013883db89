"""Writes llmc/io/unicode.h: the code points of \\p{L}, \\p{N} and \\s as ranges.

    pip install unicodedata2==16.0.0
    python dev/reference/unicode_tables.py > llmc/io/unicode.h

Without unicodedata2 the tables of Python itself are used (another Unicode version: newer scripts differ, nothing else).
Version 16.0 is what tiktoken 0.14 has. Needs Python; the result is committed, so building does not.
"""
try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# White_Space of PropList.txt, unchanged since Unicode 6.3; Python's str.isspace() also has U+001C..U+001F, the pattern's \s has not
SPACES = [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def ranges(code_points):
    found = []
    for c in code_points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def table(name, code_points):
    cells = ["{0x%x,0x%x}," % (first, last) for first, last in ranges(code_points)]
    lines, line = [], "   "
    for cell in cells:
        if len(line) + 1 + len(cell) > 130:
            lines.append(line)
            line = "   "
        line += " " + cell
    lines.append(line)
    print("\nstatic const uint32_t %s[%d][2] = {" % (name, len(cells)))
    print("\n".join(lines))
    print("};")


def of_category(letter):
    return [c for c in range(0x110000) if unicodedata.category(chr(c))[0] == letter]


print("""/*
Which code points the pre-tokenisation pattern calls letters (\\\\p{L}), numbers (\\\\p{N}) and white space (\\\\s).

    {first, last}, both included, rising        Unicode %s

Written by dev/reference/unicode_tables.py; do not edit.
*/
#pragma once

#include <stdint.h>

// clang-format off""".replace("\\\\", "\\") % unicodedata.unidata_version)
table("UNICODE_LETTERS", of_category("L"))
table("UNICODE_NUMBERS", of_category("N"))
table("UNICODE_SPACES", SPACES)
