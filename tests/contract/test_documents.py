"""The documents contract, through a real server."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import NewServer
from tests.live import LiveServer
from tests.unit.documents import samples
from tests.unit.documents.test_opinion import FakeLanguageModel, answer

FORM = "Application\nName: Maria Gomez\nSSN: 531-21-7351\n"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def server(new_module_server: NewServer) -> LiveServer:
    return new_module_server(settings={"documents": {"ocr": "off"}}).start()


def upload(server: LiveServer, *files: tuple[str, bytes], **data: str) -> Any:
    return server.client.post("/batch/upload", files=[("files", file) for file in files], data=data)


def finished(server: LiveServer, job_id: str, timeout: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        status: dict[str, Any] = server.client.get(f"/status/{job_id}").raise_for_status().json()
        if status["status"] in ("completed", "failed", "cancelled"):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def classified(server: LiveServer, name: str, data: bytes, **fields: str) -> dict[str, Any]:
    job = upload(server, (name, data), **fields).raise_for_status().json()["job_id"]
    doc = finished(server, job)["documents"][0]["doc_id"]
    view: dict[str, Any] = server.client.get(f"/documents/{doc}").raise_for_status().json()
    return view


def test_a_batch_from_upload_to_results(server: LiveServer, tmp_path: Path) -> None:
    pdf = samples.pdf(tmp_path / "a.pdf", FORM, "INTERNAL USE ONLY").read_bytes()
    reply = upload(
        server, ("document1.pdf", pdf), ("note.txt", b"A public note"), ("bad.pdf", b"%PDF-1.4 broken")
    )
    assert reply.status_code == 200
    body = reply.json()
    assert uuid.UUID(body.pop("job_id"))
    assert body == {
        "total_files": 3,
        "status": "pending",
        "message": "Batch upload initiated. Successfully queued 3 documents.",
    }
    status = finished(server, reply.json()["job_id"])
    assert list(status) == [
        "job_id",
        "status",
        "total_files",
        "completed",
        "failed",
        "progress",
        "created_at",
        "updated_at",
        "documents",
        "error",
    ]
    assert (status["status"], status["completed"], status["failed"], status["error"]) == (
        "completed",
        2,
        1,
        None,
    )
    assert status["progress"] == 66.7
    assert TIME.fullmatch(status["created_at"])
    first, second, bad = status["documents"]
    assert first == {
        "doc_id": first["doc_id"],
        "filename": "document1.pdf",
        "status": "completed",
        "progress": 100.0,
        "error": None,
    }
    assert second["filename"] == "note.txt"
    assert (bad["status"], bad["progress"]) == ("failed", 0.0)
    assert bad["error"].startswith("broken_file: bad.pdf is a broken PDF")
    view = server.client.get(f"/documents/{first['doc_id']}").json()
    assert view["page_count"] == 2
    assert view["image_count"] == 0
    assert view["legibility"] == 1.0
    result = view["classification"]
    assert result["final_category"] == "Highly Sensitive"
    assert 0.5 < result["confidence"] < 1
    assert result["citations"][0]["page"] == 1
    assert "SSN: •••-••-7351" in result["citations"][0]["snippet"]
    assert result["content_safety"] == {"safe": True, "categories": []}
    assert "page 1" in result["explanation"]
    failed = server.client.get(f"/documents/{bad['doc_id']}").json()
    assert (failed["status"], failed["classification"], failed["page_count"]) == ("failed", None, None)


def test_the_documents_own_python_example_with_only_the_base_url_changed(
    server: LiveServer, tmp_path: Path
) -> None:
    for number, text in enumerate((FORM, "A public note", "STRICTLY CONFIDENTIAL"), 1):
        samples.pdf(tmp_path / f"doc{number}.pdf", text)
    example = """
import requests
import time

# 1. Upload batch
files = [
    ('files', open('doc1.pdf', 'rb')),
    ('files', open('doc2.pdf', 'rb')),
    ('files', open('doc3.pdf', 'rb')),
]
response = requests.post('http://localhost:8000/batch/upload', files=files)
job_id = response.json()['job_id']

# 2. Poll for completion
while True:
    status = requests.get(f'http://localhost:8000/status/{job_id}').json()
    print(f"Progress: {status['progress']:.1f}%")
    
    if status['status'] == 'completed':
        break
    
    time.sleep(2)

# 3. Get results
for doc in status['documents']:
    if doc['status'] == 'completed':
        result = requests.get(f'http://localhost:8000/documents/{doc["doc_id"]}').json()
        print(f"{doc['filename']}: {result['classification']['final_category']}")
"""  # noqa: W293
    pytest.importorskip("requests")
    script = tmp_path / "example.py"
    script.write_text(example.replace("http://localhost:8000", server.url))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", script], cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-4:] == [
        "Progress: 100.0%",
        "doc1.pdf: Highly Sensitive",
        "doc2.pdf: Public",
        "doc3.pdf: Highly Sensitive",
    ]


def test_progress_goes_through_the_documented_stages(new_server: NewServer) -> None:
    fake = FakeLanguageModel()
    fake.answer = answer("Public")
    server = new_server(
        settings={
            "documents": {
                "ocr": "off",
                "llm": {"url": fake.endpoint.url, "model": "slow"},
            },
            "slots": {"cpu": 1},
        }
    ).start()
    try:
        job = upload(server, *((f"{n}.txt", b"plain words\n" * 200) for n in range(12))).json()["job_id"]
        seen: set[float] = set()
        while True:
            status = server.client.get(f"/status/{job}").json()
            rows = [row["progress"] for row in status["documents"]]
            seen |= set(rows)
            assert status["progress"] == round(sum(rows) / 12, 1)
            if status["status"] == "completed":
                break
        assert seen <= {0.0, 10.0, 30.0, 60.0, 90.0, 100.0}
        assert {0.0, 100.0} < seen
    finally:
        fake.close()


def test_files_that_cannot_be_taken_are_named(server: LiveServer) -> None:
    reply = upload(server, ("a.txt", b"fine"), ("b.exe", b"MZ\0\0\0"), ("c.pdf", b""))
    assert reply.json()["total_files"] == 1
    assert reply.json()["message"] == (
        "Batch upload initiated. Successfully queued 1 document. "
        "Failed: b.exe (type not supported), c.pdf (empty)."
    )
    before = server.client.get("/jobs").json()["total"]
    none = upload(server, ("document1.pdf", b""), ("document2.pdf", b"no PDF"))
    assert none.status_code == 400
    assert none.json() == {"detail": "All uploads failed. Files: document1.pdf, document2.pdf"}
    assert server.client.get("/jobs").json()["total"] == before


def test_a_file_that_is_too_large_is_named(new_server: NewServer) -> None:
    server = new_server(settings={"documents": {"max_file_bytes": 1000}}).start()
    reply = upload(server, ("a.txt", b"x" * 1001), ("b.txt", b"y"))
    assert reply.json()["message"].endswith("Failed: a.txt (too large).")


def test_errors_have_the_contracts_shape(server: LiveServer) -> None:
    nobody = uuid.uuid4()
    for method, path, status, said in [
        ("GET", f"/status/{nobody}", 404, "Job not found"),
        ("GET", f"/documents/{nobody}", 404, "Document not found"),
        ("DELETE", f"/documents/{nobody}", 404, "Document not found"),
        ("POST", f"/classify/{nobody}", 404, "Document not found"),
        ("POST", "/batch/upload", 400, "the Content-Type must be multipart/form-data, not none"),
        ("POST", "/hitl", 400, None),
    ]:
        reply = server.client.request(method, path)
        assert reply.status_code == status, path
        assert list(reply.json()) == ["detail"]
        assert said is None or reply.json()["detail"] == said
    assert (
        upload(server, ("a.txt", b"x"), redact="perhaps").json()["detail"]
        == "redact: must be true or false, not 'perhaps'"
    )


def test_a_job_whose_documents_all_failed_has_failed(server: LiveServer) -> None:
    job = upload(server, ("a.pdf", b"%PDF-1.4 broken")).json()["job_id"]
    assert finished(server, job)["status"] == "failed"


def test_the_same_key_and_body_is_the_same_job(server: LiveServer) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    files = [("files", ("a.txt", b"once"))]
    first = server.client.post("/batch/upload", files=files, headers=key).json()["job_id"]
    assert server.client.post("/batch/upload", files=files, headers=key).json()["job_id"] == first
    other = server.client.post("/batch/upload", files=[("files", ("a.txt", b"twice"))], headers=key)
    assert other.status_code == 409
    assert list(other.json()) == ["detail"]


def test_jobs_lists_documents_with_the_contracts_fields(server: LiveServer) -> None:
    job = upload(server, ("a.txt", b"x")).json()["job_id"]
    finished(server, job)
    listed = server.client.get("/jobs", params={"kind": "documents", "limit": 1}).json()
    row = listed["jobs"][0]
    assert (row["job_id"], row["status"], row["total_files"], row["completed"], row["failed"]) == (
        job,
        "completed",
        1,
        1,
        0,
    )
    assert server.client.get("/health").json()["status"] == "ok"


def test_copies_can_be_downloaded(server: LiveServer, tmp_path: Path) -> None:
    pdf = samples.pdf(tmp_path / "a.pdf", FORM).read_bytes()
    view = classified(server, "a.pdf", pdf, redact="true")
    names = {a["name"]: a["url"] for a in view["artifacts"]}
    assert set(names) == {"highlighted.pdf", "findings.json", "redacted.pdf"}
    redacted = server.client.get(names["redacted.pdf"])
    assert redacted.headers["content-type"] == "application/pdf"
    assert redacted.content.startswith(b"%PDF")
    assert b"531-21" not in redacted.content
    findings = json.loads(server.client.get(names["findings.json"]).content)["findings"]
    ssn = next(f for f in findings if f["type"] == "US_SSN")
    assert set(ssn) >= {"rule", "page", "start", "end", "boxes", "snippet", "verdict", "context", "weight"}
    assert len(ssn["boxes"]) == 1
    assert server.client.get(f"/documents/{view['doc_id']}/pages.json").status_code == 404


def test_upload_then_classify(server: LiveServer) -> None:
    read = server.client.post("/upload", files={"file": ("a.txt", FORM.encode())}).json()
    assert (read["status"], read["progress"], read["page_count"], read["classification"]) == (
        "pending",
        30.0,
        1,
        None,
    )
    result = server.client.post(f"/classify/{read['doc_id']}")
    assert result.status_code == 200
    assert result.json()["classification"]["final_category"] == "Highly Sensitive"
    status = server.client.get(f"/status/{read['job_id']}").json()
    assert (status["status"], status["completed"], status["progress"]) == ("completed", 1, 100.0)


def test_classify_again_with_a_redacted_copy(server: LiveServer) -> None:
    view = classified(server, "a.txt", FORM.encode())
    assert "redacted.txt" not in {a["name"] for a in view["artifacts"]}
    again = server.client.post(f"/classify/{view['doc_id']}", json={"redact": True}).json()
    assert "redacted.txt" in {a["name"] for a in again["artifacts"]}
    assert "531" not in server.client.get(f"/documents/{view['doc_id']}/redacted.txt").text
    assert server.client.post(f"/classify/{view['doc_id']}", json={"colour": 1}).status_code == 400


def test_a_ruling_is_in_force_and_kept_with_who_when_and_why(server: LiveServer, tmp_path: Path) -> None:
    doc = classified(server, "a.txt", FORM.encode())["doc_id"]
    wrong = server.client.post("/hitl", json={"doc_id": doc, "category": "Secret", "reviewer": "ana"})
    assert wrong.status_code == 400
    assert "Highly Sensitive" in wrong.json()["detail"]
    server.client.post(
        "/hitl",
        json={"doc_id": doc, "category": "Confidential", "reviewer": "ana", "reason": "a sample form"},
    ).raise_for_status()
    view = server.client.post(
        "/hitl", json={"doc_id": doc, "final_category": "Public", "reviewer": "bo"}
    ).json()
    assert view["classification"]["final_category"] == "Public"
    assert view["classification"]["automatic_category"] == "Highly Sensitive"
    assert view["classification"]["requires_review"] is False
    first, second = view["history"]
    assert (first["reviewer"], first["reason"], first["previous_category"]) == (
        "ana",
        "a sample form",
        "Highly Sensitive",
    )
    assert (second["reviewer"], second["category"], second["previous_category"]) == (
        "bo",
        "Public",
        "Confidential",
    )
    assert TIME.fullmatch(first["decided_at"])
    assert server.client.get("/hitl", params={"doc_id": doc}).json()["total"] == 2


def test_rulings_are_exported_as_labels_that_evaluate_reads(server: LiveServer, tmp_path: Path) -> None:
    doc = classified(server, "form.txt", FORM.encode())["doc_id"]
    server.client.post(
        "/hitl", json={"doc_id": doc, "category": "Highly Sensitive", "reviewer": "ana"}
    ).raise_for_status()
    exported = server.client.get("/hitl/labels")
    row = next(r for r in map(json.loads, exported.text.splitlines()) if r["doc_id"] == doc)
    assert (row["label"], row["predicted"], row["reviewer"]) == (
        "Highly Sensitive",
        "Highly Sensitive",
        "ana",
    )
    assert "Maria" not in json.dumps(row)
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps(row) + "\n")
    run = subprocess.run(
        [sys.executable, "-m", "millrace.cli", "documents", "evaluate", str(labels), "--json"],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["confusion"]["Highly Sensitive"]["Highly Sensitive"] == 1


def test_delete_takes_everything(server: LiveServer) -> None:
    marker = uuid.uuid4().hex
    job = upload(server, ("a.txt", f"{FORM}{marker}".encode()), ("b.txt", b"other")).json()["job_id"]
    first, second = (row["doc_id"] for row in finished(server, job)["documents"])
    marked = f"/documents/{first}/highlighted.pdf"
    assert server.client.get(marked).status_code == 200
    assert server.client.delete(f"/documents/{first}").json()["deleted"] is True
    assert server.client.get(f"/documents/{first}").status_code == 404
    assert server.client.get(marked).status_code == 404
    assert server.client.delete(f"/documents/{first}").status_code == 404
    uploads = [p.read_bytes() for p in (server.data_dir / "blobs" / "uploads").rglob("*") if p.is_file()]
    assert b"other" in uploads
    assert marker.encode() not in b"".join(uploads)
    assert server.client.get(f"/status/{job}").json()["total_files"] == 1
    assert server.client.delete(f"/documents/{second}").status_code == 200
    assert server.client.get(f"/status/{job}").status_code == 404


def test_a_bomb_fails_its_document_and_nobody_else(server: LiveServer, tmp_path: Path) -> None:
    bomb = samples.docx(tmp_path / "bomb.docx", samples.paragraph("x" * 50_000_000)).read_bytes()
    job = upload(server, ("bomb.docx", bomb), ("fine.txt", b"fine")).json()["job_id"]
    status = finished(server, job)
    assert [row["status"] for row in status["documents"]] == ["failed", "completed"]
    assert "zip bomb" in status["documents"][0]["error"]


def test_work_goes_on_after_the_server_was_killed(new_server: NewServer) -> None:
    server = new_server(settings={"documents": {"ocr": "off"}}).start()
    job = upload(server, *((f"{n}.txt", FORM.encode()) for n in range(6))).json()["job_id"]
    server.restart(kill=True)
    status = finished(server, job)
    assert (status["completed"], status["failed"]) == (6, 0)


@pytest.fixture
def fake() -> Iterator[FakeLanguageModel]:
    model = FakeLanguageModel()
    yield model
    model.close()


def test_a_second_reader_is_asked_and_shown(new_server: NewServer, fake: FakeLanguageModel) -> None:
    fake.answer = answer("Confidential", (1, "buy the mill in secret"), (1, "not on the page"))
    server = new_server(
        settings={"documents": {"llm": {"url": fake.endpoint.url, "model": "fake-1"}}}
    ).start()
    view = classified(server, "a.txt", b"we plan to buy the mill in secret next spring")
    assert view["classification"]["final_category"] == "Confidential"
    assert view["classification"]["requires_review"] is True
    opinion = view["classification"]["opinions"][0]
    assert (opinion["model"], opinion["dropped_citations"]) == ("fake-1", 1)


def test_jobs_of_the_canonical_api_are_documents_too(new_server: NewServer, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.txt").write_text(FORM)
    server = new_server(settings={"documents": {"ocr": "off"}}, media_roots=[media]).start()
    job = (
        server.client.post(
            "/jobs",
            json={
                "kind": "documents",
                "items": [{"name": "a.txt", "input": {"kind": "path", "path": str(media / "a.txt")}}],
            },
        )
        .raise_for_status()
        .json()
    )
    row = finished(server, job["job_id"])["documents"][0]
    view = server.client.get(f"/documents/{row['doc_id']}").json()
    assert view["classification"]["final_category"] == "Highly Sensitive"
    assert (
        server.client.post("/jobs", json={"kind": "documents", "items": [{"input": {}}]}).status_code == 400
    )


def test_jobs_of_the_canonical_api_take_uploads_and_check_their_options(server: LiveServer) -> None:
    job = {"kind": "documents", "items": [{"name": "a.txt", "input": {"kind": "upload", "index": 0}}]}

    def submit(options: dict[str, Any]) -> Any:
        form = {"job": json.dumps({**job, "options": options})}
        return server.client.post("/jobs", data=form, files=[("files", ("a.txt", FORM.encode()))])

    created = submit({"redact": True}).raise_for_status().json()
    doc = finished(server, created["job_id"])["documents"][0]["doc_id"]
    view = server.client.get(f"/documents/{doc}").json()
    assert view["classification"]["final_category"] == "Highly Sensitive"
    assert "redacted.txt" in {a["name"] for a in view["artifacts"]}
    for options in ({"redact": "yes"}, {"colour": 1}, {"only": "classify"}):
        assert submit(options).status_code == 400, options


def test_what_a_file_says_of_itself_is_cited_as_metadata(server: LiveServer) -> None:
    label = "MSIP_Label_0a1b2c3d-1111-2222-3333-444455556666_Name"
    mail = f"From: ana@mill.test\nSubject: Hello\nmsip_labels: {label}=Highly Confidential;\n\nPlain words"
    view = classified(server, "a.eml", mail.encode())
    assert view["classification"]["final_category"] == "Highly Sensitive"
    citation = view["classification"]["citations"][0]
    assert (citation["page"], citation["part"]) == (None, "metadata")
    listed = server.client.get(f"/documents/{view['doc_id']}/findings").json()
    assert [f["type"] for f in listed["metadata"]["findings"]] == ["MARK_SECRET"]
    assert server.client.get(listed["metadata"]["picture"]).headers["content-type"] == "image/png"


def test_the_command_line_classifies_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FORM)
    samples.pdf(tmp_path / "b.pdf", "A public note about the mill")
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4 broken")
    command = [
        sys.executable,
        "-m",
        "millrace.cli",
        "documents",
        "classify",
        str(tmp_path),
        "--json",
        "--out",
        str(tmp_path / "out"),
        "--redact",
        "--workers",
        "1",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert run.returncode == 1
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row.get("final_category") for row in rows] == ["Highly Sensitive", "Public", None]
    assert rows[2]["error"].startswith("broken_file")
    assert "531" not in (tmp_path / "out" / "0001-a.txt" / "redacted.txt").read_text()
    assert (tmp_path / "out" / "0002-b.pdf" / "highlighted.pdf").read_bytes().startswith(b"%PDF")


def test_pages_are_shown_with_their_findings_and_boxes(server: LiveServer, tmp_path: Path) -> None:
    pdf = samples.pdf(tmp_path / "a.pdf", FORM, "nothing here").read_bytes()
    doc = classified(server, "a.pdf", pdf)["doc_id"]
    listed = server.client.get(f"/documents/{doc}/findings").raise_for_status().json()
    assert (listed["page_count"], listed["first"], len(listed["pages"])) == (2, 1, 2)
    first, second = listed["pages"]
    assert second["findings"] == []
    ssn = next(f for f in first["findings"] if f["type"] == "US_SSN")
    ((left, top, right, bottom),) = ssn["boxes"]
    picture = server.client.get(first["picture"], params={"width": 1190})
    assert picture.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(picture.content)).convert("L")
    scale = image.width / first["width"]
    assert scale == pytest.approx(image.height / first["height"], rel=0.01)
    ink = image.crop((round(left * scale), round(top * scale), round(right * scale), round(bottom * scale)))
    assert sum(ink.histogram()[:100]) > 50
    window = server.client.get(f"/documents/{doc}/findings", params={"first": 2, "limit": 1}).json()
    assert [page["page"] for page in window["pages"]] == [2]
    assert server.client.get(f"/documents/{doc}/pages/3.png").status_code == 404
    assert server.client.get(f"/documents/{doc}/pages/1.png", params={"width": 10**6}).status_code == 400


def test_text_and_fetched_files_are_shown_too(server: LiveServer) -> None:
    doc = classified(server, "a.txt", FORM.encode())["doc_id"]
    page = server.client.get(f"/documents/{doc}/findings").json()["pages"][0]
    assert all(finding["boxes"] for finding in page["findings"])
    image = Image.open(io.BytesIO(server.client.get(page["picture"]).content))
    assert image.width / image.height == pytest.approx(page["width"] / page["height"], rel=0.01)


def test_a_document_that_could_not_be_read_has_no_pages_to_show(server: LiveServer) -> None:
    job = upload(server, ("a.pdf", b"%PDF-1.4 broken")).json()["job_id"]
    doc = finished(server, job)["documents"][0]["doc_id"]
    for path in ("findings", "pages/1.png"):
        reply = server.client.get(f"/documents/{doc}/{path}")
        assert reply.status_code == 404
        assert "broken_file" in reply.json()["detail"]
