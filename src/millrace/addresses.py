"""Which network addresses a server may reach on behalf of others. Pure; knows no sockets.

Sources: the IANA special-purpose address registries for IPv4 (RFC 6890 and later) and IPv6, and the
metadata addresses that clouds document. An IPv6 address that carries an IPv4 one (mapped, 6to4,
NAT64, ISATAP) counts as both.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_SPECIAL_4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address shared by a carrier (CGNAT)"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "an address for protocol assignments"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.31.196.0/24", "an address of AS112"),
        ("192.52.193.0/24", "an address of AMT"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "an address of AS112"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_SPECIAL_6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::1/128", "a loopback address"),
        ("::/128", "the unspecified address"),
        ("64:ff9b:1::/48", "a local translation address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "an address for protocol assignments"),
        ("2001:db8::/32", "an address for documentation"),
        ("2620:4f:8000::/48", "an address of AS112"),
        ("3fff::/20", "an address for documentation"),
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_COMPATIBLE = IPv6Network("::/96")

# Answering these hands out the machine's credentials, so no setting opens them: AWS, Azure, GCP and
# others; ECS tasks; EKS pods; Alibaba; Oracle; Azure's wire server (which looks public); AWS over IPv6.
_METADATA: frozenset[Address] = frozenset(
    (
        *map(
            IPv4Address,
            (
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "100.100.100.200",
                "192.0.0.192",
                "168.63.129.16",
            ),
        ),
        *map(IPv6Address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")),
    )
)
_NEVER: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(IPv4Network, ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"))
) + tuple(map(IPv6Network, ("::/128", "ff00::/8")))


def refusal(address: Address, allow_private: bool = False) -> str | None:
    """Return why ``address`` may not be reached (``a loopback address``), or None where it may.

    With ``allow_private`` only what is no host at all (unspecified, multicast, reserved) and cloud
    metadata are refused.
    """
    for one in (address, *_embedded(address)):
        if one in _METADATA:
            return "the metadata service of a cloud"
        if allow_private:
            if any(one.version == network.version and one in network for network in _NEVER):
                return "no address of a host"
            continue
        reason = _special(one)
        if reason is not None:
            return f"{reason}, not a public one"
    return None


def _special(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((what for network, what in _SPECIAL_4 if address in network), None)
    if address.ipv4_mapped is not None or address in _NAT64:
        return None  # judged by the address inside
    named = next((what for network, what in _SPECIAL_6 if address in network), None)
    if named is None and address not in _GLOBAL_6:
        return "a reserved address"
    return named


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that packets to an IPv6 address may be handed on to."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in _NAT64:
        return [low]
    if address in _SIX_TO_FOUR:
        return [IPv4Address((number >> 80) & 0xFFFFFFFF)]
    # Compatible (RFC 4291, 2.5.5.1), translated (RFC 6145) and ISATAP (RFC 5214) forms.
    if address in _COMPATIBLE and number > 1:
        return [low]
    if (number >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE) or number >> 32 == 0xFFFF0000:
        return [low]
    return []
