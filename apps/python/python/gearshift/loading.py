"""Finds the application that the command line names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from types import MethodType
from typing import Any

from gearshift._gearshift import log_error

# The names that an application has in its module if the command line gives none.
DEFAULT_NAMES = ("app", "application")
# The number of arguments of an application: environ and start_response; scope, receive and send.
NUMBERS = {"wsgi": 2, "asgi": 3}
# The number of decorators around an application that are looked through.
MAX_WRAPPERS = 100


class LoadError(Exception):
    """The application cannot be found. The text is one line."""


def load(target: str, *, is_factory: bool, app_dir: str | None, chdir: str | None) -> Any:
    """Imports the application `MODULE:NAME`.

    Raises LoadError if there is no such module or name. Other exceptions are those of the module.
    """
    if chdir is not None:
        try:
            os.chdir(chdir)
        except OSError as error:
            raise LoadError(f"--chdir {chdir}: {error.strerror}") from None
    sys.path.insert(0, os.path.abspath(app_dir or "."))
    module_name, _, name = target.partition(":")
    if not module_name:
        raise LoadError(f"{target!r} is not MODULE:NAME")
    if module_name.endswith(".py") or "/" in module_name:
        raise LoadError(f"{module_name!r} is the name of a file, not of a module; write {_meant(module_name, name)}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that the application imports is missing: that is a fault of the application, with a traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise LoadError(f"there is no module {error.name!r} in {sys.path[0]} or on the path of Python") from None
    app = _find(module, name)
    if is_factory:
        if not callable(app):
            raise LoadError(f"{target!r} is no function, but --factory is set")
        if not _takes(app, 0):
            raise LoadError(f"{target!r} cannot be called without arguments; without --factory it is the application")
        try:
            app = app()
        except Exception as error:
            log_error(f"the factory {target!r} has raised an exception:\n{traceback.format_exc()}")
            raise LoadError(f"the factory {target!r} has raised {summary(error)}") from None
    if not callable(app):
        raise LoadError(f"{target!r} is not callable")
    return app


def summary(error: BaseException) -> str:
    """An exception in one line: its type, and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _meant(file: str, name: str) -> str:
    """What to write instead of the name of a file."""
    folder, module = os.path.split(file.removesuffix(".py"))
    return f"{f'--app-dir {folder} ' if folder else ''}{module}:{name or DEFAULT_NAMES[0]}"


def _find(module: Any, name: str) -> Any:
    if not name:
        found = [getattr(module, each) for each in DEFAULT_NAMES if hasattr(module, each)]
        if not found:
            raise LoadError(f"the module {module.__name__!r} has neither app nor application; name it: MODULE:NAME")
        return found[0]
    if "(" in name:
        raise LoadError(f"{name!r} is a call; write --factory {module.__name__}:{name.partition('(')[0]}")
    value = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise LoadError(f"the module {module.__name__!r} has no {name!r}") from None
    return value


def chosen_interface(app: Any, interface: str, lifespan: str) -> str:
    """The interface `wsgi` or `asgi` of an application. `interface` is `auto` or the one that is asked for.

    Raises LoadError if the application cannot have it or does not tell, or if `lifespan` is `on` without ASGI.
    """
    found = interface_of(app)
    chosen = found if interface == "auto" else interface
    if interface == "auto" and _is_factory(app):
        raise LoadError("a function without required arguments is no application; if it returns one, add --factory")
    if chosen is None and any(_takes(app, count) for count in NUMBERS.values()):
        raise LoadError("its arguments do not tell WSGI from ASGI; add --interface wsgi or --interface asgi")
    if chosen is None or not _takes(app, NUMBERS[chosen]):
        if interface == "auto":
            raise LoadError("it takes neither the 2 arguments of WSGI nor the 3 of ASGI; see --factory for a function")
        hint = "is it a factory? Then add --factory" if found in (None, interface) else "leave --interface out"
        raise LoadError(f"it does not take the {NUMBERS[interface]} arguments of {interface.upper()}; {hint}")
    if chosen == "wsgi" and lifespan == "on":
        raise LoadError("--lifespan on needs ASGI, and the application is WSGI; leave the flag out")
    return chosen


def _is_factory(app: Any) -> bool:
    """Whether the application is a function all of whose arguments have defaults."""
    if not inspect.isfunction(app):
        return False
    parameters = inspect.signature(app, follow_wrapped=False).parameters.values()
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)


def _takes(function: Any, number: int) -> bool:
    """Whether a function can be called with this number of arguments, or does not tell."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * number)
    except TypeError:
        return False
    return True


def interface_of(app: Any) -> str | None:
    """The interface `wsgi` or `asgi` of an application; None if neither it nor what it wraps tells."""
    for number in range(MAX_WRAPPERS):
        if found := _own_interface(app):
            return found
        if (inner := _wrapped(app)) is None:
            # A decorator that makes an application of a function with other arguments, such as `Request.application`
            # of Werkzeug. One that makes an application of ASGI returns a coroutine function.
            is_adapted = number > 0 and not any(_takes(app, count) for count in NUMBERS.values())
            return "wsgi" if is_adapted else None
        app = inner
    return None


def _own_interface(app: Any) -> str | None:
    """The interface of an application that is a coroutine function, or whose number of arguments tells it."""
    if inspect.isclass(app):
        return "asgi" if hasattr(app, "__await__") else "wsgi"
    if inspect.iscoroutinefunction(app if inspect.isroutine(app) else getattr(app, "__call__", app)):
        return "asgi"
    try:
        parameters = inspect.signature(app, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    # Of an application with `*args` only the required arguments tell it.
    return next((interface for interface, number in NUMBERS.items() if number == required), None)


def _wrapped(app: Any) -> Any:
    """What a decorator says that it wraps: the attribute `__wrapped__` of an application or of its `__call__`."""
    call = app if inspect.isroutine(app) or hasattr(app, "__wrapped__") else getattr(app, "__call__", app)
    wrapped = getattr(call, "__wrapped__", None)
    return MethodType(wrapped, call.__self__) if callable(wrapped) and inspect.ismethod(call) else wrapped
