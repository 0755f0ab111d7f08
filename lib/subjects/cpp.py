"""C++ read as text: without its comments, and the blocks around a line."""

import re


def code(text):
    """C++ without its comments, each character where it was (str)."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.DOTALL)


def around(text, line):
    """The heads of the blocks that are open at a line (from 0) of C++, outermost first (list)."""
    bare = code(text)
    until = sum(len(each) + 1 for each in text.split("\n")[:line])
    heads, start = [], 0
    for mark in re.finditer(r"[{};]", bare[:until]):
        if mark[0] == "{":
            heads.append(" ".join(bare[start:mark.start()].split()))
        elif mark[0] == "}" and heads:
            heads.pop()
        start = mark.end()
    return heads
