from __future__ import annotations

from moorage.networks.forwarding import additions, removals

OPEN = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
COMMIT
"""
CLOSED = OPEN.replace("FORWARD ACCEPT", "FORWARD DROP")
DOCKER = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
COMMIT
"""
FROM = "-i mrg+ -m comment --comment moorage -j ACCEPT"
TO = "-o mrg+ -m comment --comment moorage -j ACCEPT"


def test_a_firewall_that_lets_pass_is_left_alone() -> None:
    assert additions(OPEN) == additions("") == []


def test_one_that_drops_lets_our_bridges_pass() -> None:
    assert additions(CLOSED) == [f"-I FORWARD {FROM}", f"-I FORWARD {TO}"]


def test_docker_has_a_chain_for_it() -> None:
    assert additions(DOCKER) == [f"-I DOCKER-USER {FROM}", f"-I DOCKER-USER {TO}"]


def test_dockers_chain_counts_only_while_it_is_consulted() -> None:
    saved = DOCKER.replace("-A FORWARD -j DOCKER-USER\n", "")
    assert additions(saved) == [f"-I FORWARD {FROM}", f"-I FORWARD {TO}"]


def test_only_what_is_lacking_is_added() -> None:
    saved = DOCKER.replace("COMMIT", f"-A DOCKER-USER {TO}\nCOMMIT")
    assert additions(saved) == [f"-I DOCKER-USER {FROM}"]


def test_our_rules_go_wherever_they_are_and_no_others() -> None:
    others = (
        "-A FORWARD -i mrg+ -j ACCEPT\n-A FORWARD -i br0 -m comment --comment moorage -j ACCEPT\n"
    )
    saved = DOCKER.replace("COMMIT", f"{others}-A FORWARD {TO}\n-A DOCKER-USER {FROM}\nCOMMIT")
    assert removals(saved) == [f"-D FORWARD {TO}", f"-D DOCKER-USER {FROM}"]
    assert removals(DOCKER) == []
