"""The rules of rules.toml, applied to the files of one product."""

import re
import tomllib
from functools import cached_property
from pathlib import Path

from . import CANNOT_TELL, Check
from .conditions import conditions, gate
from .text import MOST_ALIKE

RULES = tomllib.loads(Path(__file__).with_name("rules.toml").read_text())["rule"]
TOPS = {"TensorRT-LLM": ("cpp", "tensorrt_llm", "include"), "CUTLASS": ("cutlass",),
        "FlashInfer": ("flashinfer", "csrc", "include")}
SPECS = r"^\s*for\b.*\b(?:dynamic_tensor_specs|constraint_specs)\b"
GUARD = (r"^(?![ \t]*assert\b)[^\n]*(?:in_bounds\(|\b_?fits\(|except \(?IndexError|[<>]=?\s*len\("
         r"|[<>]=?\s*ranks\[|len\([^()\n]*(?:\([^()\n]*\))?\)\s*[<>])")
GATES = {"refused": True, "admitted": False, "open": None}
ENTRY = re.compile(r"\bNVFP4\b[\"']?\s*:(?:(?!QuantAlgo\.)[^\n])*"
                   r"(?:\n(?![^\n]*QuantAlgo\.)[^\n]*){0,4}")
LISTED = (r"[\"'](in|min|exact)[\"']\s*,[^\d\n]*([\d, ]+)", r"()[{(\[]\s*(\d{2,3}\b[\d, ]*)[})\]]")


class Judge:
    """One rule of rules.toml on one product: its files, and what its steps ask of them."""

    def __init__(self, rule, tree, place, sm):
        self.rule, self.tree, self.place, self.sm = rule, tree, place, sm
        tops, holds = TOPS[place.product], rule.get("holds", {})
        self.names = {key: [name for name in names if name.startswith(tops)]
                      for key, names in rule["files"].items()}
        self.files = {key: tree.source(*names, holds=holds.get(key, ""))
                      for key, names in self.names.items()}

    def check(self):
        """The check of the rule (`Check`), or None where it has nothing to say."""
        rule, main, product = self.rule, self.files["main"], self.place.product
        for source in filter(None, self.files.values()):
            if source.problem:
                return Check(rule["what"], CANNOT_TELL, source.path, note=source.problem)
        for step in rule["steps"]:
            if line := self.line(step):
                return self.said(step["verdict"], step["note"], line)
        if main:
            note = f"it does not have {rule.get('wanted')}: a layout that is not known here"
            said = rule.get("otherwise", (CANNOT_TELL, note) if "wanted" in rule else None)
            return said and Check(rule["what"], said[0], main.path, note=said[1])
        if "absent" in rule:
            return self.said(*rule["absent"])
        if product in rule.get("optional", ()):
            return None
        names = " and ".join(name.replace("//", "/**/") for name in self.names["main"])
        compiled = " Its C++ is compiled where only a package is installed."
        return self.said(CANNOT_TELL, f"looked for {names}, which {self.tree.root} does not have."
                         + compiled * rule.get("compiled", False))

    def said(self, verdict, note, line=None):
        note = note.replace("{line}", str(self.gate[1].number)) if "{line}" in note else note
        note = note.replace("{sm}", str(self.sm)).replace("{version}", self.place.version)
        at = (line.file, line.number, line.text) if line else ()
        return Check(self.rule["what"], verdict, *at, note=note)

    def line(self, step):
        """The line by which a step holds (Line), or None."""
        measured = self.place.version in self.rule.get("measured", ())
        if step.get("measured", measured) != measured or self.files.get(step.get("without")):
            return None
        lines = [self.picked(step)] if "picks" in step else []
        lines += [self.find(key, pattern) for key, pattern in step.get("has", {}).items()]
        lines += [None for key, pattern in step.get("lacks", {}).items() if self.find(key, pattern)]
        for kind in {"gate", "nvfp4", "loops"} & step.keys():
            said, line = getattr(self, kind) if self.files["main"] else (None, None)
            lines.append(line if said is GATES.get(step[kind], step[kind]) else None)
        return lines[0] if all(lines) else None

    def spans(self, key):
        """The functions of a file that count: pairs of lines; all of it if none were named."""
        name = self.rule.get("functions", {}).get(key)
        return self.files[key].functions(name) if name else [(1, len(self.files[key].code))]

    def find(self, key, pattern):
        pattern, source = pattern.replace("<sm>", str(self.sm)), self.files[key]
        return source.find(pattern, self.spans(key)) if source else None

    @cached_property
    def gate(self):
        """Whether the first file turns the architecture down, and by which line."""
        source, about, said, line = self.files["main"], self.rule.get("about", ""), None, None
        for spans in (self.spans("main"), [(1, len(source.code))][:"whole" in self.rule]):
            found = conditions(source, self.sm, [] if line else spans)
            said, line = (said, line) if line else gate(
                each for each in found if about in each.around or "QuantAlgo." not in each.around)
        return said, line

    def picked(self, step):
        """Where a condition that holds, or may, picks a back end."""
        source, maybe = self.files[step["file"]], step.get("maybe")
        found = conditions(source, self.sm, self.spans(step["file"])) if source else ()
        fits = (each.line for each in found if (each.said or maybe and each.said is None)
                and step["picks"] in each.leaves and step.get("around", "") in each.around)
        return next(fits, None)

    @cached_property
    def nvfp4(self):
        """Whether a table's entry for NVFP4 admits the architecture, and where it says so."""
        source = self.files["main"]
        for entry in ENTRY.finditer("\n".join(source.code)):
            found = next(filter(None, (re.search(each, entry[0]) for each in LISTED)), None)
            numbers = [int(each) for each in re.findall(r"\b\d{1,4}\b", found[2])] if found else ()
            if numbers:
                number = entry.string.count("\n", 0, entry.start() + found.start()) + 1
                admits = self.sm >= min(numbers) if found[1] == "min" else self.sm in numbers
                return admits, source.at(number)
        return None, None

    @cached_property
    def loops(self):
        """Whether all loops over specs are guarded, and the line that decides."""
        source, line = self.files["main"], None
        for start, end in self.spans("main"):
            heads = [at for at in range(start, end + 1) if re.search(SPECS, source.code[at - 1])]
            before = heads and source.find(GUARD, [(start, heads[0])])
            for head in heads[:MOST_ALIKE]:
                block = [(head + 1, source.block(head, end))]
                if not (line := before or source.find(GUARD, block)):
                    return False, source.find(r"\]\s*\[", block) or source.at(head)
            if heads:
                return True, line
        return None, None
