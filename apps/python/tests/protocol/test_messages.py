"""The command line and the lines of the log: what they say about mistakes, and about an application that exits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM, SIGUSR1

import pytest
from probe import DEADLINE, Probe, until
from serving import BACKENDS, EXAMPLES, TESTS, Servers, environment

from .wire import Wire

pytestmark = pytest.mark.gearshift

DOCUMENT = TESTS.parents[2] / "docs" / "python.md"
VALUES = {
    "--access-logfile": "-",
    "--asgi-lifespan": "auto",
    "--asgi-loop": "asyncio",
    "--bind": "127.0.0.1:0",
    "-b": "127.0.0.1:0",
    "--config": os.devnull,
    "--fd": "3",
    "--forwarded-allow-ips": "127.0.0.1",
    "--host": "127.0.0.1",
    "--log-level": "warning",
    "--pythonpath": ".",
    "--uds": "socket",
}
"""The values with which the flags of the document are tried; other flags have the value 5."""
SWITCHES = {"--access-log", "--no-access-log", "--check-config", "--print-config"}
PAIRS = ("cert", "key")
"""The parts of the names of flags that name files."""


def run(*arguments: str, cwd: Path = TESTS / "protocol", env: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs the command to its end. Returns its status and its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "gearshift", *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    return ended.returncode, ended.stdout


def refusal(*arguments: str, status: int = 2, env: dict[str, str] | None = None) -> str:
    """The one line with which the command line is refused, without `error: `."""
    found, output = run(*arguments, env=env)
    assert (found, output[:7], output.count("\n")) == (status, "error: ", 1), output
    return output[7:].rstrip()


def documented(heading: str) -> list[str]:
    """The flags in the first column of a table of the document, which follows a line that begins with `heading`."""
    table = DOCUMENT.read_text().partition(f"\n{heading}")[2].partition("\n| --- | --- |\n")[2].partition("\n\n")[0]
    names = [name for row in table.splitlines() for name in re.findall(r"`(-[^`]+)`", row.split("|")[1])]
    assert len(names) > 20, names
    return names


# The command line


@pytest.mark.parametrize("flag", documented("These flags of gunicorn"))
def test_a_flag_of_gunicorn_and_uvicorn_is_accepted(flag: str) -> None:
    value = [] if flag in SWITCHES else [VALUES.get(flag, "5")]
    checked = [] if flag == "--check-config" else ["--check-config"]
    status, output = run("--backend=threadpool", flag, *value, *checked)
    if any(part in flag for part in PAIRS):
        assert (status, output) == (2, "error: each --tls-cert needs a --tls-key, in the same order\n")
    else:
        assert status == 0 and "error" not in output, output


@pytest.mark.parametrize("flag", documented("These do not exist"))
def test_a_flag_that_does_not_exist_is_refused_with_what_to_use(flag: str) -> None:
    assert refusal(flag, "5", "apps_messages:app").startswith(f"{flag} does not exist here: ")


def test_the_value_of_a_short_flag_may_be_behind_it() -> None:
    assert refusal("-t30", "apps_messages:app").startswith("-t does not exist here: use --timeout")


def test_a_flag_is_suggested_only_if_it_is_near() -> None:
    assert refusal("--keep_alive=5", "x:app").endswith("a similar argument exists: '--keep-alive'")
    assert refusal("--spew", "x:app") == "unexpected argument '--spew' found"


@pytest.mark.parametrize("flags", [[], ["--access-log"], ["--reload"]])
def test_a_missing_application_is_named(flags: list[str]) -> None:
    assert refusal(*flags) == "the following required arguments were not provided: <MODULE:NAME>"


@pytest.mark.parametrize(
    "arguments", [("--access-log", "access", "x:app"), ("x:app", "-w", "2", "--access-log", "access", "--reload")]
)
def test_a_word_behind_the_access_log_that_is_no_file_is_told_the_values(arguments: tuple[str, ...]) -> None:
    assert refusal(*arguments) == (
        "'access' behind --access-log was taken for MODULE:NAME; write --access-log=access, "
        "or a FILE with a / or the suffix .log, or - for standard output"
    )


def test_an_application_may_be_behind_the_access_log() -> None:
    assert run("--access-log", "apps_messages", "--bind=127.0.0.1:0", "--check-config") == (0, "")
    assert refusal("--access-log", "x:app", "y") == "unexpected argument 'y' found"
    assert refusal("--access-log", "x", "--spew") == "unexpected argument '--spew' found"


@pytest.mark.parametrize("flag", ["-w", "--workers"])
def test_a_flag_is_named_as_it_was_given(flag: str) -> None:
    assert refusal(flag, "0", "x:app") == f"invalid value '0' for '{flag}': not between 1 and 256"


@pytest.mark.parametrize("path", ["api", "api/", "http://host/api", "//host", "/api?x", "/a b"])
def test_a_root_path_that_is_no_path_is_refused(path: str) -> None:
    assert refusal(f"--root-path={path}", "x:app").startswith(f"invalid value '{path}' for '--root-path <PATH>': ")


@pytest.mark.parametrize("flags", [["--chdir"], ["--reload", "--reload-dir"]])
def test_a_directory_that_is_not_there_is_refused(flags: list[str]) -> None:
    assert "is no directory" in refusal(*flags, "missing", "apps_wsgi:app")


def test_an_address_may_have_only_a_port(serve: Servers) -> None:
    server = serve("apps_faults:wsgi", "-b", ":0", interface="wsgi")
    assert "listening at http://0.0.0.0:" in server.log


def test_a_kind_of_workers_is_no_backend(tmp_path: Path) -> None:
    for name, backend in [("gthread", "threadpool"), ("uvicorn.workers.UvicornWorker", "mio")]:
        value = f"invalid value '{name}'"
        hint = f"a kind of workers of gunicorn; use the backend {backend}"
        file = tmp_path / "settings.toml"
        file.write_text(f"backend = '{name}'\n")
        assert refusal("-k", name, "x:app") == f"{value} for '-k': {hint}"
        assert refusal("--config", str(file), "x:app") == f"{file}:1: backend: {value}: {hint}"
        found = refusal("x:app", env={"GEARSHIFT_BACKEND": name})
        assert found == f"the environment variable GEARSHIFT_BACKEND: {value}: {hint}"


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ("sequential", "threadpool")])
def test_an_event_loop_that_gets_threads_names_the_flags_for_them(backend: str) -> None:
    found = refusal(f"--backend={backend}", "--threads=4", "--bind=127.0.0.1:0", "apps_messages:app", status=3)
    assert "--backend threadpool" in found and "--blocking-threads N" in found, found


def test_proxies_are_those_of_the_variable_of_other_servers() -> None:
    found = refusal("x:app", env={"FORWARDED_ALLOW_IPS": "here"})
    assert found.startswith("the environment variable FORWARDED_ALLOW_IPS: ")
    both = {"FORWARDED_ALLOW_IPS": "here", "GEARSHIFT_FORWARDED_ALLOW_IPS": "*"}
    assert run("--check-config", env=both)[0] == 0


def test_the_file_of_settings_of_the_examples_is_valid() -> None:
    file = EXAMPLES / "gearshift.toml"
    assert run("--config", str(file), "--check-config") == (0, "")


def test_all_settings_of_the_examples_are_keys(tmp_path: Path) -> None:
    lines = (EXAMPLES / "gearshift.toml").read_text().splitlines()
    conflicting = ("tls-", "metrics-bind", "processes")
    keys = [line.removeprefix("#") for line in lines if re.match(r"#?[a-z-]+ = ", line)]
    file = tmp_path / "all.toml"
    file.write_text("\n".join(key for key in keys if not key.startswith(conflicting)))
    status, output = run("--config", str(file), "--backend=mio", "--check-config")
    assert "unknown key" not in output and status in (0, 3), output


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("workers = 2", "processes"),
        ("worker_class = 'gthread'", "backend"),
        ("worker-class = 'gthread'", "backend"),
    ],
)
def test_a_key_with_the_name_of_an_alias_is_told_the_name_of_the_flag(tmp_path: Path, line: str, flag: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{line}\n")
    key = line.partition(" ")[0]
    assert refusal("--config", str(file), "x:app") == f"{file}:1: {key}: unknown key; did you mean {flag}?"


# The application


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["apps_messages.py"], "'apps_messages.py' is the name of a file, not of a module; write apps_messages:app"),
        (["src/main.py:api"], "'src/main.py' is the name of a file, not of a module; write --app-dir src main:api"),
        (["apps_messages:create_app()"], "'create_app()' is a call; write --factory apps_messages:create_app"),
        (
            ["apps_messages:create_app"],
            "a function without required arguments is no application; if it returns one, add --factory",
        ),
        (
            ["--factory", "apps_messages:app"],
            "'apps_messages:app' cannot be called without arguments; without --factory it is the application",
        ),
        (
            ["--lifespan=on", "apps_messages:app"],
            "--lifespan on needs ASGI, and the application is WSGI; leave the flag out",
        ),
        (
            ["apps_messages:decorated_without_a_trace"],
            "its arguments do not tell WSGI from ASGI; add --interface wsgi or --interface asgi",
        ),
        (["--interface=asgi", "apps_messages:app"], "it does not take the 3 arguments of ASGI; leave --interface out"),
        (["--interface=wsgi", "apps_messages:asgi"], "it does not take the 2 arguments of WSGI; leave --interface out"),
    ],
)
def test_an_application_that_cannot_be_served_is_refused_in_one_line(arguments: list[str], expected: str) -> None:
    found = refusal("--log-level=warn", "--bind=127.0.0.1:0", *arguments, status=3)
    assert found == f"the application did not start: {expected}"


@pytest.mark.parametrize(
    ("name", "flags", "interface"),
    [
        ("decorated", [], "asgi"),
        ("decorated_twice", [], "asgi"),
        ("decorated_wsgi", [], "wsgi"),
        ("decorated_object", [], "asgi"),
        ("adapted", [], "wsgi"),
        ("view", [], "wsgi"),
        ("slotted", [], "asgi"),
        ("decorated_without_a_trace", ["--interface=asgi"], "asgi"),
    ],
)
def test_the_interface_is_that_of_what_a_decorator_wraps(
    serve: Servers, name: str, flags: list[str], interface: str
) -> None:
    server = serve(f"apps_messages:{name}", *flags, interface=interface)
    with Wire(server) as wire:
        assert wire.exchange("/").body == (b"http" if interface == "wsgi" else b"ok")
    server.wait_for_log(f"the application has started ({interface.upper()})")


def test_a_factory_is_called(serve: Servers) -> None:
    with Wire(serve("apps_messages:create_app", "--factory", interface="wsgi")) as wire:
        assert wire.exchange("/").body == b"http"


def test_a_factory_that_fails_is_not_called_an_import() -> None:
    status, output = run("--bind=127.0.0.1:0", "--factory", "apps_messages:failing")
    assert status == 3 and "imported" not in output, output
    assert "Traceback" in output
    assert output.endswith("did not start: the factory 'apps_messages:failing' has raised ValueError: no settings\n")


def test_the_reason_why_a_lifespan_fails_is_one_line(backend: str) -> None:
    status, output = run(f"--backend={backend}", "--bind=127.0.0.1:0", "apps_messages:starlette")
    assert status == 3, output
    assert output.endswith("\nerror: the application did not start: RuntimeError: no database\n"), output
    assert output.count("Traceback") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["broken:app"], "it could not be imported: ValueError: first"),
        (["--lifespan=on", "apps_messages:failing_lifespan"], "ValueError: first"),
    ],
)
def test_an_exception_is_once_in_a_traceback_and_in_the_last_line(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('first\\nsecond')\n")
    path = os.pathsep.join([str(tmp_path), str(TESTS), os.environ.get("PYTHONPATH", "")])
    status, output = run("--bind=127.0.0.1:0", "--log-level=warn", *arguments, env={"PYTHONPATH": path})
    assert status == 3, output
    assert output.endswith(f"\nValueError: first\nsecond\nerror: the application did not start: {reason}\n"), output
    assert (output.count("Traceback"), output.count("ValueError: first")) == (1, 2), output


def test_lines_of_a_process_that_does_not_start_have_its_number() -> None:
    status, output = run("--bind=127.0.0.1:0", "--workers=1", "--log-level=warn", "apps_messages:missing")
    assert status == 3
    expected = r"error: \[\d+\] the application did not start: the module 'apps_messages' has no 'missing'\n"
    assert re.match(expected, output), output


@pytest.mark.parametrize(("loops", "workers"), [(1, "1 worker"), (2, "2 workers")])
def test_the_first_line_counts_event_loops_and_not_cores(
    serve: Servers, backend: str, loops: int, workers: str
) -> None:
    if backend in ("sequential", "threadpool"):
        pytest.skip("one event loop at most")
    env = {"ASYNC_STD_THREAD_COUNT": str(loops)}
    server = serve("apps_messages:app", f"--event-loops={loops}", interface="wsgi", env=env)
    first = server.log.partition("\n")[0]
    assert f" on {backend}, {workers} (" in first and "core" not in first


def test_the_log_says_when_the_application_has_started(serve: Servers) -> None:
    for app, interface in [("apps_messages:app", "wsgi"), ("apps_messages:asgi", "asgi")]:
        server = serve(app, interface=interface)
        server.wait_for_log(f"the application has started ({interface.upper()})")


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_the_log_has_the_request_that_exits(serve: Servers, interface: str) -> None:
    name = "app" if interface == "wsgi" else "asgi"
    server = serve(f"apps_messages:{name}", interface=interface, status=7)
    with Wire(server) as wire:
        assert wire.exchange("/exits").status == 500
    assert server.wait() == 7
    expected = r"GET /exits: the application asks for the end .* with SystemExit\(7\) at \S+apps_messages.py:\d+\n"
    assert re.search(expected, server.log), server.log


@pytest.mark.skipif(sys.version_info < (3, 12, 2), reason="the server leaves the names to Python")
def test_threads_have_the_names_that_they_have_in_the_system(serve: Servers) -> None:
    with Wire(serve("apps_messages:app", interface="wsgi")) as wire:
        in_python, in_system = wire.exchange("/thread").body.decode().splitlines()
        assert in_python.startswith(in_system) and not in_python.startswith("Dummy"), (in_python, in_system)


def test_a_process_that_a_request_forks_ends_without_a_failure(serve: Servers) -> None:
    with Wire(serve("apps_messages:app", interface="wsgi")) as wire:
        assert wire.exchange("/forks").body == b"0"


def test_the_log_has_the_request_that_takes_too_long(serve: Servers, probe: Probe, backend: str) -> None:
    server = serve("apps_messages:app", "--timeout=100ms", interface="wsgi")
    if backend in ("sequential", "threadpool"):
        server.wait_for_log(f"--timeout has no effect on {backend}")
        return
    with Wire(server) as wire:
        wire.request(f"/waits?{probe.query}")
        assert wire.response().status == 503
        server.wait_for_log("GET /waits: no response within 100ms (--timeout)")
        server.wait_for_log("WARN  a handler took too long, and was dropped\n")
        probe.open("waits")


def test_a_relative_file_of_the_access_log_is_in_the_directory_of_the_start(serve: Servers, tmp_path: Path) -> None:
    flags = [f"--chdir={TESTS / 'protocol'}", "--access-log=requests.log"]
    server = serve("apps_messages:app", *flags, interface="wsgi", cwd=tmp_path)
    log, moved = tmp_path / "requests.log", tmp_path / "moved.log"
    with Wire(server) as wire:
        wire.exchange("/first")
        until(lambda: "/first" in log.read_text(), "the first request in the file")
        log.rename(moved)
        server.signal(SIGUSR1)
        server.wait_for_log("the access log was opened again")
        wire.exchange("/second")
        until(lambda: log.exists() and "/second" in log.read_text(), "the second request in the file")
    assert "/second" not in moved.read_text()


def test_a_relative_socket_is_removed_although_the_directory_has_changed(serve: Servers, tmp_path: Path) -> None:
    flags = [f"--chdir={TESTS / 'protocol'}", "--bind=unix:socket"]
    server = serve.start("apps_messages:app", *flags, interface="wsgi", cwd=tmp_path)
    server.wait_for_log("the application has started")
    assert (tmp_path / "socket").is_socket()
    server.stop()
    assert not (tmp_path / "socket").exists()


def test_a_reload_names_the_file(serve: Servers, backend: str, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("from apps_messages import app\n")
    path = os.pathsep.join([str(TESTS), str(TESTS / "protocol"), os.environ.get("PYTHONPATH", "")])
    server = serve("changing:app", "--reload", interface="wsgi", cwd=tmp_path, env={"PYTHONPATH": path})
    module.write_text("from apps_messages import app  # changed\n")
    server.wait_for_log("changing.py changed: the process is replaced")
    server.wait_for_log("the processes are replaced")
    server.signal(SIGTERM)
    assert server.wait() == 0
