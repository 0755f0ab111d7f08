"""The parameters of the notebooks: what each may be stands in parameters.toml."""

import re
import tomllib
from pathlib import Path

import jsonschema
import yaml

from lib.errors import CollectionError

KNOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


def check(given):
    """Refuse (CollectionError) a parameter that is not as parameters.toml says.

    `given` is a dict of names to values; names of no parameter, of which ``globals()`` has many,
    are passed over. The first cell of a notebook calls it: ``parameters.check(globals())``.
    """
    for name in sorted(given.keys() & KNOWN.keys()):
        value, form = given[name], KNOWN[name]
        if value != value or not jsonschema.Draft202012Validator(form).is_valid(value):
            raise CollectionError(f"{name} cannot be {value!r}", f"give {form['description']}")


def parse(text, known, notebook):
    """Parameters (dict) of a notebook from ``name=value name=value``; a value may hold spaces.

    `known` are the names that the notebook has. A text is taken as it is, other values as YAML
    reads them. A CollectionError for what is no parameter, or not as it must be.
    """
    given = {}
    for pair in re.split(r"\s+(?=\w+=)", text.strip()) if text.strip() else ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CollectionError(f"{pair!r} is no parameter", 'write P="name=value name=value"')
        if name not in known:
            raise CollectionError(f"{notebook} has no parameter {name!r}",
                                  f"use one of: {', '.join(known) or 'none, it has no parameters'}")
        try:
            textual = KNOWN.get(name, {}).get("type") == "string"
            given[name] = value if textual else yaml.safe_load(value)
        except yaml.YAMLError as error:
            form = KNOWN.get(name, {"description": "a number or a text"})
            raise CollectionError(f"{name} cannot be {value!r}",
                                  f"give {form['description']}") from error
    check(given)
    return given
