"""Apache Kafka: one KRaft node on the machine's JDK, from its Maven Central artifacts."""

from __future__ import annotations

import base64
import os
import re
import shutil
import uuid

from service_parts.base import (
    HOME,
    INSTALL_TIMEOUT_S,
    LOOPBACK,
    UnavailableError,
    Up,
    answers,
    ask,
    debian_install,
    listens,
    port_of,
    remember,
    remembered,
    run,
    say,
    start,
    stop,
    wait_until,
)

NAME = "kafka"
required_in_ci = True
KAFKA_VERSION = "4.1.1"
# The binding of the log interface to standard error; the version that goes with Kafka's slf4j-api 1.7.
SLF4J_VERSION = "1.7.36"
JAVA_MAJOR_MIN = 17  # Kafka 4 servers need it
START_TIMEOUT_S = 60.0
FORMAT_TIMEOUT_S = 60.0
HEAP = ["-Xms128m", "-Xmx512m"]  # one node with test traffic; the rest of a small machine is for the tests

_LIBS = HOME / "kafka" / f"libs-{KAFKA_VERSION}"
_DATA = HOME / "kafka" / "data"
_CONFIG = HOME / "kafka" / "server.properties"
_LOG = HOME / "logs" / "kafka.log"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example.tollhouse</groupId> <artifactId>services</artifactId> <version>1</version> <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId> <artifactId>kafka_2.13</artifactId> <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId> <artifactId>slf4j-simple</artifactId> <version>{SLF4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def up() -> Up:
    """Kafka on loopback with topics made on demand switched off, so that a forgotten topic shows in the tests."""
    if answers(NAME):
        say(NAME, "already up")
        return _answer()
    java = _java()
    _fetch()
    client, controller = port_of(NAME), port_of(NAME, "controller_port")
    _CONFIG.write_text(_properties(client, controller))
    if not (_DATA / "meta.properties").exists():
        say(NAME, "format the storage")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = _command(java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(_CONFIG))
        run(command, "formatting Kafka's storage", timeout_s=FORMAT_TIMEOUT_S, log=_LOG)
    say(NAME, "start")
    start(NAME, _command(java, "kafka.Kafka", str(_CONFIG)), _LOG)
    wait_until(NAME, lambda: listens(client), timeout_s=START_TIMEOUT_S, log=_LOG)
    remember(NAME, java=ask([java, "--version"]).splitlines()[0])
    return _answer()


def down() -> bool:
    """End the node that we started; its data stays for the next start."""
    return stop(NAME)


def _answer() -> Up:
    facts = remembered(NAME)
    version = f"Apache Kafka {KAFKA_VERSION} (KRaft, {facts.get('java', 'java')})"
    return Up(version, {"TOLLHOUSE_TEST_BROKER": f"{LOOPBACK}:{facts['port']}"})


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        debian_install(NAME, ["default-jre-headless"])
        java = shutil.which("java")
    found = re.search(r'version "(\d+)', ask([str(java), "-version"]))
    if java is None or found is None or int(found[1]) < JAVA_MAJOR_MIN:
        raise UnavailableError(f"Kafka {KAFKA_VERSION} needs a Java {JAVA_MAJOR_MIN} or later: install one")
    return java


def _fetch() -> None:
    if (_LIBS / f"kafka_2.13-{KAFKA_VERSION}.jar").exists():
        return
    if shutil.which("mvn") is None:
        debian_install(NAME, ["maven"])
    _LIBS.parent.mkdir(parents=True, exist_ok=True)
    pom = _LIBS.parent / "pom.xml"
    pom.write_text(_POM)
    fresh = _LIBS.with_suffix(".part")  # a half-fetched directory must not pass for a whole one
    shutil.rmtree(fresh, ignore_errors=True)
    say(NAME, f"fetch Apache Kafka {KAFKA_VERSION} from Maven Central")
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    run([*command, "-DincludeScope=runtime"], "mvn", timeout_s=INSTALL_TIMEOUT_S, log=HOME / "logs" / "mvn.log")
    fresh.replace(_LIBS)


def _command(java: str, main: str, *arguments: str) -> list[str]:
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [java, *HEAP, "-XX:+UseSerialGC", logging, "-cp", f"{_LIBS}/*", main, *arguments]


def _properties(client: int, controller: int) -> str:
    return f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{LOOPBACK}:{client},CONTROLLER://{LOOPBACK}:{controller}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{client}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={_DATA}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
