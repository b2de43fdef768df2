"""Cluster templates: who may do what with them."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Conflict, Forbidden, Invalid
from moorage.model.node import Role
from moorage.model.page import Page
from moorage.model.quota import UNLIMITED
from moorage.model.template import ClusterTemplate
from moorage.services import options, patching, rules, sizes
from moorage.services.access import listing, reach, require
from moorage.services.catalogue import Catalogue
from moorage.services.offers import Shelf
from moorage.services.requests import NewTemplate, PatchOp
from moorage.store import Store


class TemplateService:
    """All methods raise Forbidden for want of a role, and NotFound for what a caller can't see.

    `ident` is a uuid or a name (Conflict where a name fits several). An admin reaches
    every project's templates by uuid. A project has `most` of them.
    """

    def __init__(self, store: Store, catalogue: Catalogue, most: int = UNLIMITED) -> None:
        self._store = store
        self._catalogue = catalogue
        self._most = most

    async def create(self, caller: Caller, new: NewTemplate) -> ClusterTemplate:
        """Raises Invalid, QuotaExceeded. `public` and `hidden` are a publisher's to set."""
        require(caller, Permission.MEMBER)
        if new.public or new.hidden:
            _require_publisher(caller)
        labels = rules.labels(new.labels)
        shelf = await self._catalogue.shelf(self._catalogue.provider_for(labels))
        template = ClusterTemplate(
            uuid=str(uuid.uuid4()),
            project_id=caller.project_id,
            user_id=caller.user_id,
            name=rules.template_name(new.name),
            coe=new.coe,
            flavor_id=new.flavor_id or "",
            master_flavor_id=new.master_flavor_id or "",
            labels=labels,
            options=options.checked(new.options, options.TEMPLATE_OPTIONS),
            public=new.public,
            hidden=new.hidden,
        )
        template = _filled(template, self._catalogue, shelf)
        _refuse_not_offered(template, self._catalogue, shelf)
        return await self._store.templates.add(template, self._most)

    async def get(self, caller: Caller, ident: str) -> ClusterTemplate:
        require(caller, Permission.READER)
        return await self._store.templates.get(ident, reach(caller, ident))

    async def list(
        self, caller: Caller, page: Page, *, all_projects: bool = False
    ) -> list[ClusterTemplate]:
        """The caller's project's and the public ones; `all_projects` is for admins."""
        require(caller, Permission.READER)
        return await self._store.templates.list(listing(caller, all_projects=all_projects), page)

    async def update(self, caller: Caller, ident: str, patch: Sequence[PatchOp]) -> ClusterTemplate:
        """All operations, or none. Raises Invalid (`field` is the attribute).

        While a cluster uses it only name, public, hidden and tags change: else Conflict.
        """
        template = await self._own(caller, ident)
        # The patched labels may choose another provider: its offers are looked at.
        provider = self._catalogue.provider_for(_patched(template, patch).labels)
        shelf = await self._catalogue.shelf(provider)

        def edit(before: ClusterTemplate, in_use: bool) -> ClusterTemplate:
            after = _filled(_patched(before, patch), self._catalogue, shelf)
            if (after.public, after.hidden) != (before.public, before.hidden):
                _require_publisher(caller)
            if _lasting(after) == _lasting(before):
                return after
            if in_use:
                raise Conflict(
                    f"Cluster template {before.uuid} is in use: "
                    "only its name, public, hidden and tags can change."
                )
            _refuse_not_offered(after, self._catalogue, shelf)
            return after

        return await self._store.templates.change(template.uuid, edit)

    async def delete(self, caller: Caller, ident: str) -> ClusterTemplate:
        """The one that is gone. Raises Conflict while a cluster uses it."""
        template = await self._own(caller, ident)
        await self._store.templates.remove(template.uuid)
        return template

    async def _own(self, caller: Caller, ident: str) -> ClusterTemplate:
        """The template, if the caller may write it: public ones are seen by all."""
        require(caller, Permission.MEMBER)
        template = await self._store.templates.get(ident, reach(caller, ident))
        if template.project_id != caller.project_id and caller.permission < Permission.ADMIN:
            raise Forbidden(f"Cluster template {ident} belongs to another project.")
        return template


def _refuse_not_offered(template: ClusterTemplate, catalogue: Catalogue, shelf: Shelf) -> None:
    """Raises Invalid where this install doesn't have all that the template names."""
    catalogue.check(template.coe, template.labels, shelf.provider)
    for role, name in (
        (Role.WORKER, template.flavor_id),
        (Role.MASTER, template.master_flavor_id),
    ):
        least = catalogue.least(template.coe, role, template.labels)
        flavor = shelf.flavor(name, sizes.FIELDS[role])
        sizes.refuse_small(template.coe, role, least, flavor, shelf)
    shelf.check(template.options)
    options.refuse_unknown_network(template.coe, template.options)


def _filled(template: ClusterTemplate, catalogue: Catalogue, shelf: Shelf) -> ClusterTemplate:
    """With a flavor where none is named: masters' is the workers', if that is large enough."""
    worker, master = (
        catalogue.least(template.coe, role, template.labels) for role in (Role.WORKER, Role.MASTER)
    )
    flavor = template.flavor_id or shelf.default_flavor(worker)
    known = shelf.flavors().get(flavor)
    small = known is not None and not master.fits(known)
    masters = template.master_flavor_id or (shelf.default_flavor(master) if small else flavor)
    return dataclasses.replace(template, flavor_id=flavor, master_flavor_id=masters)


def _patched(template: ClusterTemplate, operations: Sequence[PatchOp]) -> ClusterTemplate:
    """A flavor that is removed is empty."""
    patching.refuse_too_many(len(operations))
    for operation in operations:
        attribute, key = patching.target(operation)
        value = None if operation.op == "remove" else operation.value
        match attribute, key:
            case "labels", str():
                template = _with_label(template, key, operation)
            case _, str():
                raise Invalid(f"The attribute {attribute} has no parts.", field=attribute)
            case "labels", None:
                template = dataclasses.replace(template, labels=rules.labels(value))
            case "name", None:
                template = dataclasses.replace(template, name=rules.template_name(value))
            case "coe", None:
                template = dataclasses.replace(template, coe=rules.text(value, "coe"))
            case "flavor_id", None:
                template = dataclasses.replace(template, flavor_id=_flavor(value, attribute))
            case "master_flavor_id", None:
                flavor = _flavor(value, attribute)
                template = dataclasses.replace(template, master_flavor_id=flavor)
            case "public", None:
                template = dataclasses.replace(template, public=_flag(value, "public"))
            case "hidden", None:
                template = dataclasses.replace(template, hidden=_flag(value, "hidden"))
            case _:
                template = _with_option(template, attribute, value)
    return template


def _flavor(value: object, field: str) -> str:
    if value == "":
        raise Invalid(f"{field} must name a flavor; without one, there is a default.", field=field)
    return "" if value is None else rules.text(value, field)


def _flag(value: object, field: str) -> bool:
    return value is not None and rules.boolean(value, field)


def _require_publisher(caller: Caller) -> None:
    if not caller.may_publish:
        raise Forbidden(
            "Making a cluster template public or hidden needs the role publisher or admin."
        )


def _lasting(template: ClusterTemplate) -> ClusterTemplate:
    """What must stay as it is while clusters are made from it."""
    others = {name: value for name, value in template.options.items() if name != "tags"}
    return dataclasses.replace(template, name=None, public=False, hidden=False, options=others)


def _with_label(template: ClusterTemplate, key: str, operation: PatchOp) -> ClusterTemplate:
    changed = dict(template.labels)
    if operation.op != "remove":
        changed[key] = rules.label_value(operation.value)
    elif changed.pop(key, None) is None:
        raise Invalid(f"There is no label {rules.shown(key)} to remove.", field="labels")
    return dataclasses.replace(template, labels=rules.labels(changed))


def _with_option(template: ClusterTemplate, name: str, value: object) -> ClusterTemplate:
    changed = dict(template.options)
    changed.pop(name, None)
    kept = options.checked({**changed, name: value}, options.TEMPLATE_OPTIONS)
    if value is None and name not in options.TEMPLATE_OPTIONS:
        raise Invalid(f"There is no attribute {rules.shown(name)}.", field=name)
    return dataclasses.replace(template, options=kept)
