"""What is in deploy/ fits this Millrace, and what would read it: units, compose file, image, manifests.

There is no container engine here, so nothing is started: names, references and schemas are checked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from millrace import __version__
from millrace.cli import app as command_line
from millrace.plugins import discover
from millrace.settings import Settings
from millrace.settings_sources import SHORT_NAMES, load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = [
    (path.name, manifest)
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
PODS = [
    pytest.param(manifest["spec"]["template"]["spec"], id=manifest["metadata"]["name"])
    for _, manifest in MANIFESTS
    if manifest["kind"] == "Deployment"
]
UNITS = sorted(DEPLOY.glob("*.service"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
TAGGED = re.compile(r"[\w./-]+:[\w.-]+")


def settings_from(environ: Mapping[str, str], tmp_path: Path) -> Settings:
    """Read settings from an environment, as the server would. An unknown name is an error."""
    empty = tmp_path / "millrace.yaml"
    empty.write_text("")
    sections = {kind: plugin.settings for kind, plugin in discover().items()}
    return load_settings(empty, environ=environ, sections=sections)


def checked_command(arguments: list[str]) -> None:
    """Parse a command line of ours; what it does not know is an error."""
    commands: Any = typer.main.get_group(command_line).commands
    name, *rest = arguments
    command = commands.get(name)
    assert command is not None, f"there is no millrace {name}"
    known = {option for parameter in command.params for option in parameter.opts}
    used = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert used <= known, f"millrace {name} has no {used - known}"


# -- systemd --------------------------------------------------------------------------------------


def unit(path: Path) -> dict[str, list[str]]:
    """Return a unit's keys with all their values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    here = tmp_path / path.name
    here.write_text(path.read_text(encoding="utf-8").replace("/opt/millrace/bin/millrace", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    # The scale goes from 0 (safe) to 10; systemd calls anything below 2 "OK".
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(here)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exposed.returncode == 0, exposed.stdout[-300:]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_unit_starts_what_is_there(path: Path, tmp_path: Path) -> None:
    found = unit(path)
    (start,) = found["ExecStart"]
    program, *arguments = shlex.split(start)
    assert program == "/opt/millrace/bin/millrace"
    checked_command(arguments)
    environ = dict(pair.split("=", 1) for line in found["Environment"] for pair in shlex.split(line))
    assert settings_from(environ, tmp_path).data_dir == Path("/var/lib/millrace")
    # A wrong setting ends with 2 and is not tried again; a dead worker does not end the service.
    assert found["RestartPreventExitStatus"] == ["2"]
    assert found["OOMPolicy"] == ["continue"]


# -- the image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    given = instructions()
    last = given[max(index for index, (name, _) in enumerate(given) if name == "FROM") :]
    names = [name for name, _ in last]
    assert sum(name == "FROM" for name, _ in given) == 2
    assert dict(last)["USER"] == "10001:10001"
    assert dict(last)["STOPSIGNAL"] == "SIGTERM"
    assert "HEALTHCHECK" in names
    assert "/livez" in dict(last)["HEALTHCHECK"]
    # Nothing that builds stays in the image.
    assert not any("pip install" in words or "build-essential" in words for _, words in last)
    assert json.loads(dict(last)["ENTRYPOINT"])[-1] == "millrace"
    checked_command(json.loads(dict(last)["CMD"]))


def test_the_images_bases_are_tagged() -> None:
    python = dict(word.split("=", 1) for name, word in instructions() if name == "ARG" and "=" in word)[
        "PYTHON"
    ]
    bases = [
        words.split()[0].replace("${PYTHON}", python) for name, words in instructions() if name == "FROM"
    ]
    assert all(TAGGED.fullmatch(base) and not base.endswith(":latest") for base in bases), bases


def test_the_image_brings_no_cuda_unless_it_is_asked_to() -> None:
    arguments = dict(word.split("=", 1) for name, word in instructions() if name == "ARG" and "=" in word)
    assert arguments["TORCH"] == "cpu"
    assert '--torch-backend "${TORCH}"' in DOCKERFILE
    assert set(arguments["EXTRAS"].split(",")) <= EXTRAS.keys()


def test_the_images_settings_are_settings(tmp_path: Path) -> None:
    words = [word for name, words in instructions() if name == "ENV" for word in shlex.split(words)]
    environ = {
        key: value for key, value in (word.split("=", 1) for word in words) if key.startswith("MILLRACE_")
    }
    settings = settings_from({**environ, "BEARER_TOKEN": "x"}, tmp_path)
    assert (settings.host, settings.port, settings.data_dir) == ("0.0.0.0", 8000, Path("/data"))


def test_what_the_build_copies_is_let_through_and_there() -> None:
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    first = instructions()[: [name for name, _ in instructions()].index("COPY") + 2]
    for source in [word for name, words in first if name == "COPY" for word in words.split()[:-1]]:
        assert (ROOT / source).exists(), source
        assert f"\n!{source}\n" in let_through, source


# -- compose --------------------------------------------------------------------------------------

VARIABLE = re.compile(r"\$\{(\w+)(?::?[-?][^}]*)?\}")


def example_environment() -> dict[str, str]:
    """Return the variables of the example of an env file."""
    lines = (DEPLOY / "millrace.env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_service_is_tagged_watched_limited_and_stopped_in_time() -> None:
    for name, service in COMPOSE["services"].items():
        assert TAGGED.fullmatch(service["image"]), name
        assert not service["image"].endswith(":latest"), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        if service["restart"] != "no":
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert "stop_grace_period" in service, name


def test_a_worker_is_healthy_while_it_says_so() -> None:
    kind, program, *arguments = COMPOSE["services"]["worker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "millrace")
    assert arguments == ["worker", "--check"]
    checked_command(arguments)


def test_services_wait_for_others_that_are_there() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            watched = "healthcheck" in services[other]
            assert how["condition"] == ("service_healthy" if watched else "service_completed_successfully"), (
                name
            )


def test_what_is_kept_is_in_a_named_volume() -> None:
    used = {
        volume.split(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(("$", ".", "/"))
    }
    assert used == COMPOSE["volumes"].keys()


def test_the_services_of_ours_are_hardened_and_their_settings_are_settings(tmp_path: Path) -> None:
    values = example_environment()
    (tmp_path / "media").mkdir()
    for name in ("server", "worker"):
        service = COMPOSE["services"][name]
        assert service["image"] == f"millrace:{__version__}"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        checked_command(service["command"])
        environ = {
            key: VARIABLE.sub(lambda found: values[found[1]], value).replace(
                "/media", str(tmp_path / "media")
            )
            for key, value in service["environment"].items()
        }
        settings = settings_from({**environ, "MILLRACE_HOST": "0.0.0.0"}, tmp_path)
        assert settings.database_url.host == "postgres"
        assert settings.blobs.is_s3
        assert settings.executor == "celery"
        assert set(values["EXTRAS"].split(",")) >= {"cluster"}


def test_every_variable_is_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed <= example_environment().keys()
    assert example_environment().keys() <= set(VARIABLE.findall(text))


def test_compose_takes_it(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    there = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if there.returncode != 0:
        pytest.skip("docker has no compose plugin")
    environment, file = str(DEPLOY / "millrace.env.example"), str(DEPLOY / "compose.yaml")
    done = subprocess.run(
        ["docker", "compose", "--env-file", environment, "-f", file, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- Kubernetes -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # its loader's own affair
@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(manifest, id=f"{name}-{manifest['kind']}")
        for name, manifest in MANIFESTS
        if manifest["kind"] not in ("Kustomization", "ScaledObject")
    ],
)
def test_kubernetes_schemas_take_the_manifest(manifest: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(manifest, validate.latest_version(), strict=True)


def test_the_kustomization_names_every_file_but_what_is_applied_apart() -> None:
    ((_, kustomization),) = [(n, m) for n, m in MANIFESTS if m["kind"] == "Kustomization"]
    there = {name for name, _ in MANIFESTS} - {"kustomization.yaml"}
    assert there - set(kustomization["resources"]) == {"secret.example.yaml", "autoscaling.yaml"}
    assert [image["newTag"] for image in kustomization["images"]] == [__version__]


@pytest.mark.parametrize("pod", PODS)
def test_pods_are_locked_down(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] == f"millrace:{__version__}"
        assert "memory" in container["resources"]["limits"]
        assert "livenessProbe" in container
        checked_command(container["args"])
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_the_servers_probes_ask_what_is_answered_without_a_token() -> None:
    from millrace.server.auth import HEALTH

    (server,) = [
        m for _, m in MANIFESTS if m["kind"] == "Deployment" and m["metadata"]["name"].endswith("server")
    ]
    (container,) = server["spec"]["template"]["spec"]["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(paths.values()) <= HEALTH


def test_a_worker_that_hangs_is_started_anew_and_one_without_a_database_is_not(tmp_path: Path) -> None:
    (worker,) = [
        m for _, m in MANIFESTS if m["kind"] == "Deployment" and m["metadata"]["name"].endswith("worker")
    ]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["readinessProbe"]["exec"]["command"]
    assert (program, "--check" in arguments) == ("millrace", True)
    checked_command(arguments)
    # Of the command it is given, the container's shell knows no more than the exit code.
    command = container["livenessProbe"]["exec"]["command"]
    assert shlex.split(command[-1].partition(" || ")[0]) == [program, *arguments]
    stand_in = tmp_path / "millrace"
    for code, alive in ((0, True), (1, False), (5, True)):
        stand_in.write_text(f"#!/bin/sh\nexit {code}\n")
        stand_in.chmod(0o755)
        ran = subprocess.run(command, env={"PATH": f"{tmp_path}:{os.defpath}"}, check=False)
        assert (ran.returncode == 0) is alive, code


def test_selectors_find_the_pods_they_mean() -> None:
    pods = [m["spec"]["template"]["metadata"]["labels"] for _, m in MANIFESTS if m["kind"] == "Deployment"]
    for name, manifest in MANIFESTS:
        for labels in selectors(manifest):
            assert any(labels.items() <= pod.items() for pod in pods), f"{name}: {labels}"


def selectors(manifest: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the labels by which a manifest chooses pods."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        yield spec["selector"]
    elif manifest["kind"] in ("Deployment", "PodDisruptionBudget"):
        yield spec["selector"]["matchLabels"]
    elif manifest["kind"] == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]


def test_every_deployment_has_a_disruption_budget() -> None:
    kinds = {
        kind: {m["metadata"]["name"] for _, m in MANIFESTS if m["kind"] == kind}
        for kind in ("Deployment", "PodDisruptionBudget")
    }
    assert kinds["Deployment"] == kinds["PodDisruptionBudget"]


def test_the_settings_of_the_cluster_are_settings(tmp_path: Path) -> None:
    (config,) = [m for _, m in MANIFESTS if m["kind"] == "ConfigMap"]
    (secret,) = [m for _, m in MANIFESTS if m["kind"] == "Secret"]
    file = tmp_path / "millrace.yaml"
    file.write_text(config["data"]["millrace.yaml"], encoding="utf-8")
    sections = {kind: plugin.settings for kind, plugin in discover().items()}
    settings = load_settings(file, environ=secret["stringData"], sections=sections)
    assert settings.executor == "celery"
    assert settings.broker is not None
    assert settings.blobs.is_s3
    assert secret["stringData"].keys() >= {"BEARER_TOKEN"}
    assert "BEARER_TOKEN" in SHORT_NAMES


def test_the_autoscaler_of_the_guide_is_one() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    guide = (ROOT / "docs" / "guides" / "kubernetes.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", guide, re.S)]
    (scaler,) = [block for block in blocks if block.get("kind") == "HorizontalPodAutoscaler"]
    validate.validate(scaler, validate.latest_version(), strict=True)


def test_workers_are_scaled_by_a_metric_that_there_is() -> None:
    (scaler,) = [m for _, m in MANIFESTS if m["kind"] == "ScaledObject"]
    deployments = {m["metadata"]["name"] for _, m in MANIFESTS if m["kind"] == "Deployment"}
    assert scaler["spec"]["scaleTargetRef"]["name"] in deployments
    metrics = (ROOT / "src" / "millrace" / "server" / "metrics.py").read_text(encoding="utf-8")
    for trigger in scaler["spec"]["triggers"]:
        assert trigger["type"] == "prometheus"
        (metric,) = re.findall(r"millrace_\w+", trigger["metadata"]["query"])
        assert f'"{metric}"' in metrics
