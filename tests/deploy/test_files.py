"""The files of `deploy/` name only things that exist, and agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import typer

from perago.cli.commands import start
from perago.settings import load_settings
from perago.settings.variables import VARIABLES, parse_seconds
from perago.worker.exporters import Page, StatusServer
from perago.worker.health import LOOP_LIMIT

from .files import ALL, COMPOSE, CONTAINER, DOCKERFILE, MANIFESTS, POD, ROOT, UNIT, commands, tool

GRACE = 30.0
EXTRAS = re.findall(r"EXTRAS=(\S+)", DOCKERFILE)
WORKER: dict[str, Any] = COMPOSE["services"]["worker"]


@pytest.mark.parametrize("place", commands())
def test_the_command_is_one_that_perago_takes(place: str) -> None:
    name, *arguments = commands()[place]
    assert name == "start"
    holder = typer.Typer()
    holder.command()(start.command)
    context = typer.main.get_command(holder).make_context("start", list(arguments))
    assert context.params["wait"] is True


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_variable_is_one_that_perago_reads(path: Any) -> None:
    names = set(re.findall(r"\b(?:PERAGO|CONDUCTOR|LAKECTL)_[A-Z_]+", path.read_text()))
    assert names <= {*VARIABLES, "PERAGO_WHEEL"}, "PERAGO_WHEEL is a variable of the workflow itself"


@pytest.mark.parametrize("place", ["compose", "kubernetes", "systemd"])
def test_the_values_are_valid(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    secrets = {f"LAKECTL_CREDENTIALS_{name}": "x" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    environment = {
        "compose": WORKER["environment"],
        "kubernetes": {**MANIFESTS["ConfigMap"]["data"], **secrets},
        "systemd": dict(line.split("=", 1) for line in re.findall(r"^Environment=(.*)$", unit_text(), re.MULTILINE)),
    }[place]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings().shutdown_grace == GRACE


def unit_text() -> str:
    return (ROOT / "perago@.service").read_text()


def test_a_worker_may_take_longer_to_stop_than_a_cancelled_attempt() -> None:
    assert POD["terminationGracePeriodSeconds"] > GRACE
    assert parse_seconds(WORKER["stop_grace_period"]) > GRACE
    assert parse_seconds(UNIT["Service"]["TimeoutStopSec"].removesuffix("in")) > GRACE


def test_probes_and_scrapes_ask_the_port_that_the_worker_listens_on() -> None:
    listening = {
        place: arguments[arguments.index("--http") + 1]
        for place, arguments in commands().items()
        if "--http" in arguments
    }
    (port,) = CONTAINER["ports"]
    assert listening["kubernetes"] == f"0.0.0.0:{port['containerPort']}"
    assert listening["systemd"].startswith("127.0.0.1:")
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    (endpoint,) = MANIFESTS["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert WORKER["ports"] == [f"127.0.0.1:{port['containerPort']}:{port['containerPort']}"]


def test_the_manifests_mean_one_deployment() -> None:
    deployment = MANIFESTS["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selected = deployment["spec"]["selector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert MANIFESTS["PodMonitor"]["spec"]["selector"]["matchLabels"] == selected
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selected
    assert not selected.items() <= MANIFESTS["Job"]["spec"]["template"]["metadata"]["labels"].items()
    assert MANIFESTS["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    named = {reference["name"] for source in CONTAINER["envFrom"] for reference in source.values()}
    assert named == {MANIFESTS["ConfigMap"]["metadata"]["name"], "perago-servers"}
    resources = MANIFESTS["Kustomization"]["resources"]
    assert all((ROOT / "kubernetes" / name).is_file() for name in resources)


def test_taskdefs_are_registered_before_workers_start() -> None:
    """Registration has the modules and the configuration of the workers."""
    services = COMPOSE["services"]
    assert services["worker"]["depends_on"]["register"] == {"condition": "service_completed_successfully"}
    assert services["register"]["command"] == ["register", services["worker"]["command"][1]]
    assert services["register"]["image"] == services["worker"]["image"]
    (job,) = MANIFESTS["Job"]["spec"]["template"]["spec"]["containers"]
    assert (job["args"], job["image"]) == (["register", CONTAINER["args"][1]], CONTAINER["image"])
    assert job["envFrom"] == CONTAINER["envFrom"]
    early = {"app.kubernetes.io/component": "register"}
    for kind, manifest in MANIFESTS.items():
        is_early = early.items() <= manifest.get("metadata", {}).get("labels", {}).items()
        assert is_early == (kind in ("Job", "ConfigMap")), kind
    assert all(services[name]["read_only"] for name in ("register", "worker"))
    assert job["securityContext"] == CONTAINER["securityContext"]


def test_the_scaler_has_one_trigger_for_each_task() -> None:
    triggers = [trigger["metadata"] for trigger in MANIFESTS["ScaledObject"]["spec"]["triggers"]]
    tasks = [trigger["url"].rpartition("taskType=")[2] for trigger in triggers]
    assert len(set(tasks)) == len(tasks) > 1
    assert [trigger["valueLocation"] for trigger in triggers] == [task.replace(".", "\\.") for task in tasks]


def test_systemd_watches_a_worker_that_reports() -> None:
    """The start waits for the report. The watchdog is slower than `/livez`, which names the problem."""
    service = UNIT["Service"]
    assert (service["Type"], service["NotifyAccess"], service["TimeoutStartSec"]) == ("notify", "main", "infinity")
    assert int(service["WatchdogSec"]) > LOOP_LIMIT


@pytest.mark.parametrize("name", ["build", *sorted({name for extras in EXTRAS for name in extras.split(",")})])
def test_the_packages_of_the_image_have_hashes_and_no_addresses(name: str) -> None:
    """The file has all requirements of perago and the extra. `.ci/wheels.py` writes it."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    (first, *lines) = re.sub(r" \\\n +", " ", text).splitlines()
    assert first.startswith("# Written by .ci/wheels.py")
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line)] == []
    configuration = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    project = configuration["project"]
    asked = configuration["build-system"]["requires"]
    if name != "build":
        asked = [*project["dependencies"], *project["optional-dependencies"][name]]
    names = {(re.match(r"[\w-]+", requirement) or [""])[0] for requirement in asked}
    assert names <= {line.partition("==")[0] for line in lines}


def test_the_image_reports_the_health_of_its_worker() -> None:
    """The check reads the command of process 1, here of a program with the arguments of a worker."""
    assert re.search(r'HEALTHCHECK .*CMD \["python", "/opt/perago/healthcheck.py"\]', DOCKERFILE)
    statuses = [200, 503]
    server = StatusServer("127.0.0.1", 0, {"/livez": lambda _: Page(statuses.pop(0), "application/json", b"{}")})
    server.start()
    try:
        for options, code in ((["--http"], 0), (["--http"], 1), (["--wait"], 0)):
            place = f"0.0.0.0:{server.url.rpartition(':')[2]}"
            wait = [sys.executable, "-c", "import time; time.sleep(60)", "start", "my_tasks", *options, place]
            with subprocess.Popen(wait) as worker:
                check = [sys.executable, str(ROOT / "healthcheck.py"), str(worker.pid)]
                done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
                worker.kill()
            assert (done.returncode, "503" in done.stderr) == (code, bool(code)), done.stderr
    finally:
        server.close()


def test_roots_are_in_a_directory_of_the_user_of_the_image() -> None:
    """Everybody can write to a volume of Kubernetes, so the worker gets its own directory in it."""
    (user,) = set(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE))
    assert POD["securityContext"]["runAsUser"] == int(user)
    (roots,) = {path.rpartition("/")[0] for path in re.findall(r"_ROOT=(\S+)", DOCKERFILE)}
    (mount,) = (volume_mount for volume_mount in CONTAINER["volumeMounts"] if volume_mount["mountPath"] == roots)
    (made,) = POD["initContainers"]
    assert made["command"][:4] == ["mkdir", "-p", "-m", "0700"]
    assert made["command"][4] == f"{made['volumeMounts'][0]['mountPath']}/{mount['subPath']}"
    assert made["volumeMounts"][0]["name"] == mount["name"]
    assert f"worker:{roots}" in WORKER["volumes"]


def test_the_build_of_the_image_gets_all_that_a_wheel_is_made_of() -> None:
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    wheel = {"pyproject.toml", "README.md", "LICENSE", "src", "docs"}
    assert admitted == wheel | set(re.findall(r"^COPY (deploy/\S+)", DOCKERFILE, re.MULTILINE))


def test_every_image_is_named_by_its_full_version() -> None:
    (python,) = re.findall(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE)
    images = [f"python:{python}", *re.findall(r"^#   FROM (\S+)", DOCKERFILE, re.MULTILINE)]
    images += [service["image"] for service in COMPOSE["services"].values()]
    images += [f"{image['name']}:{image['newTag']}" for image in MANIFESTS["Kustomization"]["images"]]
    vague = [image for image in images if not re.search(r":\d+\.\d+(\.\d+)?\b|:RELEASE\.[\dTZ-]+$", image)]
    assert vague == []
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:${PYTHON}${DIGEST}"] * 2


def test_every_action_is_pinned_by_its_commit_and_names_its_version() -> None:
    actions = re.findall(r"uses: (.*)", (ROOT / "github-workflow.yaml").read_text(encoding="utf-8"))
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)] == []


def test_the_network_policy_keeps_workers_from_link_local_addresses() -> None:
    policy = MANIFESTS["NetworkPolicy"]["spec"]
    for kind in ("Deployment", "Job"):
        labels = MANIFESTS[kind]["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (entry,) = policy["ingress"]
    assert [port["port"] for port in entry["ports"]] == [port["name"] for port in CONTAINER["ports"]]
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    for address in ("169.254.169.254", "fe80::1", "fd00:ec2::254"):
        (block,) = (block for block in blocks if ip_address(address) in ip_network(block["cidr"]))
        assert any(ip_address(address) in ip_network(network) for network in block["except"])


def test_workers_of_kubernetes_talk_to_their_servers_by_https() -> None:
    settings = MANIFESTS["ConfigMap"]["data"]
    addresses = [value for name, value in settings.items() if name.endswith("_URL")]
    addresses += [trigger["metadata"]["url"] for trigger in MANIFESTS["ScaledObject"]["spec"]["triggers"]]
    assert len(addresses) == 4
    assert [address for address in addresses if not address.startswith("https://")] == []


def test_the_unit_limits_memory_and_processes_and_goes_on_without_a_slot() -> None:
    service = UNIT["Service"]
    assert (service["MemoryMax"], service["TasksMax"], service["OOMPolicy"]) == ("8G", "1024", "continue")


def test_only_loopback_is_published() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


# ---------------- Checks by other programs. `make deploy-files` installs the validators


def output_of(*command: str) -> str:
    """Return what a command prints.

    Raises:
        CalledProcessError: the command failed.
    """
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_dockerfile() -> None:
    output_of(tool("hadolint"), str(ROOT / "Dockerfile"))


def test_compose() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    parsed = compose_spec.PyCompose.from_yaml((ROOT / "compose.yaml").read_text())
    parsed.validate()
    assert set(parsed.service_names()) == set(COMPOSE["services"])


def test_manifests_of_kubernetes() -> None:
    """The validator has no schemas for the Prometheus operator and KEDA."""
    names = ("worker.yaml", "register.yaml", "network-policy.yaml", "disruption-budget.yaml")
    files = [str(ROOT / "kubernetes" / name) for name in names]
    output_of(tool("kubernetes-validate"), "--strict", *files)


def test_kustomization() -> None:
    made = output_of(tool("kubectl"), "kustomize", str(ROOT / "kubernetes"))
    kinds = {line.removeprefix("kind: ") for line in made.splitlines() if line.startswith("kind: ")}
    assert kinds == set(MANIFESTS) - {"Kustomization"}


def test_unit(tmp_path: Path) -> None:
    unit = tmp_path / "perago@.service"
    text = (ROOT / "perago@.service").read_text()
    unit.write_text(
        text.replace("/srv/perago/.venv/bin/perago", sys.executable)
    )  # systemd-analyze checks that the program exists
    output_of(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    copy = tmp_path / "perago@my_tasks.service"
    copy.write_text(text)
    exposed = output_of(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", str(copy))
    assert "OK" in exposed
