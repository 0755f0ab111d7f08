"""What the conditions of a Python source say of an architecture: read, and never run.

Each is True, False, or None where it cannot be told, as ``sm not in {100, 103} and asked`` for 121.
"""

import ast
import operator
import re
import warnings
from collections import namedtuple

MOST_CONDITIONS, MOST_JOINED, LONGEST, DEEPEST = 200, 12, 2000, 12
HEAD = re.compile(r"\s*(if|elif|assert|return)\b")
SM = re.compile(r"(?i)(?:\w+_)?m?sm(?:_?(?:version|arch|num|number))?")
ABOUT = re.compile(rf"(?i)\b{SM.pattern[4:]}\b|\bis_?sm_?\d|is_blackwell")
FAMILIES = {"100": (100, 103), "120": (120, 121), "12x": (120, 121)}
OPERATORS = {ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Eq: operator.eq,
             ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
             ast.Gt: operator.gt, ast.GtE: operator.ge}
LEAVES = re.compile(r"\s*(?:return\b|raise\b|\w*backend\s*=[^=])")
REFUSES = re.compile(r"(?i)raise\b|return\b[\s(]*(?:False\b|None\b|[\w.]*(?:reject|refus|fail|"
                     r"warn_and_return|unsupported|not_supported|ineligible)\w*\()")
ADMITS = re.compile(r"return\b[\s(]*(?:True\b|[\w.]*\.ok\()")
# What a condition says of the architecture and (`hopper`) of SM90: True, False or None; the
# statements that end its block and its else; its text with that of the conditions around it.
Condition = namedtuple("Condition", "line said hopper leaves otherwise around")


def statement(source, number):
    """The statement that begins on a line (ast node or None), its text, and its last line."""
    text = ""
    for at in range(number, min(number + MOST_JOINED, len(source.code) + 1)):
        text = f"{text}\n{source.code[at - 1].strip()}".removeprefix("\n").removeprefix("el")
        if len(text) > LONGEST:
            break
        try:
            with warnings.catch_warnings(action="ignore"):
                return ast.parse(text + " pass" * text.endswith(":")).body[0], text, at
        except (SyntaxError, ValueError, RecursionError, MemoryError, IndexError):
            pass
    return None, text, number


def assigned(source, name):
    """What a name is first given in a source (ast node or None)."""
    if name not in source.assigned and len(source.assigned) < MOST_CONDITIONS:
        source.assigned[name] = None
        pattern = rf"^[ \t]*(?:(?:self|cls)\.)?{name}[ ]*(?::[^=\n]{{1,80}})?=(?!=)"
        if line := source.find(pattern):
            source.assigned[name] = getattr(statement(source, line.number)[0], "value", None)
    return source.assigned.get(name)


def named(name, sm):
    """What a call is by its name alone, such as ``is_sm_100f`` or ``get_sm_version``."""
    if found := re.fullmatch(r"_?is_?sm_?(\d{2,3}|12x)_?(f|family)?(?:_supported)?", name):
        family = found[2] or found[1] == "12x"
        return sm in FAMILIES.get(found[1], ()) if family else str(sm) == found[1]
    return sm >= 100 if name.startswith("is_blackwell") else sm if SM.fullmatch(name) else None


def value(node, sm, source, depth=0):
    """What an expression is for an architecture; None where that cannot be told."""
    def ask(*inner):
        return [value(each, sm, source, depth + 1) if depth < DEEPEST else None for each in inner]

    def compared(symbol, *sides):
        try:
            return None if None in sides else OPERATORS[type(symbol)](*sides)
        except (KeyError, TypeError):
            return None

    match node:
        case ast.Constant():
            return node.value
        case ast.Set() | ast.Tuple() | ast.List():
            found = ask(*node.elts)
            return None if None in found else tuple(found)
        case ast.Call(func=ast.Name(id="set" | "frozenset" | "tuple" | "list"), args=[inner]):
            return ask(inner)[0]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return named(name, sm)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            own = SM.fullmatch(name) and not name.isupper()
            return sm if own else ask(assigned(source, name))[0]
        case ast.UnaryOp(op=ast.Not()):
            found, = ask(node.operand)
            return None if found is None else not found
        case ast.BoolOp():
            found, deciding = ask(*node.values), isinstance(node.op, ast.Or)
            if any(each is not None and bool(each) is deciding for each in found):
                return deciding
            return None if None in found else not deciding
        case ast.Compare():
            found = ask(node.left, *node.comparators)
            pairs = [compared(*each) for each in zip(node.ops, found, found[1:], strict=False)]
            return False if False in pairs else None if None in pairs else True
    return None


def leaving(source, first, last):
    """The statement that leaves a block: its first return, raise or choice of a back end (str)."""
    depth = next(filter(None, map(source.indent, range(first, last + 1))), None)
    for number in range(first, last + 1):
        if source.indent(number) == depth and LEAVES.match(source.code[number - 1]):
            return " ".join(line.strip() for line in source.code[number - 1:number + 1])
    return ""


def conditions(source, sm, spans):
    """The conditions about an architecture between lines of a source (list of Condition).

    ``assert X`` is read as ``if not X: raise``, and ``return X`` as ``if not X: return False``.
    """
    found, heads = [], [(end, at) for start, end in spans for at in range(start, end + 1)
                        if HEAD.match(source.code[at - 1])]
    around, taken = [], {}
    for end, number in heads[:MOST_CONDITIONS]:
        node, text, last = statement(source, number)
        depth, leaves, otherwise = source.indent(number), "raise", ""
        around = [each for each in around if each[0] < depth and each[1] == end]
        match node:
            case ast.If(test=test):
                around.append((depth, end, text))
                body = source.block(last, end, depth)
                inline = re.search(r":\s*((?:return|raise)\b.*)", text)
                leaves = inline[1] if inline else leaving(source, last + 1, body)
                if body < end and re.match(r"\s*else\s*:", source.code[body]):
                    otherwise = leaving(source, body + 2, source.block(body + 1, end))
            case ast.Assert(test=test) | ast.Return(value=ast.Tuple(elts=[test, *_]) | test):
                test = ast.UnaryOp(ast.Not(), test)
            case _:
                continue
        known = [value(test, each, source) for each in (sm, 90, 100)]
        said, hopper, blackwell = (None if each is None else bool(each) for each in known)
        if HEAD.match(source.code[number - 1])[1] == "elif" and taken.get(depth):
            continue
        taken[depth] = said
        about = ABOUT.search(text) and not isinstance(node, ast.Return)
        if about or None not in (said, blackwell) and len({said, hopper, blackwell}) > 1:
            context = " ".join([*(outer for _, _, outer in around), text])
            found.append(Condition(source.at(number), said, hopper, leaves, otherwise, context))
    return found


def gate(found):
    """Whether conditions turn an architecture down (True, False or None), and the deciding line.

    That it is not turned down counts where SM90 is: a limit that lets all pass is no list.
    """
    admitted = passed = open_ = listed = None
    for each in found:
        refuses, admits = REFUSES.match(each.leaves), ADMITS.match(each.leaves)
        if each.said and refuses or each.said is False and REFUSES.match(each.otherwise):
            return True, each.line
        if each.said is None:
            open_ = open_ or (refuses or admits) and each.line
        elif admits:
            admitted = admitted or each.said and not each.hopper and each.line
            passed = passed or not each.said and each.line
        elif refuses and each.hopper is not False:
            listed = listed or each.line
    said = False if admitted else True if passed else None if open_ else False
    return said, admitted or passed or open_ or listed or None
