"""What this server speaks: the standard schemas, and the capabilities that the storage really has (RFC 7643 §5)."""

from __future__ import annotations

from typing import Any

from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    ETag,
    Filter,
    Patch,
    Resource,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
)
from scim2_server.service import ScimService
from scim2_server.utils import load_default_resource_types, load_default_schemas

MOST_RESULTS = 200  # on one page; a client asks for the next
MOST_BYTES = 1_000_000  # of a request; a group of ten thousand members needs about that
USER, GROUP = "User", "Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

PROVIDER = ScimProvider.from_discovery(
    load_default_schemas().values(),
    load_default_resource_types().values(),
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


def model_of(name: str) -> type[Resource[Any]]:
    """The model of a resource type by name, its extensions included."""
    return SERVICE.get_model(SERVICE.get_resource_type(name))


Users, Groups = model_of(USER), model_of(GROUP)
EnterpriseUser: Any = Users.get_extension_models()[ENTERPRISE]
