"""`moorage group …`: the node groups of a cluster, over HTTP, against any container-infra service.

Every change is a wish of the whole cluster: to wait for one is to wait for its cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from moorage.cli.clouds import choose
from moorage.cli.clusters import NAME, Wait, WaitSeconds, path_of, settle
from moorage.cli.failure import Code, Failure
from moorage.cli.options import OsCloud, OutputAs, named_values, segment
from moorage.cli.screen import Output, Progress, say, show_list, show_object, teach
from moorage.cli.session import Service, container_infra

commands = typer.Typer(
    no_args_is_help=True,
    help=teach(
        "Node groups: nodes of a cluster that are alike, with a size and labels of their own.",
        "moorage group create fleet gpu --flavor large --nodes 2 --node-label disk=ssd --wait",
        "moorage group list fleet",
        "moorage group resize fleet gpu 0 --wait",
    ),
)

COLUMNS = ("name", "uuid", "role", "flavor_id", "node_count", "is_default", "status")
GROUP = typer.Argument(help="The group's name or uuid.", show_default=False)
Least = Annotated[int | None, typer.Option("--min", help="It never has fewer nodes.", min=0)]
Most = Annotated[int | None, typer.Option("--max", help="It never has more nodes.", min=1)]
NodeLabels = Annotated[
    list[str] | None,
    typer.Option("--node-label", help="KEY=VALUE, put on each node; may be repeated."),
]
Taints = Annotated[
    list[str] | None,
    typer.Option(
        "--taint",
        help="KEY[=VALUE]:EFFECT; NoSchedule, PreferNoSchedule or NoExecute; may be repeated.",
    ),
]


@commands.command(
    "list",
    help=teach(
        "List the groups of a cluster; the two default ones are among them.",
        "moorage group list fleet",
        "moorage group list fleet --role worker -o json",
    ),
)
def list_(
    cluster: Annotated[str, NAME],
    role: Annotated[str | None, typer.Option(help="Only those of that role.")] = None,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    asked = f"?role={quote(role, safe='')}" if role else ""
    path = f"{path_of(cluster)}/nodegroups{asked}"
    rows = container_infra(choose(os_cloud)).every(path, "nodegroups")
    show_list(rows, COLUMNS, output, nothing=f"No groups of the role {role}.")


@commands.command(
    help=teach("Show all that is known of a group.", "moorage group show fleet gpu -o json")
)
def show(
    cluster: Annotated[str, NAME],
    group: Annotated[str, GROUP],
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    _show(container_infra(choose(os_cloud)).call("GET", _path(cluster, group)), output)


@commands.command(
    help=teach(
        "Add a group to a cluster.\n\n"
        "What is not said is as in the cluster: the workers' size and image, the labels.",
        "moorage group create fleet gpu --flavor large --nodes 2 --min 1 --max 5 --wait",
        "moorage group create fleet ssd --role db --node-label disk=ssd --taint db=yes:NoSchedule",
    )
)
def create(
    cluster: Annotated[str, NAME],
    group: Annotated[str, typer.Argument(help="Its name.")],
    nodes: Annotated[int, typer.Option(help="How many nodes.", min=0)] = 1,
    role: Annotated[
        str | None, typer.Option(help="A word to list groups by; not `master`.")
    ] = None,
    flavor: Annotated[str | None, typer.Option(help="The nodes' size.")] = None,
    image: Annotated[str | None, typer.Option(help="What the nodes boot from.")] = None,
    least: Least = None,
    most: Most = None,
    node_label: NodeLabels = None,
    taint: Taints = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, instead of the cluster's labels; may be repeated."),
    ] = None,
    merge_labels: Annotated[
        bool, typer.Option("--merge-labels", help="Lay the labels over the cluster's.")
    ] = False,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    wanted = {
        "name": group,
        "node_count": nodes,
        "role": role,
        "flavor_id": flavor,
        "image_id": image,
        "min_node_count": least,
        "max_node_count": most,
        "node_labels": named_values(node_label) or None,
        "node_taints": taint or None,
        "labels": named_values(label) or None,
        "merge_labels": merge_labels or None,
    }
    body = {field: value for field, value in wanted.items() if value is not None}
    service = container_infra(choose(os_cloud))
    made = service.call("POST", f"{path_of(cluster)}/nodegroups", body)
    _end(service, made, f"{group} of {cluster}", wait_timeout if wait else None, output)


@commands.command(
    "set",
    help=teach(
        "Change a group's bounds, and the labels and taints of its nodes.\n\n"
        "How many nodes it has is changed by `moorage group resize`; its size, role and name stay.",
        "moorage group set fleet gpu --min 1 --max 8",
        "moorage group set fleet gpu --node-label disk=ssd --no-node-label slow --no-taints --wait",
    ),
)
def set_(
    cluster: Annotated[str, NAME],
    group: Annotated[str, GROUP],
    least: Least = None,
    most: Most = None,
    no_max: Annotated[bool, typer.Option("--no-max", help="No upper bound any more.")] = False,
    node_label: NodeLabels = None,
    no_node_label: Annotated[
        list[str] | None, typer.Option(help="The KEY of a label to take off; may be repeated.")
    ] = None,
    taint: Taints = None,
    no_taints: Annotated[
        bool, typer.Option("--no-taints", help="Take all taints off; --taint replaces them all.")
    ] = False,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    _refuse_both("--max", most is not None, "--no-max", no_max)
    _refuse_both("--taint", bool(taint), "--no-taints", no_taints)
    plain = {"min_node_count": least, "max_node_count": most, "node_taints": taint or None}
    gone = {"max_node_count": no_max, "node_taints": no_taints}
    patch = [
        *(_set(name, value) for name, value in plain.items() if value is not None),
        *(_remove(name) for name, is_gone in gone.items() if is_gone),
        *(_set(f"node_labels/{_escaped(k)}", v) for k, v in named_values(node_label).items()),
        *(_remove(f"node_labels/{_escaped(key)}") for key in no_node_label or ()),
    ]
    if not patch:
        raise Failure(
            f"nothing is said to be set of the group {group}",
            code=Code.USAGE,
            mend="say --min, --max, --node-label or --taint: moorage group set --help",
        )
    service = container_infra(choose(os_cloud))
    changed = service.call("PATCH", _path(cluster, group), patch)
    _end(service, changed, f"{group} of {cluster}", wait_timeout if wait else None, output)


@commands.command(
    help=teach(
        "Change how many nodes a group has, also to none.\n\n"
        "Of fewer nodes the youngest go, unless --remove says which ones.",
        "moorage group resize fleet gpu 5 --wait",
        "moorage group resize fleet gpu 2 --remove gpu-0 --remove 10.128.0.7",
        "moorage group resize fleet default-worker 0",
    )
)
def resize(
    cluster: Annotated[str, NAME],
    group: Annotated[str, GROUP],
    count: Annotated[int, typer.Argument(help="How many nodes it is to have.", min=0)],
    remove: Annotated[
        list[str] | None,
        typer.Option(help="A node that has to go: its name or address; may be repeated."),
    ] = None,
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    output: OutputAs = Output.TABLE,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    body = {"node_count": count, "nodes_to_remove": remove or [], "nodegroup": group}
    uuid = service.call("POST", f"{path_of(cluster)}/actions/resize", body)["uuid"]
    sized = {"cluster_id": uuid, "uuid": group}
    _end(service, sized, f"{group} of {cluster}", wait_timeout if wait else None, output)


@commands.command(
    help=teach(
        "Delete groups and their nodes; the default ones go with their cluster only.",
        "moorage group delete fleet gpu --wait",
    )
)
def delete(
    cluster: Annotated[str, NAME],
    groups: Annotated[list[str], GROUP],
    wait: Wait = False,
    wait_timeout: WaitSeconds = 3600,
    os_cloud: OsCloud = None,
) -> None:
    service = container_infra(choose(os_cloud))
    owner = service.call("GET", path_of(cluster))["uuid"]
    uuids = [service.call("GET", _path(owner, group))["uuid"] for group in groups]
    for uuid in uuids:
        service.call("DELETE", _path(owner, uuid))
    if wait:
        title = f"cluster {cluster}, without {', '.join(groups)}"
        settle(service, owner, title, wait_timeout, Progress())
    else:
        say(f"On its way: {' '.join(groups)}")


def _path(cluster: str, group: str) -> str:
    return f"{path_of(cluster)}/nodegroups/{segment(group, 'a group')}"


def _refuse_both(one: str, said: bool, other: str, also_said: bool) -> None:
    if said and also_said:
        raise Failure(f"{one} and {other} contradict each other: say one", code=Code.USAGE)


def _set(path: str, value: object) -> dict[str, object]:
    """An operation of a JSON patch (RFC 6902), as Magnum has it: also of what was not set."""
    return {"op": "replace", "path": f"/{path}", "value": value}


def _remove(path: str) -> dict[str, object]:
    return {"op": "remove", "path": f"/{path}"}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _end(
    service: Service, group: Mapping[str, Any], title: str, seconds: float | None, output: Output
) -> None:
    """Wait if asked to, and show the group as it is then."""
    cluster = group["cluster_id"]
    if seconds is not None:
        settle(service, cluster, f"node group {title}", seconds, Progress())
    _show(service.call("GET", _path(cluster, group["uuid"])), output)


def _show(group: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE and (taints := group.get("node_taints")):
        group = {**group, "node_taints": [_taint(taint) for taint in taints]}
    show_object(group, output)


def _taint(taint: Mapping[str, str]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"
