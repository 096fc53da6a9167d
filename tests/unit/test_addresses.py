"""Which addresses may be reached: only public ones, however an address is dressed up."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.addresses import refusal

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "3fff::1",
    "64:ff9b:1::1",
    "100::1",
    "4000::1",
    "5f00::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "192.0.1.1",
    "2606:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]
METADATA = [
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused(text):
    assert refusal(ip_address(text)) is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_reached(text):
    assert refusal(ip_address(text)) is None


@pytest.mark.parametrize("text", METADATA)
def test_metadata_services_stay_closed_even_when_private_addresses_are_allowed(text):
    assert refusal(ip_address(text), allow_private=True) == "the metadata service of a cloud"


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "127.0.0.1", "192.168.0.9", "100.64.0.1", "::1", "fd12::1", "fe80::1"]
)
def test_private_addresses_open_by_a_setting(text):
    assert refusal(ip_address(text), allow_private=True) is None


@pytest.mark.parametrize("text", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_what_is_no_host_never_opens(text):
    assert refusal(ip_address(text), allow_private=True) == "no address of a host"


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_the_same(inner):
    number = int(inner)
    dressed = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
    ]
    for outer in dressed:
        assert (refusal(outer) is None) == (refusal(inner) is None), outer


@given(st.ip_addresses(v=4))
def test_isatap_never_opens_what_is_closed(inner):
    outer = IPv6Address((0x2A00_1450 << 96) | (0x0000_5EFE << 32) | int(inner))
    if refusal(inner) is not None:
        assert refusal(outer) is not None


@given(st.ip_addresses(v=4))
def test_we_are_never_laxer_than_the_standard_library(address):
    if refusal(address) is None:
        assert address.is_global
