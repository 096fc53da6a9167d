"""The report of a batch as one HTML page that needs nothing else: styles and pictures are inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

PLOT = "plot.png"
"""The name among an item's artifacts of the picture of its analysis."""

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2733;margin:2rem auto;max-width:70rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem} h2{font-size:1.1rem;margin:2.2rem 0 .4rem}
table{border-collapse:collapse;width:100%;margin:.6rem 0} th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #d5dbe3;vertical-align:top} th{font-weight:600}
.n{font-variant-numeric:tabular-nums;
text-align:right} table.narrow{width:auto}
code{font-size:.92em;overflow-wrap:anywhere} img{max-width:100%;border:1px solid #d5dbe3}
.tag{display:inline-block;padding:.05rem .5rem;border-radius:1rem;background:#eef1f5}
.in_sync{background:#d8f3dc}.offset,.drift,.cuts{background:#fff1c9}.no_match,.failed{background:#ffd9d6}
.muted{color:#5b6776} @media print{h2{break-after:avoid} img{break-inside:avoid}}
"""


def html(results: Mapping[str, Any], plots: Mapping[str, bytes], description: str = "") -> str:
    """Return the page for a results answer; ``plots`` holds the PNG of each item that has one."""
    title = f"Sync report {results['batch_id']}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(description or title)}</h1><p class=muted>{escape(results['batch_id'])} · "
        f"{escape(results['status'])} · {escape(results['timestamp'])}</p>",
        _summary(results["summary"]),
        _overview(results["results"]),
        *(_item(item, plots.get(item["item_id"])) for item in results["results"]),
        "<p class=muted>An offset is by how much the dub has to be moved: negative where it is late, "
        "positive where it is early.</p></html>",
    ]
    return "\n".join(parts)


def _summary(summary: Mapping[str, Any]) -> str:
    return (
        f"<p>{summary['items_completed']} of {summary['items_total']} compared, "
        f"{summary['items_failed']} failed; mean confidence {summary['average_confidence']:.3f}; "
        f"{summary['processing_time_seconds']:.1f} s.</p>"
    )


def _overview(items: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><a href='#{item['item_id']}'>{item['item_id']}</a><td>{_tag(item)}"
        f"<td class=n>{_offset(item)}<td class=n>{_confidence(item)}"
        f"<td><code>{escape(item['dub_file'])}</code>"
        for item in items
    )
    return f"<table><tr><th>item<th>status<th class=n>offset<th class=n>confidence<th>dub</tr>{rows}</table>"


def _item(item: Mapping[str, Any], plot: bytes | None) -> str:
    result = item.get("result")
    parts = [
        f"<h2 id='{item['item_id']}'>{item['item_id']} {_tag(item)}</h2>"
        f"<p>master <code>{escape(item['master_file'])}</code><br>dub <code>{escape(item['dub_file'])}</code>"
        f"{'<br>' + escape(item['description']) if item.get('description') else ''}</p>"
    ]
    if item.get("error"):
        parts.append(f"<p>{escape(item['error'])}</p>")
    if result:
        parts += [_figures(result), _segments(result), _methods(result)]
    if plot is not None:
        data = base64.b64encode(plot).decode()
        parts.append(
            f"<img alt='correlation peak, and offset along the master' src='data:image/png;base64,{data}'>"
        )
    return "\n".join(parts)


def _figures(result: Mapping[str, Any]) -> str:
    if result["offset_seconds"] is None:
        return "<p>No place was found where the dub fits the master.</p>"
    rates = "".join(
        f"<tr><th>{rate} fps<td class=n>{found['frames']} frames<td>{found['timecode']}"
        for rate, found in result["offset_frames"].items()
    )
    drift = result["drift"]
    cause = f", likely {escape(drift['cause'])}" if drift["cause"] else ""
    notes = "".join(f"<p class=muted>{escape(note)}</p>" for note in result["notes"])
    return (
        f"<p>Offset <b>{result['offset_seconds']:+.6f} s</b> ({result['offset_ms']:+.3f} ms), drift "
        f"{drift['ppm']:+.2f} ppm ({drift['total_seconds']:+.4f} s in all{cause}); "
        f"{escape(result['method_used'])}, "
        f"confidence {result['confidence']:.3f}.</p>{notes}<table class=narrow>{rates}</table>"
    )


def _segments(result: Mapping[str, Any]) -> str:
    if len(result["segments"]) < 2:
        return ""
    rows = "".join(
        f"<tr><td class=n>{s['start']:.3f}<td class=n>{s['end']:.3f}<td class=n>{s['offset_seconds']:+.6f}"
        f"<td class=n>{s['dub_start']:.3f}<td class=n>{s['dub_end']:.3f}"
        for s in result["segments"]
    )
    head = _heads("master from, s", "to, s", "offset, s", "dub from, s", "to, s")
    return f"<table><tr>{head}</tr>{rows}</table>"


def _methods(result: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(m['label'])}<td>{m['status']}<td class=n>"
        f"{'' if m['offset_seconds'] is None else format(m['offset_seconds'], '+.6f')}"
        f"<td class=n>{m['confidence']:.3f}<td class=n>{m['z_score']:.1f}<td class=n>{m['similarity']:.3f}"
        for m in result["methods"]
    )
    return (
        "<table><tr><th>method<th>status"
        f"{_heads('offset, s', 'confidence', 'peak, deviations', 'similarity')}</tr>{rows}</table>"
    )


def _heads(*names: str) -> str:
    return "".join(f"<th class=n>{name}" for name in names)


def _tag(item: Mapping[str, Any]) -> str:
    word = (item.get("result") or {}).get("status") or item["status"]
    return f"<span class='tag {word}'>{escape(word.replace('_', ' '))}</span>"


def _offset(item: Mapping[str, Any]) -> str:
    offset = (item.get("result") or {}).get("offset_seconds")
    return "" if offset is None else f"{offset:+.4f} s"


def _confidence(item: Mapping[str, Any]) -> str:
    result = item.get("result")
    return f"{result['confidence']:.3f}" if result else ""
