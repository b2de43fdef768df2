"""Which cloud is meant: named, in the environment, or the one that `moorage up` wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from moorage.cli.clouds import choose
from moorage.cli.failure import Code, Failure


def write(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    clouds = {name: {"auth": {"auth_url": f"http://{name}", "password": "hush"}} for name in names}
    path.write_text(yaml.safe_dump({"clouds": clouds}))
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "state" / "clouds.yaml", "moorage", "harbour")
    return tmp_path / "state"


def test_unnamed_it_is_the_one_of_this_machine(state: Path) -> None:
    assert choose(None, {"XDG_CONFIG_HOME": "/nowhere"}, state).auth["auth_url"] == "http://moorage"


def test_a_name_is_looked_for_in_every_file(state: Path, tmp_path: Path) -> None:
    env = {"OS_CLIENT_CONFIG_FILE": str(write(tmp_path / "mine.yaml", "work"))}
    assert choose("work", env, state).name == "work"
    assert choose("harbour", env, state).name == "harbour"


def test_the_environment_names_one(state: Path) -> None:
    assert choose(None, {"OS_CLOUD": "harbour"}, state).name == "harbour"
    cloud = choose(
        None,
        {
            "OS_AUTH_URL": "http://k",
            "OS_USERNAME": "ada",
            "OS_REGION_NAME": "R",
            "OS_INSECURE": "1",
        },
        state,
    )
    assert cloud.auth == {"auth_url": "http://k", "username": "ada"}
    assert (cloud.region, cloud.verify) == ("R", False)


def test_one_that_is_not_there_names_those_that_are(state: Path) -> None:
    with pytest.raises(Failure) as raised:
        choose("elsewhere", {"XDG_CONFIG_HOME": "/nowhere"}, state)
    assert raised.value.code is Code.NOT_FOUND
    assert "harbour" in raised.value.reason


def test_none_at_all_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match=str(tmp_path / "clouds")):
        choose(None, {"XDG_CONFIG_HOME": "/nowhere"}, tmp_path)


@pytest.mark.parametrize("text", ["clouds: [", "clouds: {moorage: {}}", "clouds: {moorage: 3}"])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(Failure) as raised:
        choose("moorage", {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "c.yaml")}, tmp_path)
    assert raised.value.code is Code.USAGE


def test_a_password_is_not_shown(state: Path) -> None:
    assert "hush" not in repr(choose("moorage", {}, state))
