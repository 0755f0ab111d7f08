"""The rules of rules.toml, applied to the files of one product."""

import ast
import tomllib
from functools import cached_property
from pathlib import Path

from . import CANNOT_TELL, Check, releases
from .conditions import Reader, gate
from .text import MOST_ALIKE, NAMES, words

DATA = tomllib.loads(Path(__file__).with_name("rules.toml").read_text())
RULES, ABOUT = DATA["rule"], DATA["about"]
GATES = {"refused": True, "admitted": False, "open": None}


class Judge:
    """One rule of rules.toml on one product: its files, and what its steps ask of them."""

    def __init__(self, rule, product, version, tree, sm):
        self.rule, self.product, self.version, self.tree, self.sm = rule, product, version, tree, sm
        tops, holds = tuple(DATA["tops"][product]), rule.get("holds", {})
        self.names = {key: [name for name in names if name.startswith(tops)]
                      for key, names in rule["files"].items()}
        self.files = {key: tree.source(*names, holds=holds.get(key, ""))
                      for key, names in self.names.items()}
        self.main = self.files["main"]

    def check(self):
        """The check of the rule (`Check`), or None where it has nothing to say."""
        for source in filter(None, self.files.values()):
            if (not source.is_python or source.tree) and source.problem:  # with its tree, if any
                return Check(self.rule["what"], CANNOT_TELL, source.path, note=source.problem)
        try:
            for step in self.rule["steps"]:
                if line := self.line(step):
                    return self.said(step["verdict"], step["note"], line)
        except RecursionError:
            return self.said(CANNOT_TELL, "one of its files has code that is nested too deep")
        if self.main and (said := self.rule.get("otherwise")):
            return self.said(*said)._replace(file=self.main.path)
        return None if self.main else self.missing()

    def missing(self):
        """The check where the first file is not there, or None."""
        rule, root = self.rule, self.tree.root
        package = self.product == "TensorRT-LLM" and not (root / "cpp").is_dir()
        whole = (root / "tensorrt_llm/__init__.py").is_file()
        if "nowhere" in rule and whole and not (root / "tensorrt_llm/_torch").exists():
            return self.said(*rule["nowhere"])
        if package and "release" in rule:
            return releases.check(self.version, rule["bug"])
        if "absent" in rule or self.product in rule.get("optional", ()):
            return self.said(*rule["absent"]) if "absent" in rule else None
        names = " and ".join(name.replace("//", "/**/") for name in self.names["main"])
        note = f"looked for {names}, which {root} does not have. {rule.get('missing', '')}"
        return self.said(CANNOT_TELL, note.strip())

    def said(self, verdict, note, line=None):
        note = note.replace("{line}", str(self.gate[1].number)) if "{line}" in note else note
        note = note.replace("{sm}", str(self.sm)).replace("{version}", self.version)
        return Check(self.rule["what"], verdict, *(line or ()), note=note)

    def line(self, step):
        """The line by which a step holds (Line), or None."""
        if "measured" in step and self.version not in self.rule["measured"]:
            return None
        lines = [self.picked(step)] if "picks" in step else []
        lines += [self.find(key, pattern) for key, pattern in step.get("has", {}).items()]
        lines += [None for key, pattern in step.get("lacks", {}).items() if self.find(key, pattern)]
        for kind in {"gate", "nvfp4", "loops"} & step.keys():
            said, line = getattr(self, kind) if self.main else (None, None)
            lines.append(line if said is GATES.get(step[kind], step[kind]) else None)
        return lines[0] if all(lines) else None

    def functions(self, key):
        """The functions of a file that the rule is about (list of ast nodes)."""
        source, name = self.files[key], self.rule.get("functions", {}).get(key)
        return source.functions(name) if source and name else []

    def find(self, key, pattern):
        """The line of a file, or of its functions, that a pattern is found in (Line or None)."""
        pattern, source = pattern.replace("<sm>", str(self.sm)), self.files[key]
        spans = [(each.lineno, each.end_lineno) for each in self.functions(key)]
        inner = key in self.rule.get("functions", {})
        return source and source.find(pattern, spans if inner else [(1, None)])

    def picked(self, step):
        """Where a file picks a back end for the architecture, or may (Line or None)."""
        source, around = self.files[step["file"]], step.get("around", "")
        reader = Reader(source, self.sm)
        for function in self.functions(step["file"]):
            for name, line, way in reader.exits(function):
                holds = way.known or step.get("maybe")
                if holds and name == step["picks"] and around in way.around:
                    return source.at(line)
        return None

    @cached_property
    def gate(self):
        """Whether the first file turns the architecture down, and by which line."""
        rule, told = self.rule, (None, None)
        for name in (rule["functions"]["main"], *rule.get("else", ())):
            if not told[1]:
                functions = self.main.functions(name) or [self.main.tree] * (name == ".*")
                told = gate(self.main, self.sm, functions, rule.get("about", ""),
                            every=name in rule.get("else", ()))
        return told

    @cached_property
    def nvfp4(self):
        """Whether a table's entry for NVFP4 admits the architecture, and where it says so."""
        reader, tables = Reader(self.main, self.sm), ast.walk(self.main.tree)
        entries = [entry for table in tables if isinstance(table, ast.Dict)
                   for key, entry in zip(table.keys, table.values, strict=True)
                   if getattr(key, "attr", "") == "NVFP4"]
        for entry in entries:
            for node in (entry, *(entry.values if isinstance(entry, ast.Dict) else ())):
                match reader.value(node):
                    case ("min", int(asked)):
                        return self.sm >= asked, self.main.at(node.lineno)
                    case ("exact", int(asked)):
                        return self.sm == asked, self.main.at(node.lineno)
                    case ("in", [*asked]) | ([int(), *_] as asked):
                        return self.sm in asked, self.main.at(node.lineno)
        return None, None

    @cached_property
    def loops(self):
        """Whether all loops that index by specs are guarded, and the line that decides."""
        line = None
        for function in self.functions("main")[:MOST_ALIKE]:
            loops = [each for each in ast.walk(function) if isinstance(each, ast.For)
                     and {*NAMES["specs"]} & {*words(each.iter)} and indexed(each)]
            before = loops and (function.lineno, loops[0].lineno - 1)
            for loop in loops:
                guard = self.main.find(NAMES["guard"], [before, (loop.lineno, loop.end_lineno)])
                if not guard:
                    return False, self.main.at(min(indexed(loop)))
                line = line or guard
        return (True, line) if line and not self.main.partial else (None, None)


def indexed(loop):
    """The lines of a loop on which a shape of several is indexed, as x[i][j] (list of int)."""
    return [each.lineno for each in ast.walk(loop) if isinstance(each, ast.Subscript)
            and isinstance(each.value, ast.Subscript)]
