"""up, down and what they keep, with a server that is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import moorage as package
from moorage.cli import choices, daemon, main, server
from moorage.cli import demo as demonstration
from moorage.cli import facts as gathering
from moorage.cli.daemon import Home
from moorage.cli.failure import Code, Failure
from moorage.cli.screen import Progress
from moorage.settings import Settings
from moorage.trust import Seal

from .test_doctor import GOOD


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good machine, on which starting a server is only noted."""
    monkeypatch.setattr(gathering, "gather", lambda *_: GOOD)
    monkeypatch.setattr(daemon, "spawn", lambda *_: None)
    monkeypatch.setattr(daemon, "await_ready", lambda *_, **__: None)


@pytest.mark.usefixtures("machine")
def test_what_was_said_once_is_kept(
    tmp_path: Path,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = str(tmp_path / "state")
    monkeypatch.setenv("MOORAGE_KEYSTONE_PASSWORD", "hush")
    assert moorage("up", "--state", state, "--port", "9600", "--pool", "10.64.0.0/16") == Code.OK
    said = capsys.readouterr()
    assert "http://127.0.0.1:9600" in said.out
    assert "clouds.yaml" in said.out
    assert "hush" not in said.out + said.err
    monkeypatch.delenv("MOORAGE_KEYSTONE_PASSWORD")

    kept = choices.load(tmp_path / "state")
    assert (kept.port, str(kept.pool)) == (9600, "10.64.0.0/16")
    assert kept.keystone_password is not None
    assert kept.keystone_password.get_secret_value() == "hush"
    assert Home(tmp_path / "state").settings.stat().st_mode & 0o077 == 0

    monkeypatch.setenv("MOORAGE_PORT", "9700")
    assert choices.load(tmp_path / "state").port == 9700, "a variable goes before what was kept"
    assert choices.load(tmp_path / "state", {"port": 9800}).port == 9800


def test_a_machine_that_lacks_something_is_refused(
    tmp_path: Path,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tools = {name: path for name, path in GOOD.tools.items() if name != "runc"}
    monkeypatch.setattr(gathering, "gather", lambda *_: replace(GOOD, tools=tools))
    assert moorage("up", "--state", str(tmp_path / "state")) == Code.FAILED
    assert "apt-get install -y --no-install-recommends runc" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_port_that_is_taken(
    tmp_path: Path,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "PORT_PATIENCE", 0)
    monkeypatch.setattr(
        gathering, "gather", lambda *_: replace(GOOD, ports_taken=frozenset({9600}))
    )
    assert moorage("up", "--state", str(tmp_path), "--port", "9600") == Code.CONFLICT
    assert "ss -ltnp 'sport = :9600'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--pool", "10.0.0.0/33"), ("--quota-nodes", "-2"), ("--memory-overcommit", "0")]
)
def test_a_setting_that_can_not_be(
    tmp_path: Path, moorage: Callable[..., int], words: tuple[str, str]
) -> None:
    assert moorage("up", "--state", str(tmp_path), *words) == Code.USAGE


def test_down_of_what_is_down(
    tmp_path: Path, moorage: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert moorage("down", "--state", str(tmp_path / "nothing")) == Code.OK
    assert capsys.readouterr().out == "Moorage is down already.\n"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kept", ['{"stop_seconds": 45}', "{"])
def test_down_waits_as_long_as_the_server_was_told_to_take(
    tmp_path: Path, moorage: Callable[..., int], monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """What is kept may be damaged: it stops all the same."""
    waited: list[float] = []

    def stop(_: daemon.Process, *, seconds: float) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr(daemon, "stop", stop)
    Home(tmp_path).settings.write_text(kept)
    with daemon.held(Home(tmp_path)):
        assert moorage("down", "--state", str(tmp_path)) == Code.OK
    assert waited == [server.STOP_SECONDS + (45 if "45" in kept else 0)]


def test_purge_asks_and_nobody_answers(tmp_path: Path, moorage: Callable[..., int]) -> None:
    assert moorage("down", "--purge", "--state", str(tmp_path)) == Code.USAGE


def test_purge_leaves_nothing_of_ours_and_all_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiped: list[Path] = []
    app = SimpleNamespace(wipe=lambda settings: wiped.append(settings.state))
    monkeypatch.setattr(package, "app", app, raising=False)
    settings = choices.load(tmp_path / "state")
    choices.keep(settings)
    Home(settings.state).prepare()
    Home(settings.state).log.write_text("{}")
    server.purge(settings, Progress())
    assert wiped == [settings.state]
    assert not settings.state.exists()

    Home(settings.state).prepare()
    (settings.state / "mine").write_text("not Moorage's")
    server.purge(settings, Progress())
    assert [path.name for path in settings.state.iterdir()] == ["mine"]


@pytest.mark.parametrize("url", [None, "postgresql://moorage:hush@db/moorage"])
def test_purge_tells_of_a_database_that_stays(
    tmp_path: Path,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
) -> None:
    monkeypatch.setattr(server, "purge", lambda *_: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    choices.keep(choices.load(tmp_path, {"database_url": url}))
    assert moorage("down", "--purge", "--yes", "--state", str(tmp_path)) == Code.OK
    said = capsys.readouterr().out
    assert ("stays as it is" in said) == (url is not None)
    assert "hush" not in said


def test_kept_settings_that_are_damaged(tmp_path: Path) -> None:
    Home(tmp_path).settings.write_text("{")
    with pytest.raises(Failure, match="damaged"):
        choices.load(tmp_path)


URL = "postgresql://moorage:hush@db/moorage"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_database_s_address_is_kept_and_not_told(
    how: str,
    tmp_path: Path,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = tmp_path / "state"
    if how == "variable":
        monkeypatch.setenv("MOORAGE_DATABASE_URL", URL)
    words = ("--database", URL) if how == "option" else ()
    assert moorage("up", "--state", str(state), *words) == Code.OK
    said = capsys.readouterr()
    assert "hush" not in said.out + said.err
    monkeypatch.delenv("MOORAGE_DATABASE_URL", raising=False)

    kept = choices.load(state)
    assert kept.database == URL
    assert "hush" not in repr(kept)
    assert Home(state).settings.stat().st_mode & 0o077 == 0
    assert moorage("up", "--state", str(state)) == Code.OK
    assert choices.load(state).database == URL, "the next `moorage up` needs no options"


@pytest.mark.usefixtures("machine")
def test_the_server_has_what_was_said_and_not_what_a_variable_says(
    tmp_path: Path, moorage: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told its state directory only: an option that goes before a variable must there too."""
    given: dict[str, str] = {}
    monkeypatch.setattr(daemon, "spawn", lambda _, environment: given.update(environment))
    monkeypatch.setenv("MOORAGE_DATABASE_URL", "postgresql://elsewhere/moorage")
    monkeypatch.setenv("MOORAGE_PORT", "9700")
    monkeypatch.setenv("MOORAGE_DEBUG", "1")
    assert moorage("up", "--state", str(tmp_path), "--database", URL) == Code.OK
    monkeypatch.setattr("os.environ", given)
    seen = choices.load(tmp_path)
    assert (seen.database, seen.port) == (URL, 9700)
    assert given["MOORAGE_DEBUG"] == "1"
    assert given["PATH"]


@pytest.mark.parametrize("words", [("serve",), ("demo",), ("up", "--foreground")])
@pytest.mark.usefixtures("machine")
def test_every_command_that_starts_a_server_takes_a_database(
    tmp_path: Path,
    moorage: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    started: list[Settings] = []
    monkeypatch.setattr(server, "serve", started.append)
    monkeypatch.setattr(demonstration, "run", started.append)
    monkeypatch.setenv("MOORAGE_DATABASE_URL", "postgresql://elsewhere/moorage")
    assert moorage(*words, "--state", str(tmp_path / "state"), "--database", URL) == Code.OK
    assert [settings.database for settings in started] == [URL]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://moorage:hush@db/moorage",
        "moorage:hush@db/moorage",
        "postgres://moorage:hush@db/moorage",
        "sqlite:///hush.db",
        "sqlite://",
        "hush",
        "",
    ],
)
def test_a_database_that_can_not_be(
    tmp_path: Path, moorage: Callable[..., int], capsys: pytest.CaptureFixture[str], url: str
) -> None:
    for command in ("up", "serve", "demo"):
        state = tmp_path / "state"
        assert moorage(command, "--state", str(state), "--database", url) == Code.USAGE
        said = capsys.readouterr()
        assert "postgresql://user:password@host/name" in said.err
        assert "hush" not in said.out + said.err
        assert not state.exists()


@pytest.mark.parametrize(
    "url", [URL, "postgresql+asyncpg://db/moorage", "sqlite:////srv/moorage.db"]
)
def test_databases_that_can_be(tmp_path: Path, url: str) -> None:
    assert choices.load(tmp_path, {"database_url": url}).database == url


@pytest.mark.parametrize("only", ["api", "conductor"])
@pytest.mark.usefixtures("machine")
def test_one_half_of_it(
    tmp_path: Path, moorage: Callable[..., int], monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    started: list[Settings] = []
    monkeypatch.setattr(server, "serve", started.append)
    state = str(tmp_path / "state")
    words = ("--state", state, "--database", URL, "--only", only)
    assert moorage("serve", *words) == Code.OK
    assert moorage("up", *words) == Code.OK
    assert [started[0].only, choices.load(tmp_path / "state").only] == [only, only]
    assert len(server.ports(started[0])) == (4 if only == "api" else 2)


@pytest.mark.usefixtures("machine")
def test_what_was_one_half_is_both_again(tmp_path: Path, moorage: Callable[..., int]) -> None:
    words = ("--state", str(tmp_path), "--database", URL)
    assert moorage("up", *words, "--only", "conductor") == Code.OK
    assert moorage("up", *words) == Code.OK
    assert choices.load(tmp_path).only == "conductor", "what was said last is kept"
    assert moorage("up", *words, "--only", "both") == Code.OK
    assert choices.load(tmp_path).only is None


@pytest.mark.usefixtures("machine")
def test_a_second_one_on_a_machine_takes_no_port_of_the_first(
    tmp_path: Path, moorage: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `moorage demo --help` types it."""
    shown: list[Settings] = []
    monkeypatch.setattr(demonstration, "run", shown.append)
    [typed] = [line for line in example_lines() if "--state" in line]
    words = typed.replace("/var/lib", str(tmp_path)).split()
    assert moorage(*words[words.index("demo") :]) == Code.OK
    state = ("--state", str(tmp_path / "up"))
    given = ["--port", "9600", "--keystone-port", "5600", "--metrics-port", "9601"]
    given += ["--sign-in-port", "9602"]
    assert moorage("up", *state, *given) == Code.OK
    first = server.ports(Settings(state=tmp_path))
    for settings in (*shown, choices.load(tmp_path / "up")):
        assert len(server.ports(settings)) == 4
        assert not server.ports(settings).keys() & first.keys()


def example_lines() -> list[str]:
    [demo] = [c for c in main.app.registered_commands if c.callback is main.demo]
    return str(demo.help).splitlines()


def test_one_half_needs_a_database_that_others_share(
    tmp_path: Path, moorage: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert moorage("serve", "--state", str(tmp_path / "state"), "--only", "api") != Code.OK
    assert "PostgreSQL" in capsys.readouterr().err


@pytest.mark.parametrize("machine", ["", "a/b", "a b"])
def test_names_of_machines_that_can_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setenv("MOORAGE_MACHINE", machine)
    with pytest.raises(Failure, match="machine"):
        choices.load(tmp_path)


@pytest.mark.parametrize("how", ["up", "up --foreground"])
@pytest.mark.usefixtures("machine")
def test_a_lost_key_is_said_of_one_key_file(
    tmp_path: Path, moorage: Callable[..., int], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What is kept is the key that is there instead: another one is another matter."""
    started: list[Settings] = []
    monkeypatch.setattr(server, "serve", started.append)
    state, key_file = tmp_path / "state", tmp_path / "mount" / "seal.key"
    monkeypatch.setenv("MOORAGE_KEY_FILE", str(key_file))
    assert moorage(*how.split(), "--state", str(state), "--key-lost") == Code.OK
    assert moorage("up", "--state", str(state)) == Code.OK
    kept = choices.load(state).key_lost
    assert kept == Seal.load_or_create(key_file).name
    assert [settings.key_lost for settings in started] == ([kept] if "fore" in how else [])
    key_file.unlink()
    assert not Seal.load_or_create(key_file).has(kept)


@pytest.mark.usefixtures("machine")
def test_a_lost_key_that_was_not_named_is_said_again(
    tmp_path: Path, moorage: Callable[..., int]
) -> None:
    Home(tmp_path).settings.write_text('{"key_lost": true}')
    assert choices.load(tmp_path).key_lost is None
    assert moorage("up", "--state", str(tmp_path), "--key-lost") == Code.OK
    assert choices.load(tmp_path).key_lost
