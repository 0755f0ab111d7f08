"""Stand-ins for what is not installed, for the scripts that ask a library in their own process."""

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import types


class Any(type):
    """A class that has every attribute and every item, each another such class."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Any(name, (Thing,), {"name": name})
        setattr(cls, name, made)
        return made

    def __getitem__(cls, name):
        return getattr(cls, name) if isinstance(name, str) else cls

    __iter__ = __contains__ = None  # what is in it nobody knows, so it is an error to ask


class Thing(metaclass=Any):
    """Can be a base, a decorator that changes nothing, a default, or any value; it is false."""

    def __new__(cls, *given, **_):
        if cls.__init__ is Thing.__init__ and len(given) == 1 and inspect.isroutine(given[0]):
            return given[0]
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Thing()

    def __call__(self, *given, **_):
        alone = len(given) == 1 and (inspect.isroutine(given[0]) or isinstance(given[0], type))
        return given[0] if alone else Thing()

    def __bool__(self):
        return False


class Unbound(dict):
    """Builtins for a module that may be an excerpt: a name that it does not bind is looked up."""

    def __missing__(self, name):
        if name.startswith("__"):
            raise KeyError(name)
        return self.look_up(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Runs modules of `own` (name to file; excerpts with `look_up`); `absent` ones have `given`."""

    def __init__(self, own, absent, given=None, look_up=None):
        self.own, self.absent, self.given, self.look_up = own, set(absent), given or {}, look_up

    def find_spec(self, name, path=None, target=None):
        if name in self.own:
            return importlib.util.spec_from_file_location(name, self.own[name], loader=self)
        if name.partition(".")[0] in self.absent:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        if spec.name in self.own:
            return None
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(Thing, name)
        module.__dict__.update(self.given)
        return module

    def exec_module(self, module):
        if file := self.own.get(module.__name__):
            if self.look_up:
                module.__dict__["__builtins__"] = names = Unbound(vars(builtins))
                names.look_up = self.look_up
            exec(compile(file.read_text(), str(file), "exec"), module.__dict__)


def missing(names):
    """Which top-level packages of these are not installed (set of str)."""
    return {name for name in names if not importlib.machinery.PathFinder.find_spec(name)}


def attempt(call, *arguments):
    """What a call returned, or None, and its exception in one line, or ""."""
    try:
        return call(*arguments), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}".splitlines()[0]
