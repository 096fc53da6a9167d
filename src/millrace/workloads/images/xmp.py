"""Merges title, description and keywords into XMP packets, and splits packets that are too large.

Sources: XMP specification parts 1 and 3 (ISO 16684-1). Packets come from strangers: no entity, no
document type and no network is ever followed while reading one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from lxml import etree

from millrace.workloads.images.tags import Tags

_X = "adobe:ns:meta/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_XML = "http://www.w3.org/XML/1998/namespace"
_OWN = tuple(f"{{{_DC}}}{name}" for name in ("title", "description", "subject"))
_HAS_EXTENDED = f"{{{_NOTE}}}HasExtendedXMP"
_DESCRIPTION = f"{{{_RDF}}}Description"
_ABOUT = f"{{{_RDF}}}about"
_BEGIN = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = b'\n<?xpacket end="w"?>'
_DECLARATIONS = (b"<!DOCTYPE", b"<!ENTITY")
# The first bytes of XML in another encoding than UTF-8 (XML 1.0, appendix F), the longer ones first.
_STARTS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
MAX_PACKET = 16 * 2**20


class BadXmp(ValueError):
    """The packet cannot be read as XMP."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet ready to be stored: the standard part, and the extended one where it is needed.

    ``extended`` is None when no extended part belongs to the standard one; ``guid`` is the
    32-character MD5 by which the standard part names it.
    """

    standard: bytes
    extended: bytes | None = None
    guid: str = ""


def parse(packet: bytes) -> etree._Element:
    """Return the ``rdf:RDF`` element of a packet. Raises BadXmp."""
    if len(packet) > MAX_PACKET:
        raise BadXmp(f"the XMP packet has {len(packet)} bytes, the limit is {MAX_PACKET}")
    body = _utf8(packet)
    if any(declaration in body for declaration in _DECLARATIONS):
        raise BadXmp("the XMP packet declares a document type or entities; XMP has none")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadXmp(f"the XMP packet is not well-formed XML: {error}") from error
    rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f".//{{{_RDF}}}RDF")
    if rdf is None:
        raise BadXmp("the XMP packet holds no rdf:RDF element")
    return rdf


def _utf8(packet: bytes) -> bytes:
    """Return a packet as UTF-8, without blanks around it and without an XML declaration."""
    for start, encoding in _STARTS:
        if packet.startswith(start):
            packet = packet.decode(encoding, "replace").encode("utf-8", "replace")
            break
    body = packet.strip(b"\0 \t\r\n")
    return re.sub(rb"^(?:\xef\xbb\xbf)?\s*<\?xml\s[^>]{0,200}\?>", b"", body)


def _new_rdf() -> etree._Element:
    meta = etree.Element(f"{{{_X}}}xmpmeta", nsmap={"x": _X})
    rdf = etree.SubElement(meta, f"{{{_RDF}}}RDF", nsmap={"rdf": _RDF})
    etree.SubElement(rdf, _DESCRIPTION, {_ABOUT: ""}, nsmap={"dc": _DC})
    return rdf


def _serialise(rdf: etree._Element) -> bytes:
    root = rdf.getroottree().getroot()
    if root.tag == f"{{{_RDF}}}RDF":
        meta = etree.Element(f"{{{_X}}}xmpmeta", nsmap={"x": _X})
        meta.append(root)
        root = meta
    text: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=False)
    return text


def _languages(rdf: etree._Element, name: str) -> dict[str, str]:
    """Return language → text of a language alternative (or of a plain value)."""
    tag = f"{{{_DC}}}{name}"
    out: dict[str, str] = {}
    for node in rdf.findall(_DESCRIPTION):
        plain = node.get(tag)
        if plain and plain.strip():
            out.setdefault("x-default", plain.strip())
        for holder in node.findall(tag):
            items = holder.findall(f".//{{{_RDF}}}li")
            if not items and holder.text and holder.text.strip():
                out.setdefault("x-default", holder.text.strip())
            for item in items:
                text = "".join(item.itertext()).strip()
                if text:
                    out.setdefault(item.get(f"{{{_XML}}}lang", "x-default"), text)
    return out


def _subjects(rdf: etree._Element) -> tuple[str, ...]:
    tag = f"{{{_DC}}}subject"
    out: list[str] = []
    for node in rdf.findall(_DESCRIPTION):
        if node.get(tag):
            out.append(str(node.get(tag)).strip())
        for holder in node.findall(tag):
            items = holder.findall(f".//{{{_RDF}}}li")
            texts = ["".join(item.itertext()) for item in items] if items else [holder.text or ""]
            out += [text.strip() for text in texts if text.strip()]
    return tuple(out)


def read(packet: bytes) -> Tags:
    """Return the title, description and keywords a packet holds (its default language). Raises BadXmp."""
    rdf = parse(packet)

    def default(name: str) -> str:
        texts = _languages(rdf, name)
        return texts.get("x-default") or next(iter(texts.values()), "")

    return Tags(default("title"), default("description"), _subjects(rdf))


def _set_languages(node: etree._Element, name: str, texts: dict[str, str]) -> None:
    holder = etree.SubElement(node, f"{{{_DC}}}{name}", nsmap={"dc": _DC})
    alternatives = etree.SubElement(holder, f"{{{_RDF}}}Alt")
    for language, text in texts.items():
        item = etree.SubElement(alternatives, f"{{{_RDF}}}li")
        item.set(f"{{{_XML}}}lang", language)
        item.text = text


def _drop(rdf: etree._Element, tags: tuple[str, ...]) -> None:
    """Take properties of these names out of every description, attributes and elements alike."""
    for node in rdf.findall(_DESCRIPTION):
        for tag in tags:
            node.attrib.pop(tag, None)
            for child in node.findall(tag):
                tail = child.tail
                previous = child.getprevious()
                node.remove(child)
                if tail and tail.strip():
                    if previous is not None:
                        previous.tail = (previous.tail or "") + tail
                    else:
                        node.text = (node.text or "") + tail


def _apply(rdf: etree._Element, tags: Tags) -> None:
    wanted: dict[str, dict[str, str]] = {}
    for index, (name, text) in enumerate((("title", tags.title), ("description", tags.description))):
        if text:
            old = _languages(rdf, name)
            replaced = old.pop("x-default", None)
            others = {lang: value for lang, value in old.items() if value != replaced}
            others |= {lang: pair[index] for lang, pair in tags.translations.items() if pair[index]}
            wanted[name] = {"x-default": text, **others}
    _drop(rdf, tuple(f"{{{_DC}}}{name}" for name in wanted))
    if tags.keywords:
        _drop(rdf, (f"{{{_DC}}}subject",))
    node = rdf.find(_DESCRIPTION)
    if node is None:
        node = etree.SubElement(rdf, _DESCRIPTION, {_ABOUT: ""})
    for name, texts in wanted.items():
        _set_languages(node, name, texts)
    if tags.keywords:
        holder = etree.SubElement(node, f"{{{_DC}}}subject", nsmap={"dc": _DC})
        bag = etree.SubElement(holder, f"{{{_RDF}}}Bag")
        for keyword in tags.keywords:
            etree.SubElement(bag, f"{{{_RDF}}}li").text = keyword


def merge(packet: bytes | None, tags: Tags) -> bytes:
    """Return a packet with the tags set and every other property of ``packet`` kept.

    Other languages of a title or description stay, unless they repeat the replaced default.
    Raises BadXmp when ``packet`` is there but cannot be read.
    """
    rdf = parse(packet) if packet and packet.strip(b"\0 \t\r\n") else _new_rdf()
    _apply(rdf, tags)
    return _BEGIN + _serialise(rdf) + _END


def has_own(packet: bytes) -> bool:
    """Whether a packet holds a title, description or subject."""
    rdf = parse(packet)
    return any(
        tag in node.attrib or node.find(tag) is not None for node in rdf.findall(_DESCRIPTION) for tag in _OWN
    )


def extended_guid(packet: bytes) -> str:
    """Return the GUID of the extended part that a standard packet names, or an empty string."""
    for node in parse(packet).findall(_DESCRIPTION):
        text = node.get(_HAS_EXTENDED)
        child = node.find(_HAS_EXTENDED)
        if text or (child is not None and child.text):
            return (text or str(child.text if child is not None else "")).strip().upper()
    return ""


def merge_split(standard: bytes | None, extended: bytes | None, tags: Tags, limit: int) -> Packet:
    """Merge the tags into a packet stored in two parts, each standard part at most ``limit`` bytes.

    The extended part stays untouched unless it repeats what is written here or the standard part
    overflows; then properties move over, largest first, as ISO 16684-3 (XMP part 3, 1.1.3.1)
    describes. Raises BadXmp, also when nothing more can be moved.
    """
    merged = merge(standard, tags)
    if len(merged) <= limit and (extended is None or not has_own(extended)):
        return Packet(merged, extended, extended_guid(merged) if extended is not None else "")
    main = parse(merged)
    rest = parse(extended) if extended is not None else _new_rdf()
    _drop(main, (_HAS_EXTENDED,))
    _drop(rest, (*(tag for tag in _OWN if _present(main, tag)), _HAS_EXTENDED))
    target = rest.find(_DESCRIPTION)
    if target is None:
        target = etree.SubElement(rest, _DESCRIPTION, {_ABOUT: ""})
    movable = [
        (len(etree.tostring(child)), child)
        for node in main.findall(_DESCRIPTION)
        for child in node
        if isinstance(child.tag, str) and child.tag not in _OWN
    ]
    movable.sort(key=lambda pair: pair[0])
    size = len(_pack(main, "0" * 32))
    while size > limit and movable:
        _, child = movable.pop()
        child.tail = None
        target.append(child)
        size = len(_pack(main, "0" * 32))
    if size > limit:
        raise BadXmp(f"the XMP packet takes {size} bytes, {limit} fit, and nothing in it can be moved")
    if not any(len(node) or len(node.attrib) > 1 for node in rest.findall(_DESCRIPTION)):
        _drop(main, (_HAS_EXTENDED,))
        return Packet(_BEGIN + _serialise(main) + _END)
    body = _serialise(rest)
    guid = hashlib.md5(body, usedforsecurity=False).hexdigest().upper()
    return Packet(_pack(main, guid), body, guid)


def _present(rdf: etree._Element, tag: str) -> bool:
    return any(tag in node.attrib or node.find(tag) is not None for node in rdf.findall(_DESCRIPTION))


def _pack(rdf: etree._Element, guid: str) -> bytes:
    node = rdf.find(_DESCRIPTION)
    if node is not None:
        node.attrib.pop(_HAS_EXTENDED, None)
        node.set(_HAS_EXTENDED, guid)
    return _BEGIN + _serialise(rdf) + _END
