"""A node whose root does its worst is deleted in seconds; nothing is left, nothing else touched.

Everything here is done by programs inside the node, with the rights that its tenant has.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from moorage.app import local_provider
from moorage.install import install_id
from moorage.model.errors import RetryLater
from moorage.model.node import NodeRef, NodeSpec, NodeState, Role
from moorage.model.ports import Host
from moorage.networks.layout import mac
from moorage.providers.local import LocalProvider, cgroups, runtime, trees
from moorage.settings import FLAVORS, Settings
from tests.real.machine import difference, snapshot

pytestmark = pytest.mark.real
OWNER = "40571130-0000-4000-8000-000000000000"
SPEC = NodeSpec(OWNER, "worker-0", Role.WORKER, FLAVORS[0], "worker-0")
DELETE_SECONDS = 10.0
FREEZER = Path("/sys/fs/cgroup/freezer")


@dataclass
class Node:
    provider: LocalProvider
    state: Path

    ref = NodeRef(OWNER, SPEC.name)

    @property
    def host(self) -> Host:
        return self.provider.host(self.ref)

    @property
    def directory(self) -> Path:
        return self.state / "nodes" / OWNER / SPEC.name

    @property
    def group(self) -> str:
        return cgroups.path(install_id(self.state), OWNER, SPEC.name)

    async def does(self, program: str, script: str) -> str:
        """Let the node's root run a script, and see that it could."""
        option = {"sh": "-euc", "perl": "-we"}[program]
        done = await self.host.run([program, option, script])
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    async def is_deleted(self) -> None:
        start = time.monotonic()
        await self.provider.delete(self.ref)
        assert time.monotonic() - start < DELETE_SECONDS
        assert await self.provider.observe(OWNER) == []


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="moorage-hostile-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "state"


@pytest.fixture
async def node(state: Path) -> AsyncIterator[Node]:
    """A node that runs. Whatever a test did to it, the machine is as it was afterwards."""
    before = snapshot()
    umask = os.umask(0o022)
    made = Node(local_provider(Settings(state=state)), state)
    try:
        await made.provider.ensure(SPEC)
        yield made
    finally:
        os.umask(umask)
        await made.is_deleted()
        await made.provider.sweep()
    assert difference(before, snapshot()) == {}


@pytest.fixture
def precious(state: Path) -> Iterator[Path]:
    """A file of the machine that everybody may write, where the node's links lead to."""
    directory = state.parent / "precious"
    directory.mkdir()
    directory.chmod(0o777)
    file = directory / "file"
    file.write_text("precious")
    file.chmod(0o666)
    yield file
    assert [path.name for path in directory.iterdir()] == ["file"]
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("precious", 0o666)
    file.unlink()
    directory.rmdir()


NEST = """sub nest { my ($top, $length, $most) = @_;
    chdir $top or die "$top: $!";
    my $depth = 0;
    while ($depth < $most and mkdir "d" x $length and chdir "d" x $length) { $depth++ }
    return $depth }
"""
"""Perl: nests directories as far as the kernel lets it, and stays in the last one."""

FREEZE = """open STDOUT, ">", "/dev/null"; open STDERR, ">&", \\*STDOUT;
sub freeze { my $pid = fork // die; exec "sleep", "1000" unless $pid;
    open my $procs, ">", "cgroup.procs" or die; print $procs $pid; close $procs or die;
    open my $state, ">", "freezer.state" or die; print $state "FROZEN"; close $state or die;
    do { open $state, "<", "freezer.state" or die } until <$state> eq "FROZEN\\n" }
"""
"""Perl: freezes a process (which holds none of our pipes) in the group that it is in."""


async def test_directories_nested_beyond_any_path(node: Node) -> None:
    await node.does("perl", NEST + 'nest("/home", 200, 5000) == 5000 or die')
    await node.does("perl", 'for (1..30000) { open my $f, ">", "/srv/file $_" or die }')
    await node.is_deleted()


async def test_cgroups_nested_as_deep_as_the_kernel_lets(node: Node) -> None:
    depths = await node.does(
        "perl",
        NEST
        + """for my $top (glob "/sys/fs/cgroup/*") {
            mkdir "$top/$_" or die for (1..300);
            print nest($top, 100, 600), " " }""",
    )
    assert min(int(depth) for depth in depths.split()) >= 100
    await node.is_deleted()


@pytest.mark.skipif(not FREEZER.exists(), reason="cgroup v1's freezer only; v2's lets them die")
async def test_processes_that_the_node_froze(node: Node) -> None:
    await node.does(
        "perl",
        NEST
        + FREEZE
        + """my $top = "/sys/fs/cgroup/freezer";
            for (1..300) { mkdir "$top/$_"; chdir "$top/$_" or die; freeze() if $_ % 10 == 0 }
            nest($top, 100, 300) == 300 or die; freeze()""",
    )
    await node.is_deleted()


async def test_files_that_look_immutable_and_lead_outside(node: Node, precious: Path) -> None:
    await node.does(
        "sh",
        f"""mkdir -p "/opt/with
newline" /opt/-rf /opt/closed/within
        echo x > "/opt/with
newline/a
b"; echo x > '/opt/$(reboot)'; echo x > /opt/closed/file; mkfifo /opt/fifo
        ln -s {precious} /opt/file; ln -s {precious.parent} /opt/directory; ln -s / /opt/root
        rm -rf /var/log; ln -s {precious.parent} /var/log
        printf x | perl -e 'open my $f, ">", "/opt/\\xff\\xfe" or die'
        chmod 000 /opt/closed/within /opt/closed/file /opt/closed; chmod 000 /opt /""",
    )
    await node.is_deleted()


async def test_mounts_of_its_own(node: Node, precious: Path) -> None:
    del precious
    await node.does(
        "sh",
        """mkdir /mnt/tmpfs /mnt/usr /mnt/all /mnt/lower /mnt/upper /mnt/work /mnt/merged
        mount -t tmpfs none /mnt/tmpfs; echo x > /mnt/tmpfs/file
        mount --rbind /usr /mnt/usr
        mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work none \
            /mnt/merged
        echo x > /mnt/merged/file; mkdir /mnt/merged/directory
        mount --bind /mnt/all /mnt/all; mount --make-rshared /
        mount --rbind / /mnt/all
        unshare --mount --propagation unchanged sh -c 'mount -t tmpfs none /srv
            setsid sleep 1000 </dev/null >/dev/null 2>&1 &'""",
    )
    await node.is_deleted()


async def test_a_node_that_runc_lost_sight_of(node: Node) -> None:
    """As after a kill within `runc create`, or when somebody has emptied /run."""
    await node.does("sh", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
    (runtime.RUN / install_id(node.state) / f"{OWNER}.{SPEC.name}" / "state.json").unlink()
    (seen,) = await node.provider.observe(OWNER)
    assert seen.state is NodeState.STOPPED
    await node.is_deleted()
    assert not cgroups.directory(node.group).exists()


async def test_a_root_that_can_t_be_started(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """runc reads a file of the node before it starts, and gets no end of it."""
    await node.does("sh", "rm /etc/passwd; mkfifo /etc/passwd")
    init = node.provider._runc.init(f"{OWNER}.{SPEC.name}")
    assert init
    await runtime.kill(init)
    monkeypatch.setattr(runtime, "PATIENCE", 1.0)
    for _ in range(2):
        with pytest.raises(RetryLater, match="runc create did not end within 1 s"):
            await node.provider.ensure(SPEC)
    await node.is_deleted()


async def test_a_delete_that_is_cut_off_leaves_nothing_that_is_started_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.does("perl", 'for (1..2000) { open my $f, ">", "/srv/file $_" or die }')
    removing = asyncio.Event()
    remove = trees.remove

    async def stuck(*paths: Path) -> None:
        if any(path.exists() for path in paths):
            removing.set()
            await asyncio.Event().wait()
        await remove(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(trees, "remove", stuck)
        deleting = asyncio.create_task(node.provider.delete(node.ref))
        await removing.wait()
        deleting.cancel()
        await asyncio.wait({deleting})
    (seen,) = await node.provider.observe(OWNER)
    assert seen.state is NodeState.BROKEN
    await node.is_deleted()


async def test_programs_that_print_and_fail_without_end(node: Node) -> None:
    """What Moorage runs in a node may be replaced there, the shell by which it puts files too."""
    cpu = time.process_time()
    done = await node.host.run(["sh", "-c", "yes; cat /dev/zero >&2"], timeout=20)
    assert len(done.stdout) == len(done.stderr) == runtime.OUTPUT_BYTES
    assert time.process_time() - cpu < 2
    await node.does(
        "sh",
        """rm /bin; mkdir /bin; cat > /bin/sh <<'END'
#!/usr/bin/perl
print STDERR "\\e[31m " x 500; exit 1
END
        chmod +x /bin/sh""",
    )
    with pytest.raises(RetryLater) as caught:
        await node.host.put("/root/file", b"x")
    assert len(caught.value.reason) < 400
    assert caught.value.reason.isprintable()
    await node.is_deleted()


async def test_a_fork_bomb(node: Node) -> None:
    bomb = "for (;;) { sleep 1000 unless fork }"
    await node.does("sh", f"setsid perl -e '{bomb}' >/dev/null 2>&1 &")
    with pytest.raises(RetryLater, match="could not be written"):
        async with asyncio.timeout(30):
            while True:
                await node.host.put("/root/file", b"x")
    await node.is_deleted()


async def test_a_node_s_inotify_instances_are_its_own(node: Node) -> None:
    """The kernel gives so many to each user: to the machine's root too, and it needs some."""
    instances = "my $n = 0; while (syscall(294, 0) >= 0) { $n++ } print $n; $n or die;"  # x86-64
    await node.does("perl", f"{instances} exit 0 if fork; close STDOUT; close STDERR; sleep 1000")
    assert (await node.host.run(["perl", "-e", instances])).returncode, "it has no more"
    ours = ctypes.CDLL(None, use_errno=True).inotify_init()
    assert ours >= 0
    os.close(ours)


def learned(bridge: str) -> list[str]:
    """The hardware addresses that it knows, beside its own and its ports'."""
    argv = ("bridge", "fdb", "show", "br", bridge, "dynamic")
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in shown.splitlines()]


async def test_addresses_that_a_node_makes_up_are_not_learned(node: Node) -> None:
    place = node.provider._places.of(node.ref)
    marks, (seen,) = place.marks(), await node.provider.observe(OWNER)
    assert marks
    assert seen.address
    await node.does(
        "perl",
        """my $index = `cat /sys/class/net/eth0/ifindex`;
        socket my $raw, 17, 3, 0 or die;  # packets, raw
        my $to = pack "S n i S C C a8", 17, 0, $index, 0, 0, 6, "";
        for (1..1000) { my $frame = pack "a6 C N C n a46", "\\xff" x 6, 2, $_, 1, 0x88b5, "";
            send $raw, $frame, 0, $to or die }""",
    )
    assert learned(f"mrg{marks.slot}") == [mac(IPv4Address(seen.address))]
