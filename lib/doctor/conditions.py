"""What the conditions of a Python source say of an architecture: read, and never run.

Each is True, False, or None where it cannot be told, as ``sm not in {100} and asked`` for 121.
"""

import ast
import operator
import re
from collections import namedtuple

from .text import NAMES, words

MOST_ASKED, DEEPEST, MOST_FOLLOWED, TURNED = 20_000, 12, 3, ("refuses", "false")
REFUSED_FIRST = (True, None, False)
SM, ABOUT, REFUSAL, FORMAT = (re.compile(f"(?i){NAMES[each]}")
                              for each in ("sm", "about", "refusal", "format"))
OPERATORS = {ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Eq: operator.eq,
             ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
             ast.GtE: operator.ge}
# What is on the way to a statement: the line of the last condition on the architecture, and of the
# last one that still counts where it is turned down; whether what they say is known, whether they
# decide alone, and what the conditions around it name. An exit ends a function at a line: its kind
# is "refuses", "false", "admits", or what it returns.
Way = namedtuple("Way", "passed turned known alone around", defaults=(0, 0, True, True, ""))
Exit = namedtuple("Exit", "kind line way")


def named(name, sm):
    """What a call is by its name alone, such as ``is_sm_100f`` or ``get_sm_version``."""
    if found := re.fullmatch(r"_?is_?sm_?(\d{2,3}|12x)_?(f|family)?(?:_supported)?", name):
        family = found[2] or found[1] == "12x"
        return sm in NAMES["families"].get(found[1], ()) if family else str(sm) == found[1]
    return sm >= 100 if name.startswith("is_blackwell") else sm if SM.fullmatch(name) else None


def compared(symbol, left, right):
    """What a comparison is; None where one of its sides is."""
    try:
        return None if None in (left, right) else OPERATORS[type(symbol)](left, right)
    except (KeyError, TypeError, ArithmeticError):
        return None


def joined(values, deciding):
    """What an ``and`` is of values, or an ``or``, which is `deciding` where one of them is."""
    said = [None if each is None else bool(each) for each in values]
    return deciding if deciding in said else None if None in said else not deciding


def kind(node):
    """How a return, a raise or a returned expression ends a function (str)."""
    match node:
        case ast.Return(value=node) | ast.Tuple(elts=[node, *_]):
            return kind(node)
        case ast.Constant(value=said):
            return {True: "admits", False: "false"}.get(said, str(said))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return "refuses" if REFUSAL.search(name) else "admits" if name == "ok" else "other"
    return "refuses" if isinstance(node, ast.Raise) else "other"


def leaves(body):
    """The statement that a block always ends with, or None where it goes on (ast node)."""
    while body:
        match body[-1]:
            case ast.Return() | ast.Raise() as last:
                return last
            case ast.If(body=one, orelse=other) if leaves(one):
                body = other
            case _:
                return None


class Reader:
    """A source as read for an architecture such as 121."""

    def __init__(self, source, sm):
        self.source, self.sm, self.left = source, sm, MOST_ASKED

    def about(self, node, depth=0):
        """Whether an expression names the architecture, or what was made of it."""
        self.left -= 1
        names = words(node)[:MOST_FOLLOWED ** 3]
        inner = [each for name in names for each in self.source.assigned.get(name, ()) if each]
        return any(map(ABOUT.search, names)) or self.left > 0 and depth < MOST_FOLLOWED and any(
            self.about(each, depth + 1) for each in inner[:DEEPEST])

    def value(self, node, depth=0):
        """What an expression is; None where that cannot be told."""
        def ask(*inner):
            return [self.value(each, depth + 1) for each in inner]

        self.left -= 1
        match node if depth <= DEEPEST and self.left >= 0 else None:
            case ast.Constant():
                return node.value
            case ast.Set(elts=inner) | ast.Tuple(elts=inner) | ast.List(elts=inner):
                found = ask(*inner)
                return None if None in found else tuple(found)
            case ast.Call(func=ast.Name(id="set" | "frozenset" | "tuple" | "list"), args=[inner]):
                return ask(inner)[0]
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return named(name, self.sm)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                if SM.fullmatch(name) and not name.isupper():
                    return self.sm
                found = ask(*self.source.assigned.get(name, ()))
                return found[0] if found and all(each == found[0] for each in found) else None
            case ast.NamedExpr(value=inner):
                return ask(inner)[0]
            case ast.UnaryOp(op=ast.Not()):
                found, = ask(node.operand)
                return None if found is None else not found
            case ast.BoolOp():
                return joined(ask(*node.values), isinstance(node.op, ast.Or))
            case ast.Compare():
                sides = ask(node.left, *node.comparators)
                return joined(map(compared, node.ops, sides, sides[1:]), False)

    def past(self, way, test, holds, left=False):
        """The way on where a condition holds or not (Way), or None if that cannot be here.

        `left` is True where its other branch turned down, and None where it ended in another way.
        """
        names = " ".join(words(test, texts=True))
        if self.about(test):
            said, line = self.value(test), test.lineno
            if said is not None and bool(said) is not holds:
                return None
            turned = way.turned if left else line
            way = way._replace(passed=line, turned=turned, known=way.known and said is not None)
        elif not left:
            way = way._replace(alone=way.alone and bool(FORMAT.search(names)))
        return way._replace(around=f"{way.around} {names}") if left is False else way

    def follow(self, body, way, stack, found):
        """Add to `found` where statements end their function (Exit), and return the way to where
        they go on (Way), or None where they do not."""
        for node in body:
            self.left -= 1
            if way is None or self.left < 0:
                return None
            value = getattr(node, "value", None) or getattr(node, "iter", None)
            ends = []
            match node:
                case ast.If(test=test):
                    before = way
                    for block, holds in ((node.body, True), (node.orelse, False)):
                        self.follow(block, self.past(before, test, holds), stack, found)
                        if way and (last := leaves(block)):
                            way = self.past(way, test, not holds, kind(last) in TURNED or None)
                case ast.Assert(test=test):
                    ends = [("refuses", self.past(way, test, False))]
                    way = self.past(way, test, True, left=True)
                case ast.Raise():
                    ends = [("refuses", way)]
                case ast.Return(value=ast.expr()):
                    whole = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
                    bare = isinstance(whole, ast.Constant | ast.Call) or not self.about(whole)
                    ends = [(kind(value), way)] if bare else [
                        ("admits", self.past(way, whole, True)),
                        ("false", self.past(way, whole, False))]
                case ast.Assign(targets=[target], value=ast.Constant(value=str(name))):
                    ends = [(name, way)] * words(target)[0].endswith("backend")
                case ast.For() | ast.While() | ast.With():
                    self.follow(node.body, way, stack, found)
                case ast.Try(handlers=handlers):
                    before, tried = way, [*node.body, *node.orelse, *node.finalbody]
                    for handler in handlers:
                        self.follow(handler.body, before, stack, found)
                    way = self.follow(tried, before, stack, found) or (handlers and before) or None
                    if way is None:
                        return None
            found += [Exit(each, node.lineno, there) for each, there in ends if there]
            for call in ast.walk(value) if isinstance(value, ast.expr) else ():
                if isinstance(call, ast.Call):
                    found += self.called(call, way, stack, isinstance(node, ast.Return))
            if leaves([node]):
                return None
        return way

    def called(self, call, way, stack, returned):
        """The exits of a function of the same file, where it is called (list of Exit)."""
        self.left -= 1
        own = self.source.defined.get(words(call.func)[0], ())
        once = len(own) == 1 and own[0] not in stack and len(stack) <= MOST_FOLLOWED
        return [each if each.kind in TURNED else each._replace(kind="admits")
                for each in (self.exits(own[0], way, stack) if once and self.left > 0 else ())
                if each.kind != "false" or returned]

    def exits(self, function, way=Way(), stack=()):
        """The exits of a function that may be reached, and its end (list of Exit).

        Where it refuses in another way, a returned None admits; else it is as good as False.
        """
        found = []
        end = self.follow(function.body, way, (*stack, function), found)
        found += [Exit("admits", 0, end)] * bool(end)
        ends = (each for each in ast.walk(function) if isinstance(each, ast.Return | ast.Raise))
        none = "admits" if "refuses" in map(kind, ends) else "false"
        return [each._replace(kind=none) if each.kind == "None" else each for each in found]

    def refusal(self, function, concerns):
        """Whether a function turns the architecture down (True, False or None), and its line."""
        found = []
        for ending, _, way in self.exits(function):
            if "QuantAlgo" not in way.around or concerns in way.around:
                if ending in TURNED and way.turned:
                    found.append((way.known and way.alone or None, way.turned))
                elif ending == "admits" and way.known and way.passed:
                    found.append((False, way.passed))
        return min([*found, (False, 0)], key=lambda each: REFUSED_FIRST.index(each[0]))


def gate(source, sm, functions, concerns="", every=False):
    """Whether functions turn an architecture down (True, False or None), and the deciding line.

    One that admits it decides, or with `every` one that refuses. That it is admitted counts where
    SM90 is not, as a limit that lets all pass is no list, and where all of the file was read.
    """
    reader, hopper, found = Reader(source, sm), Reader(source, 90), []
    for function in functions:
        refused, line = reader.refusal(function, concerns)
        if line and (refused is not False or hopper.refusal(function, concerns)[0]):
            found.append((refused or (None if source.partial else refused), source.at(line)))
    if reader.left < 0 or hopper.left < 0:
        return None, source.at(1)
    order = REFUSED_FIRST if every else REFUSED_FIRST[::-1]
    return min(found, key=lambda each: order.index(each[0]), default=(None, None))
