"""One ingress rule of a security group: protocol, ports and where from, checked before anybody believes it.

A rule is named by what EC2 itself compares: two of the same cannot stand in one group. Shapes of ids: the EC2 API
reference. How wide a source may be is the connection's to say (`widest_ipv4` and `widest_ipv6`, prefix lengths).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from apps.connectors.errors import Refused

PROTOCOLS = ("tcp", "udp")
WIDEST = {4: 16, 6: 48}  # prefix lengths; a network this wide is a company's, a wider one is everybody's
ADMIN_PORTS = {
    22: "SSH",
    1433: "SQL Server",
    1521: "Oracle",
    2375: "Docker",
    3306: "MySQL",
    3389: "Remote Desktop",
    5432: "PostgreSQL",
    5985: "WinRM",
    5986: "WinRM",
    6379: "Redis",
    6443: "Kubernetes",
    9200: "OpenSearch",
    27017: "MongoDB",
}

_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}", re.ASCII)
_GROUP_ID = re.compile(r"sg-(?:[0-9a-f]{8}|[0-9a-f]{17})")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of one security group. `source` is a network ("10.1.0.0/24") or a security group of the same account."""

    account_id: str
    region: str
    group_id: str
    protocol: str
    from_port: int
    to_port: int
    source: str

    @property
    def key(self) -> str:
        """The one object in AWS that this is, whoever it was opened for."""
        ports = f"{self.from_port}-{self.to_port}"
        return f"aws:ingress:{self.account_id}:{self.region}:{self.group_id}:{self.protocol}:{ports}:{self.source}"

    @property
    def ports(self) -> str:
        ports = str(self.from_port) if self.from_port == self.to_port else f"{self.from_port}-{self.to_port}"
        return f"{self.protocol} {ports}"

    @property
    def services(self) -> tuple[str, ...]:
        """What people log in to over these ports, by the usual numbers."""
        found = (name for port, name in ADMIN_PORTS.items() if self.from_port <= port <= self.to_port)
        return tuple(dict.fromkeys(found))

    def __str__(self) -> str:
        return f"{self.ports} from {self.source} into {self.group_id} in {self.region}"

    def permission(self) -> dict[str, Any]:
        """How EC2's calls name it. Without a description: what is taken away must match what was written."""
        source: dict[str, Any]
        if self.source.startswith("sg-"):
            source = {"UserIdGroupPairs": [{"GroupId": self.source}]}
        elif ":" in self.source:
            source = {"Ipv6Ranges": [{"CidrIpv6": self.source}]}
        else:
            source = {"IpRanges": [{"CidrIp": self.source}]}
        return {"IpProtocol": self.protocol, "FromPort": self.from_port, "ToPort": self.to_port, **source}

    def is_the_same_as(self, found: Mapping[str, Any]) -> bool:
        """Whether EC2 shows exactly this rule."""
        return (
            not found.get("IsEgress")
            and found.get("IpProtocol") == self.protocol
            and (found.get("FromPort"), found.get("ToPort")) == (self.from_port, self.to_port)
            and _source_of(found) == self.source
        )

    def is_within(self, found: Mapping[str, Any]) -> bool:
        """Whether a rule that EC2 shows lets in everything that this one does, and so keeps it open."""
        if found.get("IsEgress") or found.get("IpProtocol") not in (self.protocol, "-1"):
            return False
        covers = found.get("IpProtocol") == "-1" or (
            found.get("FromPort", 0) <= self.from_port and self.to_port <= found.get("ToPort", 65535)
        )
        theirs = _source_of(found)
        if self.source.startswith("sg-") or theirs.startswith("sg-"):
            return covers and theirs == self.source
        return covers and _covers(theirs, self.source)


def rule_of(account_id: str, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Rule:
    """The rule that these facts (region, group_id, protocol, from_port, to_port, source) name. Raises `Refused` for
    anything that is not one, or that would let in more than a network of our own."""
    region, group_id, protocol, source = (
        str(facts.get(name) or "") for name in ("region", "group_id", "protocol", "source")
    )
    for pattern, word, what in (
        (_ACCOUNT_ID, account_id, "an AWS account id"),
        (_REGION, region, "an AWS Region, like eu-central-1"),
        (_GROUP_ID, group_id, "the id of a security group, like sg-0123456789abcdef0"),
    ):
        if not pattern.fullmatch(word):
            raise Refused(f"“{word[:60]}” is not {what}.")
    if protocol not in PROTOCOLS:
        raise Refused(f"“{protocol[:20]}” is no protocol that can be opened. Choose tcp or udp.")
    from_port, to_port = (_port(facts.get(name)) for name in ("from_port", "to_port"))
    if from_port > to_port:
        raise Refused(f"The ports run backwards: {from_port} to {to_port}.")
    plain = source if _GROUP_ID.fullmatch(source) else _network(source, config)
    if plain == group_id:
        raise Refused("The source is the security group itself. Name where the connections come from.")
    return Rule(account_id, region, group_id, protocol, from_port, to_port, plain)


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise Refused(f"“{str(value)[:20]}” is no port. Ports run from 1 to 65535.")
    return value


def _network(text: str, config: Mapping[str, Any]) -> str:
    network: IPv4Network | IPv6Network
    try:
        network = ip_network(text, strict=True)
    except ValueError:
        raise Refused(
            f"“{text[:60]}” is no source. Write a network like 10.1.0.0/24 (its first address), or a security group's id."
        ) from None
    widest = int(config.get(f"widest_ipv{network.version}", WIDEST[network.version]))
    if network.prefixlen < max(widest, 1):
        raise Refused(f"{network} lets too many in: a source may be /{widest} or narrower. Name a smaller network.")
    return str(network)


def _source_of(found: Mapping[str, Any]) -> str:
    """Where a rule lets in from, in our spelling; nothing for a kind of source that we never write."""
    if group := (found.get("ReferencedGroupInfo") or {}).get("GroupId"):
        return str(group)
    text = found.get("CidrIpv4") or found.get("CidrIpv6") or ""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return ""


def _covers(wide: str, narrow: str) -> bool:
    if not wide:
        return False
    theirs, ours = ip_network(wide), ip_network(narrow)
    if isinstance(theirs, IPv4Network):
        return isinstance(ours, IPv4Network) and ours.subnet_of(theirs)
    return isinstance(ours, IPv6Network) and ours.subnet_of(theirs)
