"""Finds the application that the command line names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

# The names that an application has in its module if the command line gives none.
DEFAULT_NAMES = ("app", "application")


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
        app = app()
    if not callable(app):
        raise LoadError(f"{target!r} is not callable")
    return app


def _find(module: Any, name: str) -> Any:
    if not name:
        found = [getattr(module, each) for each in DEFAULT_NAMES if hasattr(module, each)]
        if not found:
            raise LoadError(f"the module {module.__name__!r} has neither app nor application; name it: MODULE:NAME")
        return found[0]
    value = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise LoadError(f"the module {module.__name__!r} has no {name!r}") from None
    return value


def interface_of(app: Any) -> str:
    """`asgi` for an application that is called as a coroutine function, otherwise `wsgi`."""
    if inspect.isclass(app):
        return "asgi" if hasattr(app, "__await__") else "wsgi"
    call = app if inspect.isroutine(app) else getattr(app, "__call__", app)
    while hasattr(call, "func") and not inspect.isroutine(call):
        call = call.func
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(app, "__wrapped__", None)):
        return "asgi"
    # The classic interface takes environ and start_response. ASGI takes three arguments.
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "wsgi"
    required = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return "asgi" if len(required) == 3 else "wsgi"
