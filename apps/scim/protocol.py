"""What this server speaks: the standard schemas, and the capabilities that the storage really has (RFC 7643 §5)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    CaseExact,
    ChangePassword,
    ComplexAttribute,
    ETag,
    Extension,
    Filter,
    Group,
    Mutability,
    Patch,
    Reference,
    Resource,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    User,
)
from scim2_server.service import ScimService

MOST_RESULTS = 200  # on one page; a client asks for the next
MOST_BYTES = 1_000_000  # of a request; a group of ten thousand members needs about that
USER, GROUP = "User", "Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


class Manager(ComplexAttribute):
    """Whose report a user is. RFC 7643 asks for the address too; identity providers send the value alone."""

    value: Annotated[str | None, CaseExact.true] = None
    """The id of the manager's User."""

    ref: Annotated[Reference["User"] | None, Field(serialization_alias="$ref", validation_alias="$ref")] = None  # noqa: UP037  named, not the class
    """The address of the manager's User."""

    display_name: Annotated[str | None, Mutability.read_only] = None
    """The displayName of the manager's User."""


class EnterpriseUser(Extension):
    """The enterprise extension (RFC 7643 §4.3)."""

    __schema__ = URN(ENTERPRISE)

    employee_number: str | None = None
    cost_center: str | None = None
    organization: str | None = None
    division: str | None = None
    department: str | None = None
    manager: Manager | None = None


Users: type[Resource[Any]] = User[EnterpriseUser]
Groups: type[Resource[Any]] = Group

PROVIDER = ScimProvider(
    models=[User, EnterpriseUser, Group],
    resource_types=[ResourceType.from_resource(Users), ResourceType.from_resource(Groups)],
    config=ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MOST_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="A token that an administrator of Gatehouse made for this identity provider.",
            )
        ],
    ),
    # What Microsoft Entra sends beyond the letter of RFC 7644: a value to remove, and a filter that names what to add.
    policy=ScimPolicy(
        remove_value_as_filter=ScimPolicy.RemoveValue.apply,
        unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
    ),
)
SERVICE = ScimService(PROVIDER)
