"""What a person can do about an item that failed, by the code of its error. A face may know better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ADVICE: Mapping[str, str] = {
    "bad_input": "The file is at fault: retrying it as it is will not help. Replace it and submit it again.",
    "input_missing": "Put the file where it was when the job was submitted, then retry.",
    "input_refused": "Give the file to a folder below a media root, readable by the server, then retry.",
    "not_found": "Check the path as the server sees it, then retry.",
    "not_a_file": "Only regular files can be worked on.",
    "too_large": "Raise the limit named in the message, or submit a smaller file.",
    "password_protected": "Remove the password and submit the file again.",
    "unreadable": "The file is damaged, or not what its name says. Replace it and submit it again.",
    "unsupported_format": "Convert the file to a format that is supported and submit it again.",
    "unsupported_type": "Convert the file to a format that is supported and submit it again.",
    "fetch_failed": "Check that the address answers from the server's network, then retry.",
    "fetch_refused": "The address is not allowed: see fetch.allow_private and fetch.ports in the settings.",
    "fetch_timeout": "The other side was too slow: retry later, or raise fetch.deadline.",
    "fetch_too_large": "What the address answers is larger than fetch.max_bytes.",
    "timeout": "It took longer than its stage may: raise the workload's timeout, or submit a smaller file.",
    "out_of_memory": "It needed more memory than its stage may use: raise the limit or submit less.",
    "poison": "It killed its worker again and again. Look at the file; the server's log says how it ended.",
    "worker_lost": "Its worker was killed from outside. Retry; if it repeats, look for a lack of memory.",
    "interrupted": "The server was stopped while it worked on this. Retry.",
    "transient": "Something outside was not there for a moment. Retry.",
    "busy": "The file was in use. Retry when nobody writes to it.",
    "unavailable": "A part that is needed was not working. Check System, then retry.",
    "engine_error": "The engine behind this stage failed. System says what is missing; then retry.",
    "model_missing": "Fetch the model with `millrace models pull`, then retry.",
    "model_unavailable": "Fetch the model with `millrace models pull`, or choose another method.",
    "internal_error": "This is a fault of the program: the server's log tells more under this job's id.",
    "read_only": "Let the server write to the file's folder, then retry.",
    "write_failed": "Make room on the disk or let the server write there, then retry.",
    "outside_roots": "The path leads outside the media roots: declare its folder with --media-root.",
    "cancelled": "It was cancelled. Retry to run it after all.",
}


def advice(error: Mapping[str, Any] | None, own: Mapping[str, str] = _ADVICE) -> str:
    """Return what to do about an item's error; empty where there is none."""
    if not error:
        return ""
    code = str(error.get("code", ""))
    return own.get(code) or _ADVICE.get(code) or "See what the message says; retry once that is mended."
